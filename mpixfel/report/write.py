"""Writing the report of a run: `report.html`, `report.json`, `report.pdf` in the run directory."""
import json
import os
from pathlib import Path

from mpixfel.io.results import Results
from mpixfel.report.advice import advise
from mpixfel.report.digest import digest, plain, stats_of
from mpixfel.report.figures import figures
from mpixfel.report.page import page
from mpixfel.report.pdf import save_pdf
from mpixfel.report.samples import powder_pictures, sample_pictures


def write_report(folder, output=None, picture_seconds=float("inf"), pdf=True):
    """Write the report of a run, finished or not.

    Parameters
    ----------
    folder : path
        The run directory.
    output : path, optional
        Where the files go; the run directory otherwise.
    picture_seconds : float
        Pictures of events are made for so long; the first one always.

    Returns
    -------
    Path
        Of `report.html`.
    """
    results = Results(folder)
    output = Path(output or results.folder)
    output.mkdir(parents=True, exist_ok=True)
    stats = stats_of(results)
    numbers = {**digest(results), "advice": [{**f._asdict(), "numbers": plain(f.numbers)} for f in advise(results)]}
    samples = sample_pictures(results, numbers["summary"]["reasons"], picture_seconds)
    text = page(numbers, figures(numbers), samples, powder_pictures(results, stats))
    replace(output / "report.json", json.dumps(numbers, indent=1).encode())
    replace(output / "report.html", text.encode())
    if pdf:
        temporary = output / "report.pdf.part"
        save_pdf(temporary, numbers, results, stats)
        os.replace(temporary, output / "report.pdf")
    return output / "report.html"


def replace(path, content):
    """Write a file, complete or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    os.replace(temporary, path)
