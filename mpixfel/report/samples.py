"""Which events a report shows, and their pictures."""
import time

import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.model.event import Outcome
from mpixfel.report.camera import camera_of, position_of
from mpixfel.report.digest import typical_shot
from mpixfel.report.overlay import stack_svg, svg

REASONS_SHOWN = 5
MOST_BYTES = 3_000_000     # of pictures of events: a page is to stay below 10 MB


def chosen(results, reasons):
    """[(row, caption)] of events worth a look: indexed ones from best to weakest, then one for each reason.

    Parameters
    ----------
    reasons : rows of `digest.summary`
    """
    events, lattices = results.events, results.lattices
    indexed = np.flatnonzero(events["outcome"] == Outcome.indexed)
    explained = np.bincount(lattices["event"], lattices["n_indexed"], len(events))[indexed]
    order = indexed[np.argsort(-explained, kind="stable")]
    several = np.flatnonzero(events["n_lattices"] > 1)
    picks = []
    if len(order):
        picks = [(order[0], "most peaks indexed"), (order[len(order) // 2], "indexed, typical"),
                 (order[-1], "indexed, fewest peaks")]
    if len(several):
        picks.append((several[events["n_lattices"][several].argmax()], "most lattices"))
    picks += [(r["sample_row"], f"{r['outcome']}: {r['reason']}") for r in reasons[:REASONS_SHOWN]
              if r["outcome"] != Outcome.failed.name]
    seen = set()
    return [(int(row), words) for row, words in picks if not (int(row) in seen or seen.add(int(row)))]


def sample_pictures(results, reasons, seconds=float("inf"), max_edge=800):
    """[{"title", "text", "svg"}] of the chosen events; after `seconds` no further one is begun.

    An event whose image is not there any more has a line of text in place of its picture.
    """
    picks, began, out = chosen(results, reasons), time.perf_counter(), []
    if not picks:
        return []
    try:
        source = results.open_source()
    except MpixfelError as error:
        return [{"title": "no pictures", "text": str(error), "svg": ""}]
    with source:
        camera = camera_of(results, source)
        for row, words in picks:
            if out and (time.perf_counter() - began > seconds or sum(len(o["svg"]) for o in out) > MOST_BYTES):
                break
            out.append(sample(results, source, camera, row, words, max_edge))
    return out


def sample(results, source, camera, row, words, max_edge=800):
    """One event as {"title", "text", "svg"}."""
    event = results.events[row]
    title = f"event {row}, {results.told(row)[0]}"
    text = f"{words}; {event['n_peaks']} peaks, {event['n_lattices']} lattice{'' if event['n_lattices'] == 1 else 's'}"
    try:
        image, shot = camera(position_of(results, source, row))
    except (MpixfelError, OSError, ValueError) as error:
        return {"title": title, "text": f"{text}. No picture: {error}", "svg": ""}
    return {"title": title, "text": text,
            "svg": svg(image.photons, shot, results.peaks(row), results.reflections(row), title, max_edge)}


def powder_pictures(results, stats, max_edge=700):
    """[{"title", "text", "svg"}] of the powder patterns."""
    shot, patterns = typical_shot(results), stats.get("powder")
    if shot is None or not patterns or not patterns["n_images"]:
        return []
    n = int(patterns["n_images"])
    mean = np.asarray(patterns["sum"]) / n
    out = [{"title": f"mean of {n} images", "text": "photons a pixel", "svg": stack_svg(mean, shot, "mean", max_edge)},
           {"title": f"maximum of {n} images", "text": "photons",
            "svg": stack_svg(patterns["max"], shot, "maximum", max_edge)}]
    if "peaks" in patterns:
        spread = np.where(np.isfinite(patterns["max"]), patterns["peaks"], np.nan)
        out.append({"title": "peaks of all events", "text": "peaks by pixel",
                    "svg": stack_svg(spread, shot, "peaks", max_edge, (0.0, 99.9))})
    return out
