"""Pictures for web pages: the assembled image as grey values, and on it, as vectors, rings, peaks and predictions."""
import base64
import io
from html import escape

import numpy as np

from mpixfel.report.assemble import assemble, position_mm
from mpixfel.report.images import LATTICE_COLOURS, contrast, ring_radius_mm, ring_resolutions_angstrom

NOWHERE = 236        # grey of where there is no panel or a bad pixel: lighter than mid grey, darker than an empty pixel


def grey(picture, limits):
    """(rows, columns) uint8, black the strongest; places without a pixel are `NOWHERE`."""
    vmin, vmax = limits
    scaled = np.clip((picture.image - vmin) / max(vmax - vmin, 1e-9), 0, 1)
    return np.where(np.isfinite(scaled), 255 - 255 * np.nan_to_num(scaled), NOWHERE).astype(np.uint8)


def jpeg(values, quality=72):
    """Bytes of a JPEG file of grey values."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()


class Canvas:
    """From laboratory millimetres to pixels of an assembled picture."""

    def __init__(self, picture):
        self.left, right, bottom, self.top = picture.extent_mm
        self.rows, self.columns = picture.image.shape
        self.step = (self.left - right) / self.columns

    def __call__(self, xy_mm):
        """(n, 2) column and row of (n, 2) laboratory x and y."""
        xy_mm = np.asarray(xy_mm, float).reshape(-1, 2)
        return np.column_stack([(self.left - xy_mm[:, 0]) / self.step, (self.top - xy_mm[:, 1]) / self.step])


def circles(places, radius):
    """SVG path of circles."""
    arc = f"a{radius:g} {radius:g} 0 1 0 "
    return "".join(f"M{x - radius:.1f} {y:.1f}{arc}{2 * radius:g} 0{arc}{-2 * radius:g} 0" for x, y in places)


def squares(places, half):
    """SVG path of squares."""
    return "".join(f"M{x - half:.1f} {y - half:.1f}h{2 * half:g}v{2 * half:g}h{-2 * half:g}z" for x, y in places)


def layers(shot, canvas, peaks, reflections):
    """SVG groups of rings, predictions (a colour and a name for each lattice) and peaks, in pixels of the canvas."""
    mark = max(canvas.rows, canvas.columns) / 110
    on_detector = lambda table: canvas(position_mm(shot.geometry, table["panel"], table["fs"], table["ss"]))
    groups = [rings(shot, canvas)]
    for k in np.unique(reflections["lattice"]):
        mine = reflections[reflections["lattice"] == k]
        groups.append(f'<path class="predictions" stroke="{LATTICE_COLOURS[int(k) % len(LATTICE_COLOURS)]}" '
                      f'd="{circles(on_detector(mine), round(0.7 * mark, 2))}"><title>lattice '
                      f'{int(k) + 1}</title></path>')
    if len(peaks):
        groups.append('<path class="peaks" '
                      f'd="{squares(on_detector(peaks), round(mark, 2))}"><title>peaks</title></path>')
    return "".join(groups)


def rings(shot, canvas):
    """Resolution rings with their labels, and the beam's place."""
    distance, wavelength = abs(shot.geometry.origin[:, 2].mean()), shot.wavelength_angstrom
    (x, y), = canvas([[0.0, 0.0]])
    size = max(canvas.rows, canvas.columns)
    parts = [f'<path d="M{x - 8:.1f} {y:.1f}h16M{x:.1f} {y - 8:.1f}v16"/>']
    for d in ring_resolutions_angstrom(shot.geometry, wavelength):
        radius = ring_radius_mm(d, wavelength, distance) / canvas.step
        angle = label_angle(x, y, radius, canvas)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>')
        if angle is not None:
            parts.append(f'<text x="{x + radius * np.cos(angle):.1f}" y="{y - radius * np.sin(angle):.1f}" '
                         f'font-size="{size / 58:.1f}">{d:g} Å</text>')
    return f'<g class="rings">{"".join(parts)}</g>'


def label_angle(x, y, radius, canvas):
    """Where on a ring its label stands: the first of some angles that lies inside the picture; None for none."""
    for degrees in (45, 135, 225, 315, 90, 0, 180, 270):
        angle = np.radians(degrees)
        column, row = x + radius * np.cos(angle), y - radius * np.sin(angle)
        if 0.02 < column / canvas.columns < 0.93 and 0.04 < row / canvas.rows < 0.98:
            return angle
    return None


def svg(image, shot, peaks, reflections, title="", max_edge=900):
    """One event as inline SVG: JPEG below, vectors above."""
    picture = assemble(image, shot.geometry, max_edge)
    canvas = Canvas(picture)
    data = base64.b64encode(jpeg(grey(picture, contrast(picture.image)))).decode()
    return (f'<svg class="event" viewBox="0 0 {canvas.columns} {canvas.rows}" role="img" aria-label="{escape(title)}">'
            f'<image width="{canvas.columns}" height="{canvas.rows}" href="data:image/jpeg;base64,{data}"/>'
            f'{layers(shot, canvas, peaks, reflections)}</svg>')


def stack_svg(stack, shot, title="", max_edge=900, percents=(1.0, 99.5)):
    """A panel stack (a sum, a map) as inline SVG with rings."""
    picture = assemble(stack, shot.geometry, max_edge)
    canvas = Canvas(picture)
    data = base64.b64encode(jpeg(grey(picture, contrast(picture.image, *percents)))).decode()
    return (f'<svg class="event" viewBox="0 0 {canvas.columns} {canvas.rows}" role="img" aria-label="{escape(title)}">'
            f'<image width="{canvas.columns}" height="{canvas.rows}" href="data:image/jpeg;base64,{data}"/>'
            f'{rings(shot, canvas)}</svg>')


