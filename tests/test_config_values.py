"""Text to values, and paths with their fields and variables."""
import dataclasses
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpixfel.config.paths import fill_in, path_fields, relative_to
from mpixfel.config.values import options_of, parse, split_words
from mpixfel.errors import MpixfelError
from mpixfel.stages.interface import option


@dataclasses.dataclass(frozen=True)
class Every:
    """One option of each kind."""

    flag: bool = option(False, "a switch")
    count: int = option(3, "a count", low=0, high=10)
    size: float = option(1.5, "a size", low=0.0)
    name: str = option("a", "a name", choices=("a", "bee", ""))
    words: tuple[str, ...] = option((), "words")
    numbers: tuple[float, ...] = option((1.0, 2.0), "numbers", low=0)
    pair: tuple[int, int] = option((1, 2), "a pair")
    maybe: float | None = option(None, "a number or none")


def read(key, text):
    return parse(text, *options_of(Every)[key])


def refused(key, text):
    with pytest.raises(MpixfelError) as caught:
        read(key, text)
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("text, value", [(t, True) for t in "True TRUE yes on 1".split()]
                         + [(t, False) for t in "False no OFF 0".split()])
def test_truth_is_written_as_of_old(text, value):
    assert read("flag", text) is value


@given(st.integers(0, 10), st.floats(0, 1e300), st.lists(st.floats(0, 1e9), max_size=6))
def test_numbers_come_back(count, size, numbers):
    assert read("count", f" {count} ") == count
    assert read("size", repr(size)) == size
    assert read("numbers", ", ".join(map(repr, numbers)) or "None") == tuple(numbers)
    assert read("numbers", f"({' '.join(map(repr, numbers))})") == tuple(numbers)


@given(st.lists(st.text(st.characters(exclude_characters='"', exclude_categories=("C",)), min_size=1), max_size=5))
def test_quoted_words_come_back(words):
    assert split_words(" ".join(f'"{w}"' for w in words)) == tuple(words)


def test_none_and_nothing_mean_not_given_where_the_option_allows_it():
    assert read("maybe", "None") is None and read("maybe", "") is None and read("maybe", "2") == 2.0
    assert read("words", "none") == () and read("name", "") == ""
    assert "not a value" in refused("count", "None").what


def test_wrong_types_bounds_choices_and_lengths_are_refused_with_what_is_right():
    assert "whole number" in refused("count", "3.5").remedy
    assert "from 0 to 10" in refused("count", "11").remedy
    assert "at least 0.0" in refused("size", "-1").remedy
    assert "a number" in refused("size", "nan").remedy
    assert "did you mean bee" in refused("name", "be").remedy
    assert "true or false" in refused("flag", "maybe").remedy
    assert "out of range" in refused("numbers", "1 -2").what
    assert "give 2" in refused("pair", "1 2 3").remedy
    assert "close it" in refused("words", "'a b").remedy


def test_nothing_is_evaluated():
    assert "not a number" in refused("size", "__import__('os').getpid()").what
    assert "not a whole number" in refused("count", "1+1").what


FIELDS = path_fields(12, "cxi78513", "/d/e158-r0012-s03-c01.h5", {"USER": "Ada", "SLURM_JOB_NAME": "night"}, now=1.5)


@pytest.mark.parametrize("text, filled", [
    ("r{run:04d}/x", "r0012/x"), ("{experiment!u}/{user!l}", "CXI78513/ada"), ("{expNum}-{instrument}", "78513-CXI"),
    ("{stream}.{chunk}.{seqno}.{subprocess}", "3.1.0.0"), ("{jobName}{jobNameSub}", "nightnight"),
    ("{epoch} {iso8601}", "1 1970-01-01T00:00Z01.500"), ("{{x}}", "{x}"), ("$D/${D}a", "/data//dataa"),
    ("~/a", "/home/ada/a"), ("a~b", "a~b"), ("{run!s:>4}", "  12")])
def test_fields_and_variables_are_filled_in(text, filled):
    assert fill_in(text, FIELDS, {"D": "/data", "HOME": "/home/ada"}) == filled


@pytest.mark.parametrize("text, what, remedy", [
    ("{runs}", "unknown field {runs}", "did you mean run?"), ("{run.__class__}", "unknown field", "fields"),
    ("{run[0]}", "unknown field", "run"), ("{0}", "unknown field", "fields"), ("{}", "unknown field", "fields"),
    ("{run!r}", "unknown conversion", "!u or !l"), ("{run:{user}}", "format", "{run:04d}"), ("{run:zz}", "not a format",
                                                                                            "{run:04d}"),
    ("{run", "'{run'", "{{"), ("{run:09999999999d}", "not a format", "{run:04d}"),
    ("a\0b", "not a path", "control characters"), ("$DAAT/x", "DAAT is not set", "did you mean DATA"),
    ("${NO}/x", "NO is not set", "set it")])
def test_what_cannot_be_filled_in_is_refused(text, what, remedy):
    with pytest.raises(MpixfelError) as caught:
        fill_in(text, FIELDS, {"DATA": "/data"})
    assert what in caught.value.what and remedy in caught.value.remedy


def test_a_field_whose_value_is_not_known_says_which_option_gives_it():
    nothing = path_fields(None, None, "", {})
    for text, remedy in (("{run}", "run = NUMBER"), ("{instrument}", "experiment"), ("{user}", "USER")):
        with pytest.raises(MpixfelError, match="not known") as caught:
            fill_in(text, nothing, {})
        assert remedy in caught.value.remedy


def test_paths_are_relative_to_the_folder_that_names_them():
    assert relative_to("/a/b", "../c.geom") == "/a/c.geom"
    assert relative_to("/a/b", "/x.geom") == "/x.geom"
    assert relative_to(".", "x") == "x"
    assert os.path.basename(relative_to("conf", "run*.h5")) == "run*.h5"
