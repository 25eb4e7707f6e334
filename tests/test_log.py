"""Lines of the log that people and programs read."""
import json
import logging

import pytest

from mpixfel.config.resolve import resolve
from mpixfel.config.run_cfg import parse_run_cfg
from mpixfel.model import tables
from mpixfel.model.event import EventId, Outcome, Reason, Record, Skip
from mpixfel.pipeline import decision
from mpixfel.report.log import LOGGER, Log, event_line

import numpy as np


def record(n_peaks, outcome=Outcome.hit, skip=None):
    return Record(EventId(0, 7, "run.h5 //7"), outcome=outcome, skip=skip, peaks=np.zeros(n_peaks, tables.PEAK))


def test_hits_and_misses_have_the_words_that_people_grep():
    words = "Subprocess 03: Spotfinder YES HIT image #00007 @ run.h5 //7; 20 spots >= 16"
    assert event_line(record(20), 7, 3, 16) == words
    # Of a miss, those spots that count; the moment as of old.
    miss = record(200, Outcome.miss, Skip("hitfinding", Reason.too_few_peaks, "", {"peaks": 2}))
    miss = miss.but(id=EventId(0, 7, "run.h5 //7", 1362118138_401_000_000))
    words = "Subprocess 00: Spotfinder NO  HIT image #00012 @ 2013-03-01T06:08Z58.401; 2 spots < 16"
    assert event_line(miss, 12, 0, 16) == words


def test_the_number_that_makes_a_hit_is_that_of_the_instance_that_decides():
    flags = [("mpixfel", key, "x", "") for key in ("source", "geometry", "output")]
    text = "[pyana]\nmodules = mod_hitfind:a mod_hitfind:b\n[mod_hitfind:a]\ndistl_min_peaks = 17\ndistl_flags = permissive\n"
    assert decision(resolve(parse_run_cfg(text), flags)).min_peaks == 17
    plain = resolve((), [*flags, ("hitfinding", "min_peaks", "9", "")])
    assert decision(plain).min_peaks == 9


def test_programs_get_one_object_an_event():
    miss = record(2, Outcome.miss, Skip("hitfinding", Reason.too_few_peaks))
    found = json.loads(event_line(miss, 12, 0, 16, "json"))
    assert (found["event"], found["outcome"], found["reason"], found["peaks"]) == (12, "miss", "too_few_peaks", 2)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_message_of_several_lines_is_one_entry(tmp_path, form):
    (tmp_path / "log").mkdir()
    with Log(tmp_path, 0, form, quiet=True):
        LOGGER.info("one\ntwo")
        LOGGER.info("three")
    lines = (tmp_path / "log" / "run.log").read_text().splitlines()
    entries = [json.loads(line)["message"] for line in lines] if form == "json" else [l for l in lines if l[0] != " "]
    assert len(entries) == 2 and (form == "text" or entries == ["one\ntwo", "three"])
    assert logging.getLogger("mpixfel").handlers == []
