"""PHIL: what is written is read, with its line; includes are followed; nothing is evaluated."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpixfel.config import phil_names
from mpixfel.config.phil import parse_phil, read_phil
from mpixfel.errors import MpixfelError

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True).filter(lambda n: n != "include")
BARE = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="{};=#\"'\\*"),
               min_size=1, max_size=8)
ANY = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
TREES = st.recursive(st.lists(BARE, min_size=1, max_size=4), lambda inner: st.dictionaries(NAMES, inner, min_size=1,
                                                                                            max_size=4), max_leaves=8)


def values(text):
    return {d.name: d.text for d in parse_phil(text)}


def flat(tree, above=()):
    """{dotted name: words} of nested dictionaries."""
    if isinstance(tree, list):
        return {".".join(above): tuple(tree)}
    return {k: v for name, inner in tree.items() for k, v in flat(inner, (*above, name)).items()}


def written(tree, style, depth=0):
    """PHIL text of nested dictionaries: on many lines, or on one."""
    out = ""
    for name, inner in tree.items():
        if isinstance(inner, list):
            out += f"{name} = {' '.join(inner)}" + style
        else:
            out += f"{name} {{" + ("\n" if style == "\n" else " ") + written(inner, style, depth + 1) + "}" + style
    return out


@given(st.dictionaries(NAMES, TREES, max_size=4), st.sampled_from(["\n", " ; ", "\n# remark\n"]))
def test_what_is_written_is_read(tree, style):
    assert {d.name: d.words for d in parse_phil(written(tree, style))} == flat(tree)


@given(st.lists(ANY, min_size=1, max_size=4))
def test_quoted_words_keep_every_sign(words):
    quoted = " ".join('"' + w.replace("\\", "\\\\").replace('"', '\\"') + '"' for w in words)
    definition, = parse_phil(f"a.b = {quoted}\n")
    assert definition.words == tuple(words)


def test_a_target_of_the_old_days_is_read():
    text = """
target_cell = 38 79 79 90 90 90   # lysozyme
target_cell_centring_type = P
known_setting = 9
#indexing.outlier_detection_switch = True   # second lattice
distl { res.outer=2.0 minimum_signal_height=5 minimum_spot_area=1
        spot_area_maximum_factor=20 compactness_filter=False }
integration { background_factor=2; model=user_supplied
  mosaic.refinement_target = LSQ *ML
}
"""
    assert values(text) == {
        "target_cell": "38 79 79 90 90 90", "target_cell_centring_type": "P", "known_setting": "9",
        "distl.res.outer": "2.0", "distl.minimum_signal_height": "5", "distl.minimum_spot_area": "1",
        "distl.spot_area_maximum_factor": "20", "distl.compactness_filter": "False",
        "integration.background_factor": "2", "integration.model": "user_supplied",
        "integration.mosaic.refinement_target": "ML"}


def test_each_definition_knows_its_line():
    definitions = parse_phil('a = 1\n\nb {\n  c = "x\n y"\n  d = 2 \\\n 3\n}\ne = 4\n', "t.phil")
    assert [(d.name, d.where) for d in definitions] == [("a", "t.phil:1"), ("b.c", "t.phil:4"), ("b.d", "t.phil:6"),
                                                        ("e", "t.phil:9")]
    assert definitions[2].words == ("2", "3")


def test_attributes_disabled_objects_and_switched_off_text_set_nothing():
    assert values('a = 1\n  .type = int\n  .help = "x = 2"\n          "y { z"\n!b = 2\n!c { d = 3 }\n'
                  'e\n .multiple = True\n{ f = 4 }\n#phil __OFF__\ng = 5\n#phil __ON__\nh = 6\n#phil __END__\ni = 7\n'
                  ) == {"a": "1", "e.f": "4", "h": "6"}


def test_repeated_scopes_can_be_told_apart():
    one, two = parse_phil("isoforms { cell = 1 }\nisoforms { cell = 2 }\n")
    assert (one.name, one.text) == ("isoforms.cell", "1") and (two.name, two.text) == ("isoforms.cell", "2")
    assert one.block != two.block


def test_includes_are_followed_relative_to_the_file_that_names_them(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "top.phil").write_text("a = 1\ninclude file sub/one.phil\nb { include file $HERE/sub/two.phil\n}\n")
    (tmp_path / "sub" / "one.phil").write_text("c = 2\ninclude file two.phil\nisoforms { cell = 1 }\n"
                                               "isoforms { cell = 2 }\n")
    (tmp_path / "sub" / "two.phil").write_text("d = 3\n")
    definitions, texts = read_phil(str(tmp_path / "top"), {"HERE": str(tmp_path)})
    assert [(d.name, d.text) for d in definitions] == [("a", "1"), ("c", "2"), ("d", "3"), ("isoforms.cell", "1"),
                                                       ("isoforms.cell", "2"), ("b.d", "3")]
    assert definitions[1].where == str(tmp_path / "sub" / "one.phil") + ":1"
    assert definitions[3].block != definitions[4].block
    assert sorted(p.rpartition("/")[2] for p in texts) == ["one.phil", "top.phil", "two.phil"]


def test_a_file_without_its_suffix_is_found(tmp_path):
    (tmp_path / "x.params").write_text("a = 1\n")
    assert read_phil(str(tmp_path / "x"))[0][0].text == "1"


@pytest.mark.parametrize("text, line, what, remedy", [
    ("a = 1\nb {\n c = 2\n", 2, "not closed", "}"), ("a = 'x\n", 1, "quote", "close it"),
    ("a =\nb = 1\n", 1, "no value", "None"), ("a\n", 1, "neither", "a = value"), ("}\n", 1, "unexpected }", "{ ... }"),
    ("a = 1 = 2 = 3\n", 1, "second =", "quotes"), ("1a = 2\n", 1, "not a name", "name = value"),
    ("include scope x.y.z\n", 1, "include scope", "write the lines"),
    ("include file a.phil\n", 1, "include file", "write")])
def test_what_makes_no_sense_is_refused(text, line, what, remedy):
    with pytest.raises(MpixfelError) as caught:
        parse_phil(text, "t.phil")
    assert what in caught.value.what + caught.value.remedy and remedy in caught.value.remedy
    assert caught.value.where == f"t.phil:{line}"


def test_a_file_that_includes_itself_and_one_that_is_missing_are_refused(tmp_path):
    (tmp_path / "a.phil").write_text("include file b.phil\n")
    (tmp_path / "b.phil").write_text("\ninclude file a.phil\n")
    with pytest.raises(MpixfelError, match="includes itself") as caught:
        read_phil(str(tmp_path / "a.phil"))
    assert caught.value.where.endswith("b.phil:2")
    (tmp_path / "b.phil").write_text("include file c.phil\n")
    with pytest.raises(MpixfelError, match="cannot be read") as caught:
        read_phil(str(tmp_path / "a.phil"))
    assert caught.value.where.endswith("b.phil:1") and "c.phil" in caught.value.what


def test_every_known_name_has_a_target_or_a_reason():
    assert all(p.note for p in phil_names.NAMES.values())
    assert phil_names.find("viewer.powder_arcs.show").name == "viewer.*"
    assert phil_names.find("distl.minimum_spot_aera") is None and phil_names.find("target_cell.x") is None
