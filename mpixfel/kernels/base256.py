"""Numbers as the old program's pickles hold them: a length byte with a sign bit, then digits to the base 256.

An integer is [sign * 128 + 1 + digits][digits, lowest first]; zero is [0]. A floating-point number is the same with the
digits of its mantissa, a fraction between 0 and 1, highest first, followed by its binary exponent as an integer; zero
is [0] alone. (cctbx, scitbx/serialization/base_256.h)
"""
import numpy as np
from numba import njit


@njit(cache=True)
def read_integer(data, at):
    """The integer at data[at] (uint8), and where the next item begins; -1 for that where the data ends too soon."""
    if at >= data.size:
        return 0, -1
    head = np.int64(data[at])
    n = max((head & 127) - 1, 0)
    if at + 1 + n > data.size or n > 8:
        return 0, -1
    value = np.int64(0)
    for i in range(n - 1, -1, -1):
        value = value * 256 + np.int64(data[at + 1 + i])
    return (-value if head & 128 else value), at + 1 + n


@njit(cache=True)
def read_integers(data, at, out):
    """Fill `out` (n,) from data[at] on; returns where the data ends, or -1."""
    for i in range(out.size):
        value, at = read_integer(data, at)
        if at < 0:
            return at
        out[i] = value
    return at


@njit(cache=True)
def read_reals(data, at, out):
    """Fill `out` (n,) float64 from data[at] on; returns where the data ends, or -1."""
    for i in range(out.size):
        if at >= data.size:
            return -1
        head = np.int64(data[at])
        n = max((head & 127) - 1, 0)
        if at + 1 + n > data.size:
            return -1
        mantissa = 0.0
        for j in range(n, 0, -1):
            mantissa = (mantissa + np.float64(data[at + j])) / 256.0
        at += 1 + n
        exponent = np.int64(0)
        if n > 0:
            exponent, at = read_integer(data, at)
            if at < 0:
                return at
        out[i] = (-mantissa if head & 128 else mantissa) * 2.0 ** exponent
    return at
