"""What a browser may ask of a run: its state, figures, lists of events, images, single pixels."""
import io
import threading
import time
from collections import OrderedDict

import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.io.results import Results
from mpixfel.model.event import Outcome
from mpixfel.report.assemble import assemble
from mpixfel.report.camera import camera_of, position_of
from mpixfel.report.digest import digest, plain
from mpixfel.report.figures import figures
from mpixfel.report.images import contrast
from mpixfel.report.overlay import Canvas, layers
from mpixfel.report.radial import inverse_d
from mpixfel.report.status import state_of

KEPT_IMAGES = 4
LISTED = 500          # most events of a list
LOOK_AGAIN_S = 2.0
KINDS = {"all": None, "indexed": (Outcome.indexed,), "unindexed": (Outcome.hit,),
         "hits": (Outcome.hit, Outcome.indexed),
         "misses": (Outcome.miss,), "failed": (Outcome.failed,)}


class Run:
    """One run directory, looked at again while it grows. All calls may come from several threads."""

    def __init__(self, folder, max_edge=1600):
        self.folder, self.max_edge = Results(folder).folder, max_edge
        self.lock = threading.RLock()
        self.key, self.looked = None, float("-inf")
        self.source = self.camera = None

    def results(self):
        """The `Results` as they are on disk now."""
        if time.monotonic() - self.looked > LOOK_AGAIN_S:
            self.looked = time.monotonic()
            final = self.folder / "run.h5"
            key = (final.stat().st_mtime_ns if final.is_file() else 0,
                   len(list((self.folder / "segments").glob("*.h5"))))
            if key != self.key:
                self.key, self.now, self.images, self.drawn = key, Results(self.folder), OrderedDict(), None
        return self.now

    def status(self):
        """Of `status.state_of`."""
        with self.lock:
            return state_of(self.folder)

    def figures(self):
        """Of `figures.figures`, made anew when the run has grown."""
        with self.lock:
            results = self.results()
            if self.drawn is None:
                self.drawn = figures(digest(results))
            return self.drawn

    def events(self, kind="all", first=0):
        """{"total", "rows": [[row, outcome, peaks, lattices, peaks indexed]]} of a kind of events, from the `first`
        on."""
        if kind not in KINDS:
            raise MpixfelError(f"there is no kind of events {kind!r}", "", "one of: " + ", ".join(KINDS))
        with self.lock:
            results = self.results()
            events, lattices = results.events, results.lattices
            rows = np.arange(len(events)) if KINDS[kind] is None else np.flatnonzero(np.isin(events["outcome"],
                                                                                             KINDS[kind]))
            explained = np.bincount(lattices["event"], lattices["n_indexed"], len(events)).astype(int)
            some = rows[first:first + LISTED]
            return {"total": len(rows), "rows": [[int(r), Outcome(events["outcome"][r]).name, int(events["n_peaks"][r]),
                                                  int(events["n_lattices"][r]), int(explained[r])] for r in some]}

    def event(self, row):
        """What there is to say of an event, with the marks on its image as SVG."""
        with self.lock:
            results, (_, shot, picture, limits) = self.results(), self._image(row)
            canvas, event = Canvas(picture), results.events[row]
            name, message = results.told(row)
            shown = contrast(picture.image)
            return {"row": row, "name": str(name), "message": str(message), "outcome": Outcome(event["outcome"]).name,
                    "columns": canvas.columns, "rows": canvas.rows, "low": limits[0], "high": limits[1],
                    "white": shown[0], "black": shown[1], "photon_energy_ev": plain(event["photon_energy"]),
                    "distance_m": plain(event["distance"]), "n_peaks": int(event["n_peaks"]),
                    "cells": [plain(c) for c in results.lattices_of(row)["cell"]],
                    "marks": layers(shot, canvas, results.peaks(row), results.reflections(row))}

    def image(self, row):
        """PNG of grey values: 0 where there is no pixel, else 1 + 254 sqrt((photons - low) / (high - low))."""
        from PIL import Image

        with self.lock:
            _, _, picture, (low, high) = self._image(row)
        scaled = np.sqrt(np.clip((picture.image - low) / (high - low), 0, 1))
        values = np.where(np.isfinite(scaled), 1 + np.rint(254 * np.nan_to_num(scaled)), 0).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(values).save(file, "PNG", compress_level=3)
        return file.getvalue()

    def pixel(self, row, column, line):
        """Value, panel, place and resolution of what stands at a place of the picture."""
        with self.lock:
            stack, shot, picture, _ = self._image(row)
            canvas, geometry = Canvas(picture), shot.geometry
            x, y = canvas.left - column * canvas.step, canvas.top - line * canvas.step
            for panel, (n_ss, n_fs) in enumerate(geometry.shape):
                axes = 1e3 * np.array([geometry.fs_axis[panel, :2], geometry.ss_axis[panel, :2]]).T
                fs, ss = np.linalg.solve(axes, np.array([x, y]) - 1e3 * geometry.origin[panel, :2])
                if 0 <= fs < n_fs and 0 <= ss < n_ss:
                    value = float(stack[panel, int(ss), int(fs)])
                    return {"panel": self.now.geometry.detector.names[panel], "fs": int(fs), "ss": int(ss),
                            "photons": value if np.isfinite(value) else None, "x_mm": round(x, 4), "y_mm": round(y, 4),
                            "d_angstrom": plain(1 / inverse_d(geometry, panel, ss, fs, shot.wavelength_angstrom))}
            return {"panel": None, "x_mm": round(x, 4), "y_mm": round(y, 4)}

    def _image(self, row):
        """(photons, shot, assembled picture, limits) of an event, the last few kept."""
        results = self.results()
        if not 0 <= row < len(results.events):
            raise MpixfelError(f"there is no event {row}", str(self.folder),
                               f"events are counted from 0 to {len(results.events) - 1}")
        if row not in self.images:
            if self.camera is None:
                self.source = results.open_source()
                self.camera = camera_of(results, self.source)
            image, shot = self.camera(position_of(results, self.source, row))
            picture = assemble(image.photons, shot.geometry, self.max_edge)
            good = picture.image[np.isfinite(picture.image)]
            low, high = map(float, np.percentile(good, (0.1, 99.99))) if good.size else (0.0, 1.0)
            self.images[row] = (image.photons.copy(), shot, picture, (min(low, 0.0), max(high, low + 10)))
            while len(self.images) > KEPT_IMAGES:
                self.images.popitem(last=False)
        return self.images[row]

    def close(self):
        """Close the source."""
        if self.source is not None:
            self.source.close()
