"""Decodes bitshuffled chunks, with LZ4 or zstd (Masui et al., Astron. Comput. 12 (2015) 181).

A chunk is a row of blocks, each: its compressed length (uint32, big-endian), then compressed data that hold bit 0 of all
the block's elements, then bit 1, and so on. What remains beyond a multiple of 8 elements follows as it is.

LZ4 and zstd themselves are C functions of the caller's. Measured on one core (Xeon, AVX-512) for 1 Mpx of photon
counts: uint16 with LZ4 0.56 ms in LZ4 and 0.20 ms to put the bits back, where the compiled filter (SSE2) takes 0.50;
uint16 with zstd 1.9 ms where the filter, which makes a new context for each block, takes 7.
"""
import ctypes

import numpy as np
from numba import config, int32, intp, njit, types
from numba.experimental import function_type  # noqa: F401  teaches numba to take C functions as arguments

COMPILED = not config.DISABLE_JIT
HEADER_BYTES = 12                    # big-endian: uint64 decoded bytes, uint32 bytes in a block


class CFunction(types.WrapperAddressProtocol):
    """A C function of integers and addresses for kernels to call; the widths are those of the arguments, result first."""

    def __init__(self, function, *widths):
        c_types = {intp: ctypes.c_ssize_t, int32: ctypes.c_int}
        function.restype, *function.argtypes = (c_types[width] for width in widths)
        self.function, self._signature = function, widths[0](*widths[1:])
        self._address = ctypes.cast(function, ctypes.c_void_p).value
        # What numba looks for first: without it the type would be made anew for every call.
        self._numba_type_ = types.FunctionType(self._signature)

    def __wrapper_address__(self):
        return self._address

    def signature(self):
        return self._signature

    def __call__(self, *arguments):
        return self.function(*map(int, arguments))


def lz4_function(function):
    """`int LZ4_decompress_safe(const char *from, char *to, int bytes, int room)` for `decode`."""
    return CFunction(function, int32, intp, intp, int32, int32)


def zstd_function(function):
    """`size_t ZSTD_decompressDCtx(context, void *to, size_t room, const void *from, size_t bytes)` for `decode`."""
    return CFunction(function, intp, intp, intp, intp, intp, intp)


@njit(cache=True)
def decode(chunk, out, itemsize, scratch, lz4, zstd, context):
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
    lz4, zstd : CFunction
    context : int
        Address of a zstd context; 0: the chunk is LZ4.

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
    shuffled, room = scratch[:half], scratch[half:]
    while done < whole:
        size = min(block_bytes, whole - done)
        if position + 4 > chunk.size:
            return False
        length = _big_endian(chunk, position, 4)
        position += 4
        if length > chunk.size - position:
            return False
        start, to = intp(chunk.ctypes.data + position), intp(shuffled.ctypes.data)
        if context:
            found = zstd(intp(context), to, intp(size), start, intp(length))
        else:
            found = intp(lz4(start, to, int32(length), int32(size)))
        if found != size:
            return False
        position += length
        unshuffle(shuffled[:size], room, out[done:done + size], itemsize)
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
def unshuffle(shuffled, scratch, out, itemsize):
    """Put the bits of a block back: (n,) uint8 bit by bit, which is lost, to (n,) uint8 element by element."""
    n = shuffled.size // itemsize        # elements
    columns = n // 8                     # bytes in the row of one bit
    transposed = scratch[:n]
    for j in range(itemsize):
        rows = shuffled[j * n:(j + 1) * n]
        if itemsize > 1 and not _any(rows.view(np.uint64)):
            continue                     # the higher bytes of counts: the plane is what it will be
        if columns % 8 == 0:
            _transpose_words(rows.view(np.uint64), transposed.view(np.uint64), columns // 8)
        else:
            _transpose_bits(rows, transposed, columns)
        _interleave(transposed, out if itemsize == 1 else rows, columns)
    # Now byte j of all elements stands in a plane.
    if itemsize == 2:
        _join2(shuffled, out.view(np.uint16), n)
    elif itemsize == 4:
        _join4(shuffled, out.view(np.uint32), n)
    elif itemsize == 8:
        _join8(shuffled, out.view(np.uint64), n)


@njit(cache=True)
def _any(words):
    """Whether any of (n,) uint64 is not 0."""
    found = np.uint64(0)
    for k in range(np.uint64(words.size)):
        found |= words[k]
    return found != 0


@njit(cache=True)
def _transpose_bits(rows, transposed, columns):
    """transposed[i, c] = bit i of byte c of each of the 8 rows: this byte of the element 8 c + i."""
    for c in range(columns):
        for i in range(8):
            value = 0
            for k in range(8):
                value |= ((rows[k * columns + c] >> i) & 1) << k
            transposed[i * columns + c] = value


@njit(cache=True, inline="always")
def _swap(a, b, shift, keep):
    """Exchange the bits `keep` << shift of a with the bits `keep` of b."""
    t = ((a >> shift) ^ b) & keep
    return a ^ (t << shift), b ^ t


@njit(cache=True)
def _transpose_words(rows, transposed, words):
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
        transposed[c], transposed[c + words], transposed[c + 2 * words], transposed[c + 3 * words] = r0, r1, r2, r3
        transposed[c + 4 * words], transposed[c + 5 * words] = r4, r5
        transposed[c + 6 * words], transposed[c + 7 * words] = r6, r7


@njit(cache=True)
def _interleave(transposed, plane, columns):
    for c in range(columns):
        for i in range(8):
            plane[8 * c + i] = transposed[i * columns + c]


@njit(cache=True)
def _join2(planes, out, n):
    low, high = planes[:n], planes[n:]
    for k in range(n):
        out[k] = np.uint16(low[k]) | (np.uint16(high[k]) << np.uint16(8))


@njit(cache=True)
def _join4(planes, out, n):
    p0, p1, p2, p3 = planes[:n], planes[n:2 * n], planes[2 * n:3 * n], planes[3 * n:]
    for k in range(n):
        out[k] = (np.uint32(p0[k]) | (np.uint32(p1[k]) << np.uint32(8))
                  | (np.uint32(p2[k]) << np.uint32(16)) | (np.uint32(p3[k]) << np.uint32(24)))


@njit(cache=True)
def _join8(planes, out, n):
    out[:] = 0
    for j in range(8):
        plane, shift = planes[j * n:(j + 1) * n], np.uint64(8 * j)
        for k in range(n):
            out[k] |= np.uint64(plane[k]) << shift
