"""Lines of the log that people and programs read."""
import json
import logging

import pytest

from mpixfel.model import tables
from mpixfel.model.event import EventId, Outcome, Reason, Record, Skip
from mpixfel.report.log import LOGGER, Log, event_line

import numpy as np


def record(n_peaks, outcome=Outcome.hit, skip=None):
    return Record(EventId(0, 7, "run.h5 //7"), outcome=outcome, skip=skip, peaks=np.zeros(n_peaks, tables.PEAK))


def test_hits_and_misses_have_the_words_that_people_grep():
    assert event_line(record(20), 7, 3, 16) == "Subprocess 03: Spotfinder YES HIT image #00007 @ run.h5 //7; 20 spots >= 16"
    miss = record(2, Outcome.miss, Skip("hitfinding", Reason.too_few_peaks))
    assert event_line(miss, 12, 0, 16) == "Subprocess 00: Spotfinder NO  HIT image #00012 @ run.h5 //7; 2 spots < 16"


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
