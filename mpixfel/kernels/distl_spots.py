"""Kernels of DISTL (Zhang et al., J. Appl. Cryst. 39 (2006) 112): from pixels above the planes to spots."""
import numpy as np
from numba import njit

from mpixfel.kernels.distl import box_of, z_of

# NaN marks bad pixels, so the compiler must not assume that there are none.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
SHIFT, LOW = 20, (1 << 20) - 1      # a pixel of a spot is ss << SHIFT | fs: a division would cost more than all the rest
SPOT = np.dtype([("panel", "i4"), ("s", "i4"), ("f", "i4"),                  # the highest maximum
                 ("area", "i4"), ("maxima", "i4"), ("edges", "i4"), ("border", "i4"), ("ice", "i4"), ("over", "i4"),
                 ("z", "f8"), ("height", "f8"), ("background", "f8"), ("sigma", "f8"),     # at the highest maximum
                 ("mass", "f8"), ("ss", "f8"), ("fs", "f8"),                 # sum and centroid of value - plane
                 ("mss", "f8"), ("msf", "f8"), ("mff", "f8"),                # second moments, not divided by the mass
                 ("major", "f8"), ("minor", "f8")])


@njit(cache=True, fastmath=FASTMATH)
def _is_maximum(image, body, shape, p, s, f, neighbours, margin):
    """Whether no neighbour is higher, and more than `neighbours` of the eight belong to the spot, too."""
    if s < margin or f < margin or s >= shape[p, 0] - margin or f >= shape[p, 1] - margin:
        return False
    n = -1
    for j in range(max(s - 1, 0), min(s + 2, shape[p, 0])):
        for i in range(max(f - 1, 0), min(f + 2, shape[p, 1])):
            if image[p, j, i] > image[p, s, f]:
                return False
            n += body[p, j, i] != 0
    return n > neighbours


@njit(cache=True, fastmath=FASTMATH)
def _collect(body, shape, p, s, f, pixels):
    """The connected pixels (8 neighbours) of `body` == 1 around (s, f) become 2; returns their number."""
    n, done = 1, 0
    pixels[0] = s << SHIFT | f
    body[p, s, f] = 2
    while done < min(n, pixels.size):
        s0, f0 = pixels[done] >> SHIFT, pixels[done] & LOW
        done += 1
        for j in range(max(s0 - 1, 0), min(s0 + 2, shape[p, 0])):
            for i in range(max(f0 - 1, 0), min(f0 + 2, shape[p, 1])):
                if body[p, j, i] == 1:
                    body[p, j, i] = 2
                    if n < pixels.size:
                        pixels[n] = j << SHIFT | i
                    n += 1
    return n


@njit(cache=True, fastmath=FASTMATH)
def _outline(body, rings, icy, shape, p, s, f, spot):
    """Edges to the four neighbours that come later, and whether a border pixel lies on an ice ring."""
    n_fs = shape[p, 1]
    for j in range(max(s - 1, 0), min(s + 2, shape[p, 0])):
        for i in range(max(f - 1, 0), min(f + 2, n_fs)):
            if body[p, j, i] == 0:
                spot["border"] += 1
                r = rings[p, j, i]
                if r < icy.size and icy[r]:
                    spot["ice"] = 1
            elif j > s or (j == s and i > f):
                spot["edges"] += 1


@njit(cache=True, fastmath=FASTMATH)
def _weigh(image, boxes, grid, p, s, f, spot):
    """Add a pixel to the sums of its spot; moments about the highest maximum."""
    box = boxes[box_of(grid, p, s, f)]
    w = image[p, s, f] - box["a"] * (s - box["s0"]) - box["b"] * (f - box["f0"]) - box["c"]
    ds, df = np.float64(s - spot["s"]), np.float64(f - spot["f"])
    spot["mass"] += w
    spot["ss"] += w * ds
    spot["fs"] += w * df
    spot["mss"] += w * ds * ds
    spot["msf"] += w * ds * df
    spot["mff"] += w * df * df


@njit(cache=True, fastmath=FASTMATH)
def _axes(pixels, n, spot):
    """Major and minor axis: twice the distance of the farthest pixel from the mean, and what lies across it."""
    ms, mf = 0.0, 0.0
    for k in range(n):
        ms += (pixels[k] >> SHIFT)
        mf += (pixels[k] & LOW)
    ms, mf, far, ds, df = ms / n, mf / n, -1.0, 0.0, 0.0
    for k in range(n):
        s, f = (pixels[k] >> SHIFT) - ms, (pixels[k] & LOW) - mf
        if s * s + f * f > far:
            far, ds, df = s * s + f * f, s, f
    if n < 2 or far <= 0:
        spot["major"], spot["minor"] = 1.0, 1.0
        return
    across = 0.0
    for k in range(n):
        across = max(across, abs(ds * ((pixels[k] & LOW) - mf) - ((pixels[k] >> SHIFT) - ms) * df))
    major = 2.0 * np.sqrt(far)
    minor = 4.0 * across / major
    spot["major"], spot["minor"] = max(major, minor), min(major, minor)


@njit(cache=True, fastmath=FASTMATH)
def fewest_neighbours(least):
    """A maximum of a spot of at least so many pixels has more than this number of neighbours above the threshold."""
    return min(4, least - 1) - 1


@njit(cache=True, fastmath=FASTMATH)
def spots(image, boxes, grid, shape, found, least, margin, overload, rings, icy, body, pixels, out):
    """Spots: connected marked pixels that hold a maximum, which is one of `found` (n,), see `kernels.distl.crowded`.

    Parameters
    ----------
    least : int
        Fewest pixels of a spot. A maximum has at least min(3, least - 2) neighbours above the threshold.
    margin : int
        Maxima lie at least so many pixels from the edge of their panel.
    overload : float
        Values from here on are counted as overloads.
    rings : (P, SS, FS) uint16; icy : (n,) bool
        Ring of each pixel, and which rings are ice.
    body : (P, SS, FS) uint8
        1 for marked pixels; those of spots become 2.
    pixels : (room,) int64 work space; out : (room,) SPOT

    Returns
    -------
    int
        Number of spots; may exceed the room.
    """
    n_ss, n_fs, n = image.shape[1], image.shape[2], 0
    neighbours, flat = fewest_neighbours(least), body.reshape(-1)
    for k in range(found.size):
        p, rest = found[k] // (n_ss * n_fs), found[k] % (n_ss * n_fs)
        if flat[found[k]] != 1 or not _is_maximum(image, body, shape, p, rest // n_fs, rest % n_fs, neighbours, margin):
            continue
        size = min(_collect(body, shape, p, rest // n_fs, rest % n_fs, pixels), pixels.size)
        if size < least:
            continue
        maxima, highest, at = 0, -np.inf, -1
        for i in range(size):
            s, f = pixels[i] >> SHIFT, pixels[i] & LOW
            if _is_maximum(image, body, shape, p, s, f, neighbours, margin):
                maxima += 1
                if image[p, s, f] > highest:
                    highest, at = image[p, s, f], i
        if n < out.size:
            _describe(image, boxes, grid, shape, p, pixels, size, at, maxima, overload, rings, icy, body, out[n])
        n += 1
    return n


@njit(cache=True, fastmath=FASTMATH)
def _describe(image, boxes, grid, shape, p, pixels, size, at, maxima, overload, rings, icy, body, spot):
    s, f = pixels[at] >> SHIFT, pixels[at] & LOW
    spot["panel"], spot["s"], spot["f"], spot["area"], spot["maxima"] = p, s, f, size, maxima
    spot["edges"], spot["border"], spot["ice"], spot["over"] = 0, 0, 0, 0
    spot["mass"], spot["ss"], spot["fs"], spot["mss"], spot["msf"], spot["mff"] = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    spot["z"] = z_of(image, boxes, grid, p, s, f)
    spot["sigma"] = boxes[box_of(grid, p, s, f)]["sigma"]
    spot["height"] = spot["z"] * spot["sigma"]
    spot["background"] = image[p, s, f] - spot["height"]
    for i in range(size):
        s, f = pixels[i] >> SHIFT, pixels[i] & LOW
        _weigh(image, boxes, grid, p, s, f, spot)
        _outline(body, rings, icy, shape, p, s, f, spot)
        spot["over"] += image[p, s, f] >= overload
    ds, df = (spot["ss"] / spot["mass"], spot["fs"] / spot["mass"]) if spot["mass"] > 0 else (0.0, 0.0)
    spot["mss"] -= ds * ds * spot["mass"]
    spot["msf"] -= ds * df * spot["mass"]
    spot["mff"] -= df * df * spot["mass"]
    spot["ss"], spot["fs"] = spot["s"] + ds, spot["f"] + df
    _axes(pixels, size, spot)
