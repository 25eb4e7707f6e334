"""What lies around a peak: the background of its own, and the brightest line or area that it may stand on.

What is looked at is first copied to a patch of a size that the compiler knows: then its pixels go side by side.
"""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH

GUARD = 6           # half width of the square from which a peak's own background is taken
CORE = 2            # and of the square in its middle that is left out
NEAR, FAR = 3, 8    # the reach of the arms along which a peak is compared with its neighbourhood, pixels
ARMS = 16
WIDTH, BEFORE = 16, 8           # columns of the square's patch, and how many before the summit's
REACH, STRIDE = FAR + 1, 24     # half height and columns of the arms' patch; the summit is in the twelfth
MOST = np.float32(1e9)
ZERO, ONE, NAN, INF = np.float32(0), np.float32(1), np.float32(np.nan), np.float32(np.inf)
SQUARE, OPPOSITE = np.uint64((2 * GUARD + 1) * WIDTH), np.uint64(ARMS // 2)


def _ring():
    """(13 * 16,) float32: 1 for the pixels of the square's patch that are looked at, otherwise 0."""
    ss, fs = np.abs(np.arange(-GUARD, GUARD + 1))[:, None], np.abs(np.arange(-BEFORE, WIDTH - BEFORE))
    return ((fs <= GUARD) & ((ss > CORE) | (fs > CORE))).astype(np.float32).ravel()


def _arm_pixels():
    """(6, 3, 16) places in the arms' patch: columns outwards, the pixels across a column, arms all around."""
    angle = np.arange(ARMS) * (2 * np.pi / ARMS)
    along, across = np.arange(NEAR, FAR + 1)[:, None, None], np.arange(-1, 2)[:, None]
    ss = np.rint(along * np.sin(angle) + across * np.cos(angle)).astype(np.int64)
    fs = np.rint(along * np.cos(angle) - across * np.sin(angle)).astype(np.int64)
    return ((ss + REACH) * STRIDE + fs + STRIDE // 2).astype(np.uint64)


RING, ARM_PIXELS = _ring(), _arm_pixels()


def patches():
    """Work space for one thread: a patch, the columns of the arms, the arms."""
    return (np.zeros(max(2 * int(SQUARE), (2 * REACH + 1) * STRIDE), np.float32),
            np.zeros((FAR - NEAR + 1, ARMS), np.float32), np.zeros(2 * ARMS, np.float32))


# Indices are unsigned: a signed one might be negative, and testing for that costs the vector code.


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _copy(image, shape, p, s, f, half, before, width, patch):
    """2 half + 1 rows about (s, f), `width` columns each, from `before` columns before it on; NaN beyond the panel."""
    to = np.uint64(0)
    inside = half <= s < shape[p, 0] - half and before <= f < shape[p, 1] - width + before
    for j in range(s - half, s + half + 1):
        if inside:
            panel, row, column = np.uint64(p), np.uint64(j), np.uint64(f - before)
            for k in range(np.uint64(width)):
                patch[to + k] = image[panel, row, column + k]
        else:
            for k in range(width):
                i = f - before + k
                within = 0 <= j < shape[p, 0] and 0 <= i < shape[p, 1]
                patch[to + np.uint64(k)] = image[p, j, i] if within else NAN
        to += np.uint64(width)


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _copy_free(owner, shape, p, s, f, patch):
    """Copy the square's patch behind itself, without the pixels that belong to peaks."""
    inside = GUARD <= s < shape[p, 0] - GUARD and BEFORE <= f < shape[p, 1] - WIDTH + BEFORE
    for j in range(2 * GUARD + 1):
        to, t = np.uint64(j * WIDTH), s + j - GUARD
        if inside:
            panel, row, column = np.uint64(p), np.uint64(t), np.uint64(f - BEFORE)
            for k in range(np.uint64(WIDTH)):
                patch[SQUARE + to + k] = patch[to + k] if owner[panel, row, column + k] == 0 else NAN
        else:
            for k in range(WIDTH):
                i = f - BEFORE + k
                free = 0 <= t < shape[p, 0] and 0 <= i < shape[p, 1] and owner[p, t, i] == 0
                patch[SQUARE + to + np.uint64(k)] = patch[to + np.uint64(k)] if free else NAN


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _ring_sums(patch, low, reach, scale):
    """Count and sum above `low` of the free pixels that lie between `low` and `reach` above it, and the largest pixel, free
    or not, in steps of 1 / scale above `low`."""
    count, total, top = ZERO, ZERO, np.int32(0)
    for k in range(SQUARE):
        v, free = patch[k] - low, patch[SQUARE + k] - low
        v = v if v > ZERO else ZERO
        # As a whole number: a largest float is not found side by side where there may be NaN.
        top = max(top, np.int32(min(v * scale * RING[k], MOST)))
        good = (free >= ZERO) & (free <= reach)
        weight = ONE if good else ZERO
        free = free if good else ZERO
        count += weight * RING[k]
        total += free * RING[k]
    return count, total, top


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def surroundings(image, owner, shape, p, s, f, low, high, quantum, work):
    """Mean of the free pixels of the square around (s, f) whose values lie between two bounds, and their number.

    Also what the largest pixel of the square at three pixels or more from its centre, free or not, does not exceed:
    itself and one quantum.
    """
    patch = work[0]
    _copy(image, shape, p, s, f, GUARD, BEFORE, WIDTH, patch)
    _copy_free(owner, shape, p, s, f, patch)
    count, total, top = _ring_sums(patch, np.float32(low), np.float32(high - low), np.float32(1.0 / quantum))
    return low + total / max(count, ONE), int(count), low + (top + 1) * quantum


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _column_means(patch, columns):
    """Mean of the good pixels of each column of each arm; inf where there are none."""
    for c in range(columns.shape[0]):
        for k in range(ARMS):
            count, total = ZERO, ZERO
            for i in range(3):
                v = patch[ARM_PIXELS[c, i, k]]
                count += ONE if v == v else ZERO
                total += v if v == v else ZERO
            columns[c, k] = total / count if count > ZERO else INF


@njit(cache=True, _nrt=False, fastmath=FASTMATH, inline="always")
def _ordered(x, y):
    return (x, y) if x < y else (y, x)


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def _medians(columns, arms):
    """The lower median of the columns that each arm has, into `arms`, which repeats itself for who goes around; inf where
    the panel or the good pixels end before the third.

    A neighbouring peak covers less than half of the columns, a ring or streak all of them.
    """
    for k in range(np.uint64(ARMS)):
        a, b, c = columns[0, k], columns[1, k], columns[2, k]
        d, e, f = columns[3, k], columns[4, k], columns[5, k]
        a, f = _ordered(a, f)     # a network of twelve exchanges sorts six
        b, d = _ordered(b, d)
        c, e = _ordered(c, e)
        b, c = _ordered(b, c)
        d, e = _ordered(d, e)
        a, d = _ordered(a, d)
        c, f = _ordered(c, f)
        a, b = _ordered(a, b)
        c, d = _ordered(c, d)
        e, f = _ordered(e, f)
        b, c = _ordered(b, c)
        d, e = _ordered(d, e)
        few = b if c < INF else INF
        arms[k] = c if e < INF else few
    for k in range(np.uint64(ARMS)):
        arms[ARMS + k] = arms[k]


@njit(cache=True, _nrt=False, fastmath=FASTMATH)
def level(image, shape, p, s, f, work):
    """What (s, f) would be without its peak, at most: on a bright line, or at the edge of a bright area.

    A line is as bright as the darker of two opposite arms, an area as the darkest of five neighbouring ones; the
    brightest of them counts.
    """
    patch, columns, arms = work
    _copy(image, shape, p, s, f, REACH, STRIDE // 2, STRIDE, patch)
    _column_means(patch, columns)
    _medians(columns, arms)
    found = -INF
    for k in range(np.uint64(ARMS)):
        line = min(arms[k], arms[k + OPPOSITE])
        area = min(min(min(arms[k], arms[k + 1]), min(arms[k + 2], arms[k + 3])), arms[k + 4])
        line, area = line if line < INF else -INF, area if area < INF else -INF
        found = max(found, max(line, area))
    return found
