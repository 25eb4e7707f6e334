"""Decodes bitshuffled LZ4 chunks (Masui et al., Astron. Comput. 12 (2015) 181).

A chunk is a row of blocks, each: its compressed length (uint32, big-endian), then LZ4 data that hold bit 0 of all the
block's elements, then bit 1, and so on. What remains beyond a multiple of 8 elements follows as it is.

LZ4 itself is a C function of the caller's. Measured on one core (Xeon, AVX-512) for 1 Mpx of uint16 photon counts:
0.56 ms in LZ4, 0.16 ms to put the bits back, where the compiled filter (SSE2) takes 0.30 more.
"""
import ctypes

import numpy as np
from numba import config, int32, intp, njit, types
from numba.experimental import function_type  # noqa: F401  teaches numba to take C functions as arguments

COMPILED = not config.DISABLE_JIT
HEADER_BYTES = 12                    # big-endian: uint64 decoded bytes, uint32 bytes in a block


class Lz4(types.WrapperAddressProtocol):
    """A C function `int (const char *from, char *to, int bytes, int room)` for kernels to call."""

    def __init__(self, function):
        self.function = function
        function.restype, function.argtypes = ctypes.c_int, [ctypes.c_void_p] * 2 + [ctypes.c_int] * 2
        self._address = ctypes.cast(function, ctypes.c_void_p).value
        # What numba looks for first: without it the type would be made anew for every call.
        self._numba_type_ = types.FunctionType(self.signature())

    def __wrapper_address__(self):
        return self._address

    def signature(self):
        return int32(intp, intp, int32, int32)

    def __call__(self, *arguments):
        return self.function(*map(int, arguments))


@njit(cache=True)
def decode(chunk, out, itemsize, scratch, lz4):
    """Decode a chunk, with its header, into `out`.

    Parameters
    ----------
    chunk : (n,) uint8
    out : (m,) uint8
        The decoded bytes.
    itemsize : int
        1, 2, 4 or 8 bytes an element.
    scratch : uint8
        At least twice as long as a block of the chunk.
    lz4 : Lz4

    Returns
    -------
    bool
        False where the chunk is damaged; `out` then holds rubbish.
    """
    if chunk.size < HEADER_BYTES or _big_endian(chunk, 0, 8) != out.size:
        return False
    block_bytes = _big_endian(chunk, 8, 4)
    if block_bytes < 8 * itemsize or block_bytes % (8 * itemsize) or 2 * block_bytes > scratch.size:
        return False
    position, done = HEADER_BYTES, 0
    whole = out.size // (8 * itemsize) * (8 * itemsize)
    half = scratch.size // 2
    shuffled, planes = scratch[:half], scratch[half:]
    while done < whole:
        size = min(block_bytes, whole - done)
        if position + 4 > chunk.size:
            return False
        length = _big_endian(chunk, position, 4)
        position += 4
        if length > chunk.size - position:
            return False
        if lz4(intp(chunk.ctypes.data + position), intp(shuffled.ctypes.data), int32(length), int32(size)) != size:
            return False
        position += length
        unshuffle(shuffled[:size], planes, out[done:done + size], itemsize)
        done += size
    if chunk.size - position != out.size - done:
        return False
    for i in range(out.size - done):
        out[done + i] = chunk[position + i]
    return True


@njit(cache=True)
def _big_endian(data, first, count):
    value = 0
    for i in range(count):
        value = value << 8 | np.int64(data[first + i])
    return value


@njit(cache=True)
def unshuffle(shuffled, planes, out, itemsize):
    """Put the bits of a block back: (n,) uint8 bit by bit to (n,) uint8 element by element; `planes` is scratch."""
    n = shuffled.size // itemsize        # elements
    columns = n // 8                     # bytes in the row of one bit
    for j in range(itemsize):
        rows = shuffled[j * n:(j + 1) * n]
        plane = planes[j * n:(j + 1) * n]
        if columns % 8 == 0:
            _transpose_words(rows.view(np.uint64), plane.view(np.uint64), columns // 8)
        else:
            _transpose_bits(rows, plane, columns)
    if itemsize == 1:
        _interleave1(planes, out, columns)
    elif itemsize == 2:
        _interleave2(planes, out.view(np.uint16), columns)
    elif itemsize == 4:
        _interleave4(planes, out.view(np.uint32), columns)
    else:
        _interleave_any(planes, out, columns, itemsize)


@njit(cache=True)
def _transpose_bits(rows, plane, columns):
    """plane[i, c] = bits c of byte-rows 0..7 at bit i: the element 8 c + i of this byte."""
    for c in range(columns):
        for i in range(8):
            value = 0
            for k in range(8):
                value |= ((rows[k * columns + c] >> i) & 1) << k
            plane[i * columns + c] = value


@njit(cache=True, inline="always")
def _swap(a, b, shift, keep):
    """Exchange the bits `keep` << shift of a with the bits `keep` of b."""
    t = ((a >> shift) ^ b) & keep
    return a ^ (t << shift), b ^ t


@njit(cache=True)
def _transpose_words(rows, plane, words):
    """The same for 8 columns at once, as three rounds of exchanges between words; the compiler makes vectors of it."""
    one, two, four = np.uint64(1), np.uint64(2), np.uint64(4)
    keep1, keep2, keep4 = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
    for c in range(words):
        r0, r1, r2, r3 = rows[c], rows[c + words], rows[c + 2 * words], rows[c + 3 * words]
        r4, r5, r6, r7 = rows[c + 4 * words], rows[c + 5 * words], rows[c + 6 * words], rows[c + 7 * words]
        r0, r1 = _swap(r0, r1, one, keep1)
        r2, r3 = _swap(r2, r3, one, keep1)
        r4, r5 = _swap(r4, r5, one, keep1)
        r6, r7 = _swap(r6, r7, one, keep1)
        r0, r2 = _swap(r0, r2, two, keep2)
        r1, r3 = _swap(r1, r3, two, keep2)
        r4, r6 = _swap(r4, r6, two, keep2)
        r5, r7 = _swap(r5, r7, two, keep2)
        r0, r4 = _swap(r0, r4, four, keep4)
        r1, r5 = _swap(r1, r5, four, keep4)
        r2, r6 = _swap(r2, r6, four, keep4)
        r3, r7 = _swap(r3, r7, four, keep4)
        plane[c], plane[c + words], plane[c + 2 * words], plane[c + 3 * words] = r0, r1, r2, r3
        plane[c + 4 * words], plane[c + 5 * words], plane[c + 6 * words], plane[c + 7 * words] = r4, r5, r6, r7


@njit(cache=True)
def _interleave1(planes, out, columns):
    for c in range(columns):
        for i in range(8):
            out[8 * c + i] = planes[i * columns + c]


@njit(cache=True)
def _interleave2(planes, out, columns):
    n = 8 * columns
    low, high = planes[:n], planes[n:2 * n]
    for c in range(columns):
        for i in range(8):
            k = i * columns + c
            out[8 * c + i] = np.uint16(low[k]) | (np.uint16(high[k]) << np.uint16(8))


@njit(cache=True)
def _interleave4(planes, out, columns):
    n = 8 * columns
    p0, p1, p2, p3 = planes[:n], planes[n:2 * n], planes[2 * n:3 * n], planes[3 * n:4 * n]
    for c in range(columns):
        for i in range(8):
            k = i * columns + c
            out[8 * c + i] = (np.uint32(p0[k]) | (np.uint32(p1[k]) << np.uint32(8))
                              | (np.uint32(p2[k]) << np.uint32(16)) | (np.uint32(p3[k]) << np.uint32(24)))


@njit(cache=True)
def _interleave_any(planes, out, columns, itemsize):
    n = 8 * columns
    for j in range(itemsize):
        for c in range(columns):
            for i in range(8):
                out[(8 * c + i) * itemsize + j] = planes[j * n + i * columns + c]
