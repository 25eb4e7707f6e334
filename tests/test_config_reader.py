"""The run.cfg reader: what was written is read, with its line; what makes no sense is refused, all of it."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpixfel.config.run_cfg import module_and_instance, parse_run_cfg, read_run_cfg
from mpixfel.errors import ManyErrors, MpixfelError

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="#;\\\"'[]=:"),
                min_size=1, max_size=12)
VALUES = st.lists(WORDS, max_size=5).map(" ".join)


def sections_of(text):
    return {s.name: {e.key: e.text for e in s.entries} for s in parse_run_cfg(text)}


def errors_of(text):
    with pytest.raises(ManyErrors) as caught:
        parse_run_cfg(text, "x.cfg")
    return caught.value.errors


@given(st.dictionaries(NAMES.filter(lambda n: n not in ("pyana", "psana")), st.dictionaries(NAMES, VALUES)),
       st.sampled_from(["{k} = {v}", "{k}={v}", "{k} : {v}", "{k} =   {v}  ; why", "{k} = {v} # why",
                        "# before\n{k} = {v}\n\n"]))
def test_what_is_written_is_read(wanted, form):
    text = "".join(f"[{name}]\n" + "".join(form.format(k=k, v=v) + "\n" for k, v in entries.items())
                   for name, entries in wanted.items())
    assert sections_of(text) == wanted


@given(st.lists(WORDS, min_size=1, max_size=6), st.sampled_from(["\n  ", " \\\n  ", " \\\n", "\n\t", "\n# a remark\n  ",
                                                                " \\\n# a remark\n"]))
def test_a_list_over_several_lines_has_all_its_words(words, joint):
    text = "[mpixfel]\nmodules = " + joint.join(words) + "\nsource = a.h5\n"
    entries = {e.key: e for e in parse_run_cfg(text)[0].entries}
    assert entries["modules"].text.split() == words
    assert entries["source"].text == "a.h5"


def test_each_entry_knows_its_line():
    section, = parse_run_cfg("; remark\n[mpixfel]\n\nsource = a.h5\n  b.h5\ngeometry = g.geom\n", "run.cfg")
    assert section.where == "run.cfg:2"
    assert [e.where for e in section.entries] == ["run.cfg:4", "run.cfg:6"]


def test_a_whole_file_may_be_indented():
    assert sections_of("    [mpixfel]\n    source = a.h5\n    output = o\n") == {
        "mpixfel": {"source": "a.h5", "output": "o"}}


def test_a_comment_sign_within_a_word_or_quotes_is_no_comment():
    entries = sections_of("[mpixfel]\na = x#1;2\nb = 'p # q' r # s\n")["mpixfel"]
    assert entries == {"a": "x#1;2", "b": "'p # q' r"}


def test_the_package_of_a_module_is_dropped():
    assert module_and_instance("my_ana_pkg.mod_hitfind:index") == ("mod_hitfind", "index")
    assert module_and_instance("mod_dump") == ("mod_dump", "")
    section, = parse_run_cfg("[a.b.mod_dump:hit]\n")
    assert (section.module, section.instance) == ("mod_dump", "hit")


def test_all_bad_lines_are_told_at_once_with_what_where_and_what_to_do():
    errors = errors_of("early = 1\n[mpixfel]\nnonsense\nseed = 1\nseed = 2\n[]\n")
    assert [e.where for e in errors] == ["x.cfg:1", "x.cfg:3", "x.cfg:5", "x.cfg:6"]
    assert [word in e.what for word, e in zip(("early", "nonsense", "twice", "without a name"), errors)] == [True] * 4
    assert all(e.remedy for e in errors)
    assert "x.cfg:4" in errors[2].remedy


@pytest.mark.parametrize("second", ["mpixfel", "pyana", "psana"])
def test_a_section_stands_once_under_whichever_name(second):
    error, = errors_of(f"[mpixfel]\nseed = 1\n[{second}]\nchunk = 2\n")
    assert "twice" in error.what and error.where == "x.cfg:3" and "x.cfg:1" in error.remedy


def test_a_key_that_is_indented_by_accident_is_not_swallowed():
    error, = errors_of("[mpixfel]\nsource = a.h5\n  geometry = g.geom\n")
    assert "geometry" in error.what and error.where == "x.cfg:3" and "blanks" in error.remedy


def test_a_blank_line_ends_a_list_though_a_backslash_stands_at_its_end():
    assert sections_of("[mpixfel]\nmodules = a \\\n\nseed = 1\n")["mpixfel"] == {"modules": "a", "seed": "1"}


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(MpixfelError) as caught:
        read_run_cfg(tmp_path / "no.cfg")
    assert "no.cfg" in caught.value.where and "No such file" in caught.value.what and caught.value.remedy
    (tmp_path / "binary.cfg").write_bytes(b"[mpixfel]\n\xff\xfe")
    with pytest.raises(MpixfelError, match="not a text file"):
        read_run_cfg(tmp_path / "binary.cfg")
