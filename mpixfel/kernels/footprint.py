"""Which pixels belong to spots, and what spots shine on them."""
import numpy as np
from numba import njit

from mpixfel.kernels.profiles import box_of, fill_profile, foreground, span


@njit(cache=True, error_model="numpy")
def mark(rows, intensity, n, limit, radius, bounds, owners):
    """Count in owners (P, SS, FS) uint8 how many of n spots claim each pixel; see `profiles.foreground`."""
    for i in range(n):
        visit(rows, i, intensity[i], limit, radius, bounds, owners, True)


@njit(cache=True, error_model="numpy")
def unmark(rows, intensity, n, limit, radius, bounds, owners):
    """Undo `mark`."""
    for i in range(n):
        visit(rows, i, intensity[i], limit, radius, bounds, owners, False)


@njit(cache=True, error_model="numpy")
def visit(rows, i, intensity, limit, radius, bounds, owners, add):
    fore = foreground(rows.shape[i], rows.tail[i], intensity, limit, radius)
    p, place_x, place_y = rows.panel[i], rows.place[i, 0], rows.place[i, 1]
    _, top, _, height = box_of(fore, place_x, place_y)
    for y in range(max(top, 0), min(top + height, bounds[p, 0])):
        first, last = pixels_between(span(y + 0.5 - place_y, fore), place_x, bounds[p, 1])
        for x in range(first, last):
            owners[p, y, x] = min(owners[p, y, x] + 1, 255) if add else 0


@njit(cache=True, error_model="numpy", inline="always")
def pixels_between(ends, place, size):
    """(first, last + 1) pixel of a row whose centres lie between two distances from a place."""
    return max(int(np.ceil(place + ends[0] - 0.5)), 0), min(int(np.floor(place + ends[1] - 0.5)) + 1, size)


@njit(cache=True, error_model="numpy")
def crowded(rows, intensity, n, limit, radius, bounds, owners, out):
    """Fill out (n,) bool: whether a spot shares any pixel with another; after `mark`, with the same arguments."""
    for i in range(n):
        fore = foreground(rows.shape[i], rows.tail[i], intensity[i], limit, radius)
        p, place_x, place_y = rows.panel[i], rows.place[i, 0], rows.place[i, 1]
        _, top, _, height = box_of(fore, place_x, place_y)
        most = 0
        for y in range(max(top, 0), min(top + height, bounds[p, 0])):
            first, last = pixels_between(span(y + 0.5 - place_y, fore), place_x, bounds[p, 1])
            for x in range(first, last):
                most = max(most, owners[p, y, x])
        out[i] = most > 1


@njit(cache=True, error_model="numpy")
def shine(rows, intensity, n, limit, radius, bounds, work, light):
    """Add to light (P, SS, FS) float32 the photons that n spots of given intensities put on each pixel."""
    for i in range(n):
        if intensity[i] > 0.0:
            fore = foreground(rows.shape[i], rows.tail[i], intensity[i], limit, radius)
            p = rows.panel[i]
            left, top, nx, ny = box_of(fore, rows.place[i, 0], rows.place[i, 1])
            fill_profile(rows.place[i, 0] - left, rows.place[i, 1] - top, rows.shape[i], rows.tail[i], fore.far2, nx, ny,
                         work)
            for y in range(max(top, 0), min(top + ny, bounds[p, 0])):
                for x in range(max(left, 0), min(left + nx, bounds[p, 1])):
                    light[p, y, x] += intensity[i] * work.pixels[(y - top) * nx + x - left]


@njit(cache=True, error_model="numpy")
def darken(rows, intensity, n, limit, radius, bounds, light):
    """Undo `shine`: zero the boxes that it touched."""
    for i in range(n):
        if intensity[i] > 0.0:
            fore = foreground(rows.shape[i], rows.tail[i], intensity[i], limit, radius)
            left, top, nx, ny = box_of(fore, rows.place[i, 0], rows.place[i, 1])
            light[rows.panel[i], max(top, 0):max(top + ny, 0), max(left, 0):max(left + nx, 0)] = 0.0
