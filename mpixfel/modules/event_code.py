"""mod_event_code: lists of the shots of each event code, with what became of them."""
import os
from dataclasses import dataclass

import numpy as np

from mpixfel.errors import MpixfelError
from mpixfel.model import timestamp
from mpixfel.modules.interface import Module
from mpixfel.modules.names import check_basename
from mpixfel.modules.shots import known
from mpixfel.stages.check import check_options
from mpixfel.stages.interface import option


@dataclass(frozen=True)
class Options:
    """Options of mod_event_code."""

    event_codes: tuple[int, ...] = option((), "event codes")
    alist_names: tuple[str, ...] = option((), "names of their lists, one for each")
    out_dirname: str = option("out", "folder of the lists", unit="path")

    def __post_init__(self):
        check_options(self)
        if not self.event_codes or len(self.event_codes) != len(self.alist_names):
            raise MpixfelError(f"{len(self.event_codes)} event codes, {len(self.alist_names)} names of lists",
                               "alist_names",
                               "give one name for each code")
        for name in self.alist_names:
            check_basename(name, "alist_names")


class ModEventCode(Module):
    """One instance of mod_event_code. A list has a line for each shot that reaches it: timestamp and number of
    lattices.

    mod_filter reads such lists. The source must tell `event_codes`, or `laser_code` in their place.
    """

    Options = Options

    def begin(self, context):
        self.rows = []

    def event(self, event, record, context):
        codes = np.ravel(event.extra["laser_code"] if "laser_code" in event.extra else known(event, "event_codes"))
        for k, code in enumerate(self.options.event_codes):
            if code in codes:
                self.rows.append((k, record.id.timestamp_ns, record.id.source, record.id.index, len(record.lattices)))
        return record

    def totals(self):
        return {"rows": np.array(self.rows, np.int64).reshape(-1, 5)}

    @staticmethod
    def merge(mine, theirs):
        """Rows of both, in the order of the events."""
        rows = np.concatenate([mine["rows"], theirs["rows"]])
        return {"rows": rows[np.lexsort(rows.T[::-1])]}

    def end(self, totals, context):
        os.makedirs(self.options.out_dirname, exist_ok=True)
        rows = ModEventCode.merge(totals, {"rows": np.zeros((0, 5), np.int64)})["rows"]
        for k, name in enumerate(self.options.alist_names):
            with open(os.path.join(self.options.out_dirname, name), "w", encoding="utf-8") as f:
                for _, stamp, source, index, lattices in rows[rows[:, 0] == k]:
                    event = timestamp.long_form(stamp) if stamp >= 0 else f"{source}-{index}"
                    f.write(f"{event} {lattices}\n")
