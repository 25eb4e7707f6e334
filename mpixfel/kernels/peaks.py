"""From pixels that stand out to peaks: which belong together, how much they hold, what their surroundings look like."""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH
from mpixfel.kernels.surroundings import level, surroundings

NOBODY = 1 << 30

SUMMIT = np.dtype([
    ("at", "i8"),             # flat index of the highest 3 x 3 sum
    ("panel", "i4"), ("s", "i4"), ("f", "i4"),
    ("box", "i4"),            # background box of the summit
    ("height", "f4"),         # 3 x 3 sum above the box background
    ("background", "f4"), ("n_background", "i4"),    # own background per pixel, and how many pixels it comes from
    ("level", "f4"),          # background along the brightest line through the summit, per pixel
    ("core", "f4"),           # 3 x 3 sum above the own background
    ("core_max", "f4"),       # its largest pixel
    ("core_pixels", "i4"),
    ("intensity", "f4"), ("n_pixels", "i4"), ("max_pixel", "f4"),     # of all pixels of the peak, above background
    ("ds", "f4"), ("df", "f4"),                          # centroid from the summit, pixels
    ("mss", "f4"), ("msf", "f4"), ("mff", "f4"),         # central second moments, pixels^2
])


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _place(at, n_ss, n_fs):
    """Panel, ss, fs of a flat index."""
    p = at // (n_ss * n_fs)
    rest = at - p * (n_ss * n_fs)
    s = rest // n_fs
    return p, s, rest - s * n_fs


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def box_at(p, s, f, first, grid, shape):
    """The background box that holds pixel (p, s, f)."""
    return first[p] + (s * grid[p, 0] // shape[p, 0]) * grid[p, 1] + f * grid[p, 1] // shape[p, 1]


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _root(label, parent):
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def divide(index, value, order, shape, first, grid, variance, quantum, owner, place, parent, seeds):
    """Divide the pixels that stand out among their summits (watershed), and drown summits that noise may have made.

    Pixels are taken from the highest down. One without a neighbour above it is a new summit. Where two regions meet,
    the lower summit survives if it rises above the saddle by more than two standard deviations of the difference of
    two 3 x 3 sums there; otherwise its region falls to the higher one.

    Parameters
    ----------
    index : (n,) int64, value : (n,) float32
        Flat indices and 3 x 3 sums above the background.
    order : (n,) int64
        Positions in `index` by falling value.
    variance : (B,) float32
        Background variance per pixel, of each box; `quantum` the size of one photon.
    owner : (P, SS, FS) int32
        Zero before; becomes 1 + the summit's number.
    place : (n, 3) int32
        Out: panel, ss, fs of each pixel.
    parent : (n + 1,) int32, seeds : (n,) int64
        Work space; `seeds` then holds the positions in `index` of the summits, highest first.

    Returns
    -------
    int
        Number of summits.
    """
    n_ss, n_fs = owner.shape[1], owner.shape[2]
    n, parent[0] = 0, 0
    for k in range(order.size):
        v = value[order[k]]
        p, s, f = _place(index[order[k]], n_ss, n_fs)
        place[order[k], 0], place[order[k], 1], place[order[k], 2] = p, s, f
        best, worst = NOBODY, 0       # without branches: which neighbours have owners cannot be foreseen
        for j in range(max(s - 1, 0), min(s + 2, shape[p, 0])):
            for i in range(max(f - 1, 0), min(f + 2, shape[p, 1])):
                label = _root(owner[p, j, i], parent)
                best = min(best, label if label > 0 else NOBODY)         # earlier labels belong to higher summits
                worst = max(worst, label)
        if best < worst:
            for j in range(max(s - 1, 0), min(s + 2, shape[p, 0])):
                for i in range(max(f - 1, 0), min(f + 2, shape[p, 1])):
                    if owner[p, j, i] != 0 and owner[p, j, i] != best:
                        other = _root(owner[p, j, i], parent)
                        if other != best:
                            q, t, g = place[seeds[other - 1]]
                            noise = np.sqrt(2.0 * quantum * v + 18.0 * variance[box_at(q, t, g, first, grid, shape)])
                            if value[seeds[other - 1]] - v < 2.0 * noise:
                                parent[other] = best
        if best == NOBODY:
            seeds[n] = order[k]
            n += 1
            best = n
            parent[n] = n
        owner[p, s, f] = best
    return _renumber(place[:index.size], n, owner, parent, seeds)


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _renumber(place, n, owner, parent, seeds):
    kept = 0
    for label in range(1, n + 1):
        if parent[label] == label:
            seeds[kept] = seeds[label - 1]
            kept += 1
            parent[label] = -kept
    for i in range(place.shape[0]):
        p, s, f = place[i]
        label = owner[p, s, f]
        while parent[label] > 0:
            label = parent[label]
        owner[p, s, f] = -parent[label]
    return kept


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def forget(index, owner):
    """Undo `divide`, so that the map can be used again."""
    flat = owner.reshape(-1)
    for i in range(index.size):
        flat[index[i]] = 0


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _add(row, v, ds, df):
    """One pixel more; moments are sums until `_finish`."""
    row["intensity"] += v
    row["n_pixels"] += 1
    row["max_pixel"] = max(row["max_pixel"], v)
    row["ds"] += v * ds
    row["df"] += v * df
    row["mss"] += v * ds * ds
    row["msf"] += v * ds * df
    row["mff"] += v * df * df


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _finish(row):
    total = row["intensity"]
    if total > 0:
        row["ds"] /= total
        row["df"] /= total
        row["mss"] = row["mss"] / total - row["ds"] * row["ds"]
        row["msf"] = row["msf"] / total - row["ds"] * row["df"]
        row["mff"] = row["mff"] / total - row["df"] * row["df"]


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def measure(image, owner, index, value, place, seeds, shape, first, grid, mean, variance, quantum, work, out):
    """Measure the peaks that `divide` has found: each owns the pixels given to it, and the 3 x 3 around its summit.

    Parameters
    ----------
    image : (P, SS, FS) float32
    index, value, place, owner
        As `divide` had and left them.
    seeds : (n,) int64
        Positions in `index` of the summits.
    mean, variance : (B,) float32
        Background of the boxes.
    work
        See `surroundings.patches`.
    out : (n,) SUMMIT, zeroed
    """
    for k in range(seeds.size):
        row = out[k]
        p, s, f = place[seeds[k]]
        b = box_at(p, s, f, first, grid, shape)
        reach = 4.0 * np.sqrt(variance[b]) + 3.0 * quantum
        background, n, top = surroundings(image, owner, shape, p, s, f, mean[b] - reach, mean[b] + reach, quantum, work)
        row["background"] = background if n >= 16 else mean[b]
        row["at"], row["panel"], row["s"], row["f"], row["box"] = index[seeds[k]], p, s, f, b
        row["height"], row["n_background"] = value[seeds[k]], n
        for j in range(max(s - 1, 0), min(s + 2, shape[p, 0])):
            for i in range(max(f - 1, 0), min(f + 2, shape[p, 1])):
                v = image[p, j, i] - row["background"]
                if v == v:
                    row["core"] += v
                    row["core_max"] = max(row["core_max"], v)
                    row["core_pixels"] += 1
                    if owner[p, j, i] != k + 1:
                        _add(row, v, j - s, i - f)
        # No line is brighter than the brightest pixel around: a peak far above that needs no look at lines.
        rise = max(top - row["background"], 0.0)
        far = 9 * rise + 12 * (np.sqrt(9 * (variance[b] + quantum * rise)) + quantum)
        row["level"] = row["background"] if row["core"] > far else level(image, shape, p, s, f, work)
    for m in range(index.size):
        p, s, f = place[m]
        k = owner[p, s, f] - 1
        if 0 <= k < out.size:
            v = image[p, s, f] - out[k]["background"]
            if v == v:
                _add(out[k], v, s - out[k]["s"], f - out[k]["f"])
    for k in range(out.size):
        _finish(out[k])
