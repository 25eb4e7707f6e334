"""Kernels of DISTL (Zhang et al., J. Appl. Cryst. 39 (2006) 112): from maxima above the planes to spots."""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH
from mpixfel.kernels.distl import box_of, z_of
from mpixfel.kernels.distl_maxima import LOW, SHIFT

# A pixel of a spot is ss << SHIFT | fs.
MAXIMUM, VISITED = np.uint8(2), np.uint8(4)      # flags of marked pixels besides 1
SPOT = np.dtype([("panel", "i4"), ("s", "i4"), ("f", "i4"),                  # the highest maximum
                 ("area", "i4"), ("maxima", "i4"), ("edges", "i4"),
                 ("z", "f8"), ("height", "f8"), ("background", "f8"), ("sigma", "f8"),     # at the highest maximum
                 ("mass", "f8"), ("ss", "f8"), ("fs", "f8"),                 # sum and centroid of value - plane
                 ("mss", "f8"), ("msf", "f8"), ("mff", "f8"),                # second moments, not divided by the mass
                 ("major", "f8"), ("minor", "f8")])


@njit(cache=True, fastmath=FASTMATH)
def _collect(body, rings, icy, shape, p, s, f, pixels):
    """Collect the connected marked pixels (8 neighbours) around (s, f), which become VISITED.

    Returns their number, the edges between them, and whether a pixel of their border lies on an ice ring. Only so many
    pixels as there is room for in `pixels` are looked at.
    """
    n, done, edges, ice = 1, 0, 0, False
    pixels[0] = s << SHIFT | f
    body[p, s, f] |= VISITED
    while done < min(n, pixels.size):
        s0, f0 = pixels[done] >> SHIFT, pixels[done] & LOW
        done += 1
        for j in range(max(s0 - 1, 0), min(s0 + 2, shape[p, 0])):
            for i in range(max(f0 - 1, 0), min(f0 + 2, shape[p, 1])):
                state = body[p, j, i]
                if state == 0:
                    ice |= _on_ice(rings, icy, p, j, i)
                    continue
                edges += j > s0 or (j == s0 and i > f0)
                if state < VISITED:
                    body[p, j, i] = state | VISITED
                    if n < pixels.size:
                        pixels[n] = j << SHIFT | i
                    n += 1
    return n, edges, ice


@njit(cache=True, fastmath=FASTMATH)
def _on_ice(rings, icy, p, s, f):
    return icy.size > 0 and rings[p, s, f] < icy.size and icy[rings[p, s, f]]


@njit(cache=True, fastmath=FASTMATH)
def _beside_ice(body, rings, icy, shape, p, s, f):
    """Whether an unmarked neighbour of (s, f) lies on an ice ring."""
    for j in range(max(s - 1, 0), min(s + 2, shape[p, 0])):
        for i in range(max(f - 1, 0), min(f + 2, shape[p, 1])):
            if body[p, j, i] == 0 and _on_ice(rings, icy, p, j, i):
                return True
    return False


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
def spots(image, boxes, grid, shape, found, least, rings, icy, body, pixels, out):
    """Spots: connected marked pixels that hold a maximum and whose border does not touch an ice ring.

    Parameters
    ----------
    found : (n,) int64
        Places of the maxima, see `kernels.distl_maxima`.
    least : int
        Fewest pixels of a spot.
    rings : (P, SS, FS) uint16; icy : (n,) bool
        Ring of each pixel, and which rings are ice; (0,) where none is.
    body : (P, SS, W) uint8
        1 for marked pixels; gets other flags.
    pixels : (room,) int64 work space; out : (room,) SPOT

    Returns
    -------
    int
        Number of spots; may exceed the room.
    """
    n = 0
    for k in range(found.size):
        p, s, f = found[k] >> 2 * SHIFT, found[k] >> SHIFT & LOW, found[k] & LOW
        body[p, s, f] |= MAXIMUM
    for k in range(found.size):
        p, s, f = found[k] >> 2 * SHIFT, found[k] >> SHIFT & LOW, found[k] & LOW
        # Most spots on ice are known by their first pixel; if not, another maximum of theirs leads here.
        if body[p, s, f] >= VISITED or (icy.size and _beside_ice(body, rings, icy, shape, p, s, f)):
            continue
        size, edges, ice = _collect(body, rings, icy, shape, p, s, f, pixels)
        size = min(size, pixels.size)
        if size < least or ice:
            continue
        if n < out.size:
            _describe(image, boxes, grid, p, pixels, size, body, out[n])
            out[n]["edges"] = edges
        n += 1
    return n


@njit(cache=True, fastmath=FASTMATH)
def _describe(image, boxes, grid, p, pixels, size, body, spot):
    at, maxima, height = 0, 0, -np.inf
    for i in range(size):
        s, f = pixels[i] >> SHIFT, pixels[i] & LOW
        if body[p, s, f] & MAXIMUM:
            maxima += 1
            if image[p, s, f] > height:
                height, at = image[p, s, f], i
    s, f = pixels[at] >> SHIFT, pixels[at] & LOW
    spot["panel"], spot["s"], spot["f"], spot["area"], spot["maxima"] = p, s, f, size, maxima
    spot["mass"], spot["ss"], spot["fs"], spot["mss"], spot["msf"], spot["mff"] = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    spot["z"] = z_of(image, boxes, grid, p, s, f)
    spot["sigma"] = boxes[box_of(grid, p, s, f)]["sigma"]
    spot["height"] = spot["z"] * spot["sigma"]
    spot["background"] = image[p, s, f] - spot["height"]
    for i in range(size):
        _weigh(image, boxes, grid, p, pixels[i] >> SHIFT, pixels[i] & LOW, spot)
    ds, df = (spot["ss"] / spot["mass"], spot["fs"] / spot["mass"]) if spot["mass"] > 0 else (0.0, 0.0)
    spot["mss"] -= ds * ds * spot["mass"]
    spot["msf"] -= ds * df * spot["mass"]
    spot["mff"] -= df * df * spot["mass"]
    spot["ss"], spot["fs"] = spot["s"] + ds, spot["f"] + df
    _axes(pixels, size, spot)
