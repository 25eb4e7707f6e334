"""Whatever is written, the readers answer with values or with an error that the user can repair: never otherwise."""
import re

from hypothesis import given
from hypothesis import strategies as st

from mpixfel.config.paths import fill_in, path_fields
from mpixfel.config.phil import parse_phil
from mpixfel.config.resolve import resolve
from mpixfel.config.run_cfg import parse_run_cfg
from mpixfel.config.settings import RunOptions
from mpixfel.config.values import options_of, parse
from mpixfel.errors import MpixfelError

WORDS = ["[mpixfel]", "[mod_hitfind:a]", "=", "{", "}", "\n", " ", "\\\n", "#", ";", "'", '"', '"""', "include file ",
         "a", "seed", ".", "!", "*", "None", "$", "${X}", "modules", "mod_hitfind:a", "\t", "#phil __OFF__\n", "distl_flags"]
PIECES = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=4)), max_size=30).map("".join)


def answers(function, *arguments):
    """The answer, or None for an error that says what is wrong and what to do."""
    try:
        return function(*arguments)
    except MpixfelError as e:
        assert all(one.what and one.remedy for one in getattr(e, "errors", (e,)))
        return None


@given(PIECES)
def test_any_text_is_a_configuration_or_is_refused(text):
    sections = answers(parse_run_cfg, text)
    for section in sections or ():
        assert re.fullmatch(r"run\.cfg:\d+", section.where)


@given(PIECES)
def test_any_text_is_phil_or_is_refused(text):
    for definition in answers(parse_phil, text) or ():
        assert definition.words and re.fullmatch(r"phil:\d+", definition.where)


@given(PIECES)
def test_any_text_is_a_path_or_is_refused(text):
    answers(fill_in, text, path_fields(1, "cxi00001", "", {}, 0.0), {"X": "x"})


@given(PIECES, st.sampled_from(sorted(options_of(RunOptions))))
def test_any_text_is_a_value_or_is_refused(text, name):
    answers(parse, text, *options_of(RunOptions)[name])


@given(PIECES)
def test_any_configuration_is_resolved_or_is_refused_with_places(text):
    sections = answers(parse_run_cfg, text)
    if sections:
        answers(lambda: resolve(sections, [("mpixfel", "output", "o", "--output")], environment={}))
