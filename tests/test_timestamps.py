"""Timestamps: the old forms, both ways."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpixfel.errors import MpixfelError
from mpixfel.model import timestamp

# 2013-03-01 06:08:58 UTC is 1362118138 seconds after 1970 (by `date -u -d @1362118138`).
NS = 1362118138_401_000_000


def test_the_two_old_forms_of_a_known_moment():
    assert timestamp.long_form(NS) == "2013-03-01T06:08Z58.401"
    assert timestamp.digits(NS) == "20130301060858401"


def test_fractions_of_a_millisecond_are_cut_not_rounded():
    assert timestamp.digits(NS + 999_999).endswith("401")


@given(st.integers(0, 4_000_000_000_000))
def test_what_is_written_reads_back(milliseconds):
    ns = milliseconds * 1_000_000
    assert timestamp.parse(timestamp.long_form(ns)) == ns
    assert timestamp.parse(timestamp.digits(ns)) == ns


@pytest.mark.parametrize("text", ["", "2013-03-01", "2013-13-01T06:08Z58.401", "20130301060858", "x" * 17])
def test_other_texts_are_refused_with_the_forms_that_are_known(text):
    with pytest.raises(MpixfelError, match="no timestamp.*20130301060858401"):
        timestamp.parse(text)
