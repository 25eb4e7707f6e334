"""From pixels that stand out to peaks: which belong together, how much they hold, what their surroundings look like."""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH

GUARD = 6           # half width of the square from which a peak's own background is taken
NEAR, FAR = 3, 8    # the reach of the arms along which a peak is compared with its neighbourhood, pixels


def _arms(n_directions=16):
    """(16, 6, 3, 2) pixel offsets (ss, fs): arms all around, their columns outwards, the pixels across a column."""
    angle = np.arange(n_directions)[:, None, None] * (2 * np.pi / n_directions)
    along, across = np.arange(NEAR, FAR + 1)[None, :, None], np.arange(-1, 2)[None, None, :]
    ss = along * np.sin(angle) + across * np.cos(angle)
    fs = along * np.cos(angle) - across * np.sin(angle)
    return np.rint(np.stack([ss, fs], axis=-1)).astype(np.int64)


ARMS = _arms()

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


@njit(cache=True, fastmath=FASTMATH)
def _place(at, n_ss, n_fs):
    """Panel, ss, fs of a flat index."""
    p = at // (n_ss * n_fs)
    rest = at - p * (n_ss * n_fs)
    s = rest // n_fs
    return p, s, rest - s * n_fs


@njit(cache=True, fastmath=FASTMATH)
def box_at(p, s, f, first, grid, shape):
    """The background box that holds pixel (p, s, f)."""
    return first[p] + (s * grid[p, 0] // shape[p, 0]) * grid[p, 1] + f * grid[p, 1] // shape[p, 1]


@njit(cache=True, fastmath=FASTMATH)
def _root(label, parent):
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@njit(cache=True, fastmath=FASTMATH)
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
    n = 0
    for k in range(order.size):
        v = value[order[k]]
        p, s, f = _place(index[order[k]], n_ss, n_fs)
        place[order[k], 0], place[order[k], 1], place[order[k], 2] = p, s, f
        best = 0
        for j in range(max(s - 1, 0), min(s + 2, shape[p, 0])):
            for i in range(max(f - 1, 0), min(f + 2, shape[p, 1])):
                if owner[p, j, i] != 0:
                    other = _root(owner[p, j, i], parent)
                    best = other if best == 0 else min(best, other)      # earlier labels belong to higher summits
        for j in range(max(s - 1, 0), min(s + 2, shape[p, 0])):
            for i in range(max(f - 1, 0), min(f + 2, shape[p, 1])):
                if owner[p, j, i] != 0 and owner[p, j, i] != best:
                    other = _root(owner[p, j, i], parent)
                    if other != best:
                        q, t, g = place[seeds[other - 1]]
                        noise = np.sqrt(2.0 * quantum * v + 18.0 * variance[box_at(q, t, g, first, grid, shape)])
                        if value[seeds[other - 1]] - v < 2.0 * noise:
                            parent[other] = best
        if best == 0:
            seeds[n] = order[k]
            n += 1
            best = n
            parent[n] = n
        owner[p, s, f] = best
    return _renumber(place[:index.size], n, owner, parent, seeds)


@njit(cache=True, fastmath=FASTMATH)
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


@njit(cache=True, fastmath=FASTMATH)
def forget(index, owner):
    """Undo `divide`, so that the map can be used again."""
    flat = owner.reshape(-1)
    for i in range(index.size):
        flat[index[i]] = 0


@njit(cache=True, fastmath=FASTMATH)
def _surroundings(image, owner, shape, p, s, f, low, high):
    """Mean of the free pixels of the square around (s, f) whose values lie between two bounds, and their number.

    Also the largest pixel of the square at three pixels or more from its centre, free or not.
    """
    n, total, top = 0, 0.0, -np.inf
    for j in range(max(s - GUARD, 0), min(s + GUARD + 1, shape[p, 0])):
        for i in range(max(f - GUARD, 0), min(f + GUARD + 1, shape[p, 1])):
            v = image[p, j, i]
            if abs(j - s) <= 2 and abs(i - f) <= 2:
                continue
            top = max(top, v) if v == v else top
            if owner[p, j, i] == 0 and v >= low and v <= high:
                n += 1
                total += v
    return total / max(n, 1), n, top


@njit(cache=True, fastmath=FASTMATH)
def _arm(image, shape, p, s, f, k, columns):
    """Lower median over the columns of arm `k` of their mean pixel; inf where the panel or the good pixels end.

    A neighbouring peak covers less than half of the columns, a ring or streak all of them.
    """
    n = 0
    inside = FAR + 1 <= s < shape[p, 0] - FAR - 1 and FAR + 1 <= f < shape[p, 1] - FAR - 1
    for c in range(FAR - NEAR + 1):
        count, total = 0, 0.0
        for i in range(3):
            t, g = s + ARMS[k, c, i, 0], f + ARMS[k, c, i, 1]
            if inside or (0 <= t < shape[p, 0] and 0 <= g < shape[p, 1]):
                v = image[p, t, g]
                if v == v:
                    count += 1
                    total += v
        if count > 0:
            mean, b = total / count, n - 1
            while b >= 0 and columns[b] > mean:
                columns[b + 1] = columns[b]
                b -= 1
            columns[b + 1] = mean
            n += 1
    return columns[(n - 1) // 2] if n > 2 else np.inf


@njit(cache=True, fastmath=FASTMATH)
def _level(image, shape, p, s, f, columns, arms):
    """What (s, f) would be without its peak, at most: on a bright line, or at the edge of a bright area.

    A line is as bright as the darker of two opposite arms, an area as the darkest of five neighbouring ones; the
    brightest of them counts. `columns` (FAR - NEAR + 1,) and `arms` (16,) are work space.
    """
    n, level = arms.size, -np.inf
    for k in range(n):
        arms[k] = _arm(image, shape, p, s, f, k, columns)
    for k in range(n):
        line = min(arms[k], arms[(k + n // 2) % n])
        area = min(min(arms[k - 2], arms[k - 1]), min(arms[k], min(arms[(k + 1) % n], arms[(k + 2) % n])))
        for found in (line, area):
            if level < found < np.inf:
                level = found
    return level


@njit(cache=True, fastmath=FASTMATH)
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


@njit(cache=True, fastmath=FASTMATH)
def _finish(row):
    total = row["intensity"]
    if total > 0:
        row["ds"] /= total
        row["df"] /= total
        row["mss"] = row["mss"] / total - row["ds"] * row["ds"]
        row["msf"] = row["msf"] / total - row["ds"] * row["df"]
        row["mff"] = row["mff"] / total - row["df"] * row["df"]


@njit(cache=True, fastmath=FASTMATH)
def measure(image, owner, index, value, place, seeds, shape, first, grid, mean, variance, quantum, out):
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
    out : (n,) SUMMIT, zeroed
    """
    columns, arms = np.empty(FAR - NEAR + 1), np.empty(ARMS.shape[0])
    for k in range(seeds.size):
        row = out[k]
        p, s, f = place[seeds[k]]
        b = box_at(p, s, f, first, grid, shape)
        reach = 4.0 * np.sqrt(variance[b]) + 3.0 * quantum
        background, n, top = _surroundings(image, owner, shape, p, s, f, mean[b] - reach, mean[b] + reach)
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
        row["level"] = row["background"] if row["core"] > far else _level(image, shape, p, s, f, columns, arms)
    for m in range(index.size):
        p, s, f = place[m]
        k = owner[p, s, f] - 1
        if 0 <= k < out.size:
            v = image[p, s, f] - out[k]["background"]
            if v == v:
                _add(out[k], v, s - out[k]["s"], f - out[k]["f"])
    for k in range(out.size):
        _finish(out[k])
