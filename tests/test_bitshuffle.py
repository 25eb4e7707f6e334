"""Decoding bitshuffled LZ4 chunks: against bits counted one by one, against HDF5, and with damaged chunks."""
import hdf5plugin
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpixfel.io.sources import bitshuffle as reading
from mpixfel.io.sources.slabs import Buffers
from mpixfel.kernels import bitshuffle

needs_library = pytest.mark.skipif(reading._library() is None, reason="no compiler, or no filter library")
BOTH = pytest.mark.parametrize("cname, compression", [("lz4", reading.LZ4), ("zstd", reading.ZSTD)])


def shuffle(elements):
    """The naive twin's inverse: bit k of byte j of every element in a row, 8 elements a byte, first element lowest."""
    octets = elements.view(np.uint8).reshape(elements.size, elements.itemsize)
    rows = [np.packbits(octets[:, j] >> k & 1, bitorder="little") for j in range(elements.itemsize) for k in range(8)]
    return np.concatenate(rows)


@given(st.sampled_from(["u1", "u2", "u4", "u8", "f4", "f8"]), st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_bits_are_put_back_where_they_were_taken_from(dtype, eights, seed):
    itemsize = np.dtype(dtype).itemsize
    elements = np.random.default_rng(seed).integers(0, 256, 8 * eights * itemsize, dtype=np.uint8).view(dtype)
    out, planes = np.zeros(elements.nbytes, np.uint8), np.zeros(elements.nbytes, np.uint8)
    bitshuffle.unshuffle(shuffle(elements), planes, out, itemsize)
    assert out.tobytes() == elements.tobytes()


def chunk_of(tmp_path, data, **options):
    """The compressed bytes of an array that is one chunk."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("x", data=data, chunks=data.shape, **hdf5plugin.Bitshuffle(**options))
        return np.frombuffer(dataset.id.read_direct_chunk((0,) * data.ndim)[1], np.uint8).copy()


@needs_library
@pytest.mark.parametrize("size", [8, 64, 1000, 4096, 5003, 12345])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f8"])
@BOTH
def test_chunks_decode_to_what_was_written(tmp_path, size, dtype, cname, compression):
    data = np.random.default_rng(size).poisson(3, size).astype(dtype)
    out = np.empty_like(data)
    chunk = chunk_of(tmp_path, data, cname=cname)
    assert reading.decode(chunk, out, compression, Buffers()) and (out == data).all()


@needs_library
@BOTH
def test_a_chunk_of_another_size_is_refused(tmp_path, cname, compression):
    chunk = chunk_of(tmp_path, np.arange(4096, dtype="u2"), cname=cname)
    for part, size in ((chunk, 4095), (chunk, 4104), (chunk[:-1], 4096), (chunk[:5], 4096)):
        assert not reading.decode(part, np.empty(size, "u2"), compression, Buffers())


@needs_library
@BOTH
@given(data=st.data())
def test_damaged_chunks_are_refused_or_decode_but_never_harm(tmp_path_factory, cname, compression, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    chunk = chunk_of(tmp_path_factory.mktemp("x"), rng.poisson(2, 9000).astype("u2"), cname=cname)
    for place in data.draw(st.lists(st.integers(0, chunk.size - 1), min_size=1, max_size=20)):
        chunk[place] = rng.integers(256)
    buffers, guarded = Buffers(), np.full(9000 + 2000, 0xabcd, "u2")
    reading.decode(chunk, guarded[1000:-1000], compression, buffers)
    assert (guarded[:1000] == 0xabcd).all() and (guarded[-1000:] == 0xabcd).all()
