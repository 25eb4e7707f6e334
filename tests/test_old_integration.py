"""Old integration pickles are read, and nothing in them is executed."""
import base64
import os
import pickle
import zlib

import gemmi
import numpy as np
import pytest

from mpixfel.errors import MpixfelError
from mpixfel.io.old_integration import read_old_integration

# Written by cctbx (Debian 12) from made-up numbers: dictionary, miller.array, crystal_orientation, flex arrays.
OF_CCTBX = (
    "c-oCrTXWk)7<CjUY1Be*v_QGkKmi9rpeEceb}3YV(-2fBf?}4Hw3ZiS$w!hMI}jR}u}S*}82ZHU1V4c{CcG9N_#r&;1Ne4jf(P0RJLA>yx1WyAciSyv6NR"
    "!fQz#VruHbD<SvBWeQ!Q;AXrn>KmFu*Ab@q|bmubc$Phi@rUD_(B<(Ras^PUJr6l5(Ft?HlG|9K-3sr0)%#Eez_>07m~IrC(1$0?Vd%m$dXsy~ho6jdjdQ"
    "5Ga|w}UySNQSlLN(K9z0|a9?6-ke0GLBNrH(+|6m%06=whTj&m^?}Nz{LKAFL7WKx0E#>>qatTo(MzSn!B^E-bFt%ch5{5EL*h;KkJYtz}dnWT->?|$Z%+"
    "g!#0jMht=284)+Ap`k9QHF^-NkrUC8dzmHAaMrx0Zg=rrxY{JjPac4hKm)1(l(R!)E-F4hP#2q&7TyTdt;p#jSn=d_);;u25P6lgo$_+h2k@M!6QqH1p;_"
    "d|-_joCl;ifMHiS$j}TQ3Z8vTh7f+Ws2%*|=Zf2V9SNu`j&T6p;cZPB{ljjA0m4^qb!Ks%Xp@vv|;%C2L59i%#RA5gxWt9$~@N&WuNKn}=~XrLXb;k8C@0"
    "%IwN05(yq%)$Pc9o^dShE!K~_Zb&K~qqvq@TJ+;e=o2LRw2g|wPr9vBx|vAe&JRY>*!kX=!E%daJ!RwR5uS1L@24_o^Ayjv6x(w-+w+Ry1!8;A#!CvnJju"
    "32QPXCis@Q5a&W!Mio6Fa|aCS9sl8HWM*`Oov>T1{J&Ji^iywedr>m-88nK$}t4V>FM?w;@}?C;<$lKXlt_YEcSO_E!;v7+#KCHHtP_ZKbqyBult(^yr)-"
    "?Fhb!rLUs)Pnjd6%mcF-M|H%jdybTcNOJDqJPhZqwxDT%*F?b^pcGaM`#e~Q9Ad!Ng|?*#fhYcP6R$`fQ@^1!mQ)-k^$X2;iTQf$7QQ}<+nK&|6Z~R<8=e"
    "@zkII!;hnrXKb?VZkKo$yxN~AcrsuM_!?KvlBHJ>PJpsP~@t>*nT09B_i<`{lsZ8l56Zvi0UmPrMAQ+-$L*|wCVj|ZiW>mi{PEvf*z^4s_n`k>z<iQcur&"
    "7+HL-a>9o65T<SSCXm1&H_V3A#m1bf{R!i<Q)iL!?x!%tlw?o+_5AFwKCTR-=e@RjR&?!3Z0!bBqqpudo&mn{4;KX1)mUSp%Q%UfX#%<ml5J%ZR#VL(otM"
    "*lgentM*MtCpq_$KIKz3CAGLr<7S++aaqTD23y^wzW~9l7Bv")


def test_a_pickle_of_cctbx_gives_its_reflections_and_its_model(tmp_path):
    path = tmp_path / "int-2013-03-01T06:08Z58.401_00000.pickle"
    path.write_bytes(zlib.decompress(base64.b85decode(OF_CCTBX)))
    found = read_old_integration(path)
    (observations,), (orientation,) = found["observations"], found["current_orientation"]
    assert observations["miller_index"].tolist() == [[1, 2, 3], [-4, 5, 6]]
    assert observations["intensity"].tolist() == [10.5, 20.25] and observations["sigma"].tolist() == [1.0, 2.0]
    assert observations["unit_cell"].tolist() == [79.0, 79.0, 38.0, 90.0, 90.0, 90.0]
    assert gemmi.symops_from_hall(observations["space_group"]) == gemmi.SpaceGroup("P 43 21 2").operations()
    np.testing.assert_array_equal(np.diag(orientation), (0.0126, 0.0126, 0.0263))
    assert found["mapped_predictions"][0].tolist() == [[1.5, 2.5], [3.0, 4.0]]
    assert (found["xbeam"], found["distance"], found["wavelength"], found["pointgroup"]) == (97.1, 110.0, 1.3, "P422")
    assert found["ML_half_mosaicity_deg"] == [0.05] and found["effective_tiling"].tolist() == [1, 2, 3, 4]


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_a_pickle_that_would_do_something_is_refused_and_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "harm.pickle").write_bytes(pickle.dumps({"observations": [Harm()]}))
    with pytest.raises(MpixfelError, match="mkdir"):
        read_old_integration(tmp_path / "harm.pickle")
    assert [p.name for p in tmp_path.iterdir()] == ["harm.pickle"]


def test_another_pickle_is_told_from_one_of_integration(tmp_path):
    (tmp_path / "other.pickle").write_bytes(pickle.dumps({"DATA": 1}))
    with pytest.raises(MpixfelError, match="no integration pickle"):
        read_old_integration(tmp_path / "other.pickle")
