"""Files of darks, gain maps and masks; pickles that ask for more than arrays."""
import base64
import os
import pickle

import h5py
import numpy as np
import pytest
from small_detector import context_of, panel

from mpixfel.errors import MpixfelError
from mpixfel.io.darks import load_constants, read_array
from mpixfel.io.old_pickle import read_old_pickle
from mpixfel.stages.calibration import Calibration

# Written by cctbx 2025.11: a dictionary of DATA = flex.double((2, 3): 0, 1, -1.5, 300.25, -0.001, 1e10), MASK =
# flex.int (2, 3), FLAGS = flex.bool(3), DISTANCE = 5.5, TIMESTAMP = "2013"; protocols 0 and 2.
FLEX = {
    0: (
        r"C}eOj3RXlxR6z=GF$!aIV`+3^cwb?1a$$L2W?^k<Y<XX1Y-M;~Wq5Q7WN&q1Y-I{?G72bkQgAa0C}VSDX>?+EUtw}`VR>I>VQpz_"
        r"d0%F1Wq4m@cytP9a%p4=a5M@iC`m91NiYg@a5V}jNiqsaGYWKYHVR2FF$#2WHwsd4I0`69G73pE3UqKe3SwhlV{c?-V{-~+Zewp`"
        r"WeRXHFbXJE0tQ@lFfcGM0)PSmg1`a+1C}5H35bIdZkLTu;DQMRl>+$!A_{OZF$z{}VRUJ3F$!=oG75BXF*6EMa4|FrbZ{{>3Sx6s"
        r"O+iyj3UDzt3S)C)X>?+EUtw}`VR>I>VQpz_d0%F1Wq4m@cytPBZgdK8F*gb*bW(6JI0`6dGzusvNiYgYFbZ^VF*yn-NiqsaGYWKY"
        r"GB65BFfj^ra56CpQgAXd3Mff33Q02xbZ{~=3Swt5FbXJE0tQ@lFfcGMf&u~o1aJ`ngrJ520{;qdGBgTjF)|8ta56OtQgAXh3UqKX"
        r"Hwt2NRz^%gM^g%LGB^rjb7N_AVt8L+a&lpLUuI!#X>564W^846UuAf73Sw_>YzlBPISMFrQgAac3MgkZ3MeQ^FbZ^VGcgJ%Nizy`"
        r"a5FLrNiZ=AbZ|2>3Q}-0Gzut5GYWKYGc^igXE87eC{_XkF)%R-a5FXvXE8DgbZ|2_3Q}-0I0|%dGdT)kb5=x2Q&d4tLq!U3G%yNA"
        r"H7+#@b5>MIO+`~wK}}E!a5OOrRx&U#GYW7tG757p"),
    2: (
        r"fC7DS04P`l0000)K~zC;0b_GxX>?+EUtw}`VR>I>VQpz_d0%F1Wq4m@cytP6Z*^j9WeRZuDN=C*V{>C^bYgg4VRCX|d0%E>ZE0+I"
        r"UuJA&cwc3BbP8v3X=Dm<1WN!*0ETe|O9D#+hH(anhj9l|aR^HSO9O^+31VYkV{c?-V{-~+Zewp`WeRZ$SS$bl00IU80>Xd-0m6dA"
        r"fC2#n!j>Qc3BriNgA#7Sm%@!t!=S=~2?WBG0>iliB5?~?1^@s6Y+-b1ZZUBThH(v2aSn!Y4`NsZ0000@K~qa{5My&=X>?+EUtw}`"
        r"VR>I>VQpz_d0%F1Wq4m@cytPBZgdK95h+q}5@-ZV080RdaT7}dO9O^+6o`j$6;g2)O9D#+hH)2SXbM;s000021^~i>0s;X9a1jB*"
        r"gu<Z0h5-V@zi}9742E$TQgIrFaT{V-1poj5Mod9RQ*j()b7N_AVt8L+a&lpLUuI!#X>564W^846UuAf73Sw_>YzlE5DN=DBXaq|D"
        r"g>fHC1BG!Qh=*|@QgI?n1BG!TVrU9j1poj50s}EHF>xel42E$fQgJ4RaVKI}2mk;8L`hRrK~6(OaVSSX761SM000132><{9R7p)m"
        r"Q&d4sP;n_(1ONa4GB7bSaVm8#"),
}
VALUES = np.array([[0, 1, -1.5], [300.25, -0.001, 1e10]])


@pytest.mark.parametrize("protocol", FLEX)
def test_flex_arrays_of_old_pickles_are_read_to_the_last_bit(tmp_path, protocol):
    path = tmp_path / "Ds1-r0002-avg.pickle"
    path.write_bytes(base64.b85decode(FLEX[protocol]))
    found = read_old_pickle(path)
    np.testing.assert_array_equal(found["DATA"], VALUES)
    np.testing.assert_array_equal(found["MASK"], [[0, -2, 1], [70000, -100000, 255]])
    np.testing.assert_array_equal(found["FLAGS"], [True, False, True])
    assert found["DISTANCE"] == 5.5 and found["TIMESTAMP"] == "2013"
    assert found["DATA"].dtype == np.float64 and found["MASK"].dtype == np.int32


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL))
@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i4", "u1", "?"])
def test_numpy_arrays_in_pickles_are_read(tmp_path, protocol, dtype):
    values = (np.arange(12).reshape(3, 4) % 5).astype(dtype)
    path = tmp_path / "dark.pickle"
    path.write_bytes(pickle.dumps({"DATA": values, "FORTRAN": np.asfortranarray(values)}, protocol))
    found = read_old_pickle(path)
    np.testing.assert_array_equal(found["DATA"], values)
    np.testing.assert_array_equal(found["FORTRAN"], values)


class Caller:
    """Pickled, it calls what it is told to when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function, arguments, name", [
    (os.system, ("touch BROKEN",), "system"), (eval, ("1 + 1",), "eval"), (open, ("BROKEN", "w"), "open"),
    (getattr, ({}, "keys"), "getattr"), (np.load, ("x.npy",), "load"), (np.fromfile, ("x",), "fromfile")])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_asks_for_anything_else_is_refused_with_what_it_asked_for(tmp_path, monkeypatch, function,
                                                                               arguments, name, protocol):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pickle"
    path.write_bytes(pickle.dumps({"DATA": Caller(function, *arguments)}, protocol))
    with pytest.raises(MpixfelError, match=f"asks for .*{name}"):
        read_old_pickle(path)
    assert os.listdir(tmp_path) == ["bad.pickle"]


def test_a_numpy_pickle_of_objects_is_refused(tmp_path):
    path = tmp_path / "objects.pickle"
    path.write_bytes(pickle.dumps(np.array([os.system, {}], dtype=object), 2))
    with pytest.raises(MpixfelError, match="refused"):
        read_old_pickle(path)


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_truncated_pickle_is_refused(tmp_path, cut):
    path = tmp_path / "dark.pickle"
    path.write_bytes(base64.b85decode(FLEX[2])[:-cut])
    with pytest.raises(MpixfelError, match="refused"):
        read_old_pickle(path)


# Files

def detector():
    return context_of(panel("a", (2, 3)), panel("b", (2, 2), (2, 1))).detector


BLOCK = np.arange(12.0).reshape(4, 3)
CUT = [[[0, 1, 2], [3, 4, 5]], [[7, 8, 0], [10, 11, 0]]]      # padding holds 0


def write(path, values):
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".pickle":
        path.write_bytes(pickle.dumps({"DATA": values}, 2))
    else:
        with h5py.File(path, "w") as f:
            f["data/data"] = values
    return str(path)


@pytest.mark.parametrize("suffix", [".h5", ".npy", ".pickle"])
def test_darks_of_every_kind_are_cut_into_panels(tmp_path, suffix):
    dark, sigma = write(tmp_path / f"dark{suffix}", BLOCK), write(tmp_path / f"sigma{suffix}", BLOCK + 1)
    constants = load_constants(Calibration(dark_path=dark, dark_stddev_path=sigma), detector())
    np.testing.assert_array_equal(constants.pedestal[0, 0], CUT)
    assert constants.noise[1, 1, 1] == 12 and constants.pedestal.dtype == np.float32 and constants.unit == "adu"


def test_a_stack_of_panels_is_taken_as_it_is(tmp_path):
    path = write(tmp_path / "gain.npy", np.array(CUT))
    constants = load_constants(Calibration(gain_map_path=path), detector())
    np.testing.assert_array_equal(constants.factor[0, 0], CUT)


def test_gain_stages_may_be_one_dataset_each(tmp_path):
    with h5py.File(tmp_path / "p.h5", "w") as f:
        for k in range(3):
            f[f"pedestal/G{k}"] = BLOCK + 100 * k
            f[f"gain/G{k}"] = BLOCK + 1 + k
        f["pedestal/G0_rms"] = BLOCK
    stage = Calibration(dark_path=f"{tmp_path}/p.h5", gain_map_path=f"{tmp_path}/p.h5:/gain",
                        gain_map_unit="adu_per_kev", gain_switching="jungfrau")
    constants = load_constants(stage, detector())
    assert constants.pedestal.shape == (1, 3, 2, 2, 3) and constants.unit == "kev"
    assert constants.pedestal[0, :, 1, 0, 0].tolist() == [7, 107, 207]
    np.testing.assert_allclose(constants.factor[0, :, 1, 0, 0], [1 / 8, 1 / 9, 1 / 10])


def test_a_gain_map_of_levels_and_masks_of_both_kinds(tmp_path):
    levels = write(tmp_path / "gain.npy", (BLOCK > 4).astype(int))
    old, new = BLOCK.copy(), BLOCK > 9
    old[0, 0], old[3, 2] = -2, -100000
    for mask, bad in ((write(tmp_path / "m.pickle", old), [0, 10]), (write(tmp_path / "m.h5", new), [9, 10])):
        stage = Calibration(gain_map_path=levels, gain_map_level=6.87526, mask_path=mask)
        constants = load_constants(stage, detector())
        assert np.flatnonzero(constants.bad).tolist() == bad
    np.testing.assert_allclose(constants.factor[0, 0, 0], [[6.87526] * 3, [6.87526, 6.87526, 1]])


def test_nothing_named_gives_no_constants():
    assert load_constants(Calibration(), detector()) is None


def test_a_dark_that_does_not_fit_is_refused_with_both_shapes(tmp_path):
    path = write(tmp_path / "dark.npy", np.zeros((3, 3)))
    with pytest.raises(MpixfelError, match=r"\(3, 3\)") as error:
        load_constants(Calibration(dark_path=path, dark_stddev_path=path), detector())
    assert "(4, 3)" in str(error.value) and "(2, 2, 3)" in str(error.value)


@pytest.mark.parametrize("name, match", [("none.h5", "no such file"), ("two.h5", "2 datasets"),
                                         ("bad.h5", "cannot be read"), ("two.h5:/c", "there is no /c"), ("text.npy", "cannot be read")])
def test_files_that_cannot_be_used_are_named(tmp_path, name, match):
    with h5py.File(tmp_path / "two.h5", "w") as f:
        f["a"], f["b"] = BLOCK, BLOCK
    (tmp_path / "bad.h5").write_bytes(b"no HDF5")
    (tmp_path / "text.npy").write_bytes(b"no NumPy")
    with pytest.raises(MpixfelError, match=match):
        read_array(str(tmp_path / name))


def test_a_dark_needs_its_standard_deviation():
    with pytest.raises(MpixfelError, match="dark_stddev_path"):
        Calibration(dark_path="dark.h5")
