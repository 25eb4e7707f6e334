"""How long calibration and hit finding take, in milliseconds of one core for a megapixel; beside them CrystFEL's
peakfinder8 and the original Spotfinder, where indexamajig and libtbx.python are found on PATH.

`with glance` is calibration with the default finder's pass over all pixels in it (`kernels.highs`); `robust` is what remains
to that finder then."""
import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from mpixfel.cli.stopwatch import least_seconds
from mpixfel.errors import MpixfelError
from mpixfel.io.bench_frames import write_frames
from mpixfel.io.geometry import read_geometry
from mpixfel.io.sources import open_source
from mpixfel.model.event import Event
from mpixfel.model.experiment import Context
from mpixfel.stages.boxes import Boxes
from mpixfel.stages.calibration import Calibration
from mpixfel.stages.distl import Distl
from mpixfel.stages.peakfinder8 import Peakfinder8
from mpixfel.stages.robust import RobustFinder

MODULE = (512, 1024)
SIZES = {"2": 4, "4": 8, "16": 32}     # megapixels: modules
FINDERS = {"robust": RobustFinder(), "peakfinder8": Peakfinder8(), "distl": Distl()}
ORIGINAL = """
import sys, time, numpy as np
from scitbx.array_family import flex
from spotfinder.core_toolbox import w_Distl
import spotfinder.array_family.flex
image = np.load(sys.argv[1]).astype('int32')
raw = flex.int(image)    # the finder does not keep the image alive
best = 1e9
for _ in range(3):
    t = time.process_time()
    d = w_Distl('', False)
    d.setspotimg(pixel_size=0.075, distance=60.0, wavelength=1.3, xbeam=image.shape[0] * 0.0375,
                 ybeam=image.shape[1] * 0.0375, rawdata=raw, peripheral_margin=1, saturation=65535)
    d.set_tiling('')
    d.set_minimum_spot_area(3)
    d.parameter_guarantees(); d.get_underload(); d.pxlclassify(); d.search_icerings(); d.search_maximas()
    d.search_spots(); d.search_overloadpatches(); d.finish_analysis()
    best = min(best, time.process_time() - t)
print(best)
"""


def add_arguments(parser):
    """What is measured."""
    parser.add_argument("--megapixels", metavar="N,N,...", default="2,4,16", help="sizes: " + ", ".join(SIZES))
    parser.add_argument("--spots", metavar="N,N,...", default="0,150", help="spots on a frame (default: 0,150)")
    parser.add_argument("--dtypes", metavar="TYPE,...", default="uint16,float32", help="types of the raw words")
    parser.add_argument("--repeat", metavar="N", type=int, default=15, help="times each is run; the least counts")
    parser.add_argument("--no-others", action="store_true", help="do not run other programs")


def run(args):
    """Measure and print one line for each frame."""
    sizes = args.megapixels.split(",")
    if set(sizes) - set(SIZES):
        raise MpixfelError(f"no frames of {args.megapixels} megapixels", "--megapixels", "one of " + ", ".join(SIZES))
    columns = ("read", "calibration", "with glance", *FINDERS, "blank in all")
    others = {} if args.no_others else {name: f for name, f in OTHERS.items() if f.found()}
    print("ms of one core for a megapixel; the least of", args.repeat)
    print(f"{'Mpx':>4} {'words':>8} {'spots':>6}" + "".join(f"{c:>13}" for c in (*columns, *others)) + "   peaks")
    for size in sizes:
        for dtype in args.dtypes.split(","):
            for spots in map(int, args.spots.split(",")):
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder)
                    write_frames(path, SIZES[size], MODULE, np.dtype(dtype), spots)
                    figures, peaks = measure(path, args.repeat)
                    figures |= {name: other.measure(path) for name, other in others.items()}
                cells = "".join(f"{'-' if figures[c] is None else format(figures[c], '.2f'):>13}"
                                for c in (*columns, *others))
                print(f"{size:>4} {dtype:>8} {spots:>6}{cells}   " + " ".join(map(str, peaks)), flush=True)
    return 0


def measure(folder, repeat):
    """({what: ms per megapixel}, peaks found by each finder) for the frames of a folder."""
    geometry = read_geometry(folder / "bench.geom")
    with open_source((str(folder / "bench.h5"),), geometry) as source:
        context = Context(geometry.detector, geometry.beam, mask=source.static_mask())
        event = source.event(0)
        megapixels = sum(b.size for b in event.raw) / 1e6
        seconds = {"read": least_seconds(lambda: source.event(0), repeat)}
        event = Event(event.id, tuple(b.copy() for b in event.raw), event.photon_energy_ev, event.clen_m)
    shot, calibration = context.shot(event), Calibration()
    for name, boxes in (("calibration", None), ("with glance", Boxes(context.detector, context.mask))):
        prepared = calibration.prepare(context, boxes)
        seconds[name] = least_seconds(lambda: calibration(event, shot, prepared), repeat)
    image, peaks = calibration(event, shot, prepared), []
    for name, finder in FINDERS.items():
        ready = finder.prepare(context)
        peaks.append(len(finder(image, shot, ready)))
        seconds[name] = least_seconds(lambda: finder(image, shot, ready), repeat)
    seconds["blank in all"] = seconds["read"] + seconds["with glance"] + seconds["robust"]
    return {name: 1e3 * s / megapixels for name, s in seconds.items()}, peaks


class CrystFel:
    """indexamajig's peakfinder8: processor time of eleven frames less that of one."""

    @staticmethod
    def found():
        return shutil.which("indexamajig") is not None

    @staticmethod
    def measure(folder):
        command = ["indexamajig", "-g", "bench.geom", "-o", "bench.stream", "-j", "1", "--indexing=none",
                   "--peaks=peakfinder8", "--threshold=4", "--min-snr=5", "--min-pix-count=2"]
        seconds = []
        for n in (1, 11):
            (folder / "bench.lst").write_text("\n".join(f"bench.h5 //{k}" for k in range(n)) + "\n")
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run([*command, "-i", "bench.lst"], cwd=folder, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if done.returncode:
                return None
            seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return 1e3 * (seconds[1] - seconds[0]) / 10 / (np.load(folder / "frame.npy", mmap_mode="r").size / 1e6)


class Spotfinder:
    """The original DISTL, through the Python of a cctbx installation."""

    @staticmethod
    def found():
        return any(shutil.which(name) for name in ("libtbx.python", "cctbx.python"))

    @staticmethod
    def measure(folder):
        python = shutil.which("libtbx.python") or shutil.which("cctbx.python")
        done = subprocess.run([python, "-c", ORIGINAL, "frame.npy"], cwd=folder, capture_output=True, text=True,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})
        if done.returncode:
            return None
        return 1e3 * float(done.stdout.split()[-1]) / (np.load(folder / "frame.npy", mmap_mode="r").size / 1e6)


OTHERS = {"CrystFEL pf8": CrystFel, "Spotfinder": Spotfinder}
