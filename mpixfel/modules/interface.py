"""What a module is: a configurable instance in the chain that every event walks along.

    [mpixfel]
    modules = mod_hitfind:hitfind mod_dump:hit mod_hitfind:index

A module class has a frozen data class `Options` (fields made with `stages.interface.option`), from whose fields the
sections `[mod_name]` and `[mod_name:instance]` are read, and is made once per rank.
"""
import numpy as np


class Module:
    """One instance in the chain. Override `event`; the rest where it is needed.

    Parameters
    ----------
    name : str
        `mod_name:instance` as configured; what `stopped_by` says.
    options : Options
        This instance's options.
    settings : Settings
        The run's whole configuration (sections by name), for the stages that this module runs.
    """

    Options = None
    # Whether the instance takes part while the run learns from its first events, which are all processed again later:
    # for those that only make records. One that writes files or sums up must not.
    learns = False

    def __init__(self, name, options, settings):
        self.name, self.options, self.settings = name, options, settings

    def begin(self, context):
        """Prepare, once per rank, and again when the context has become wiser. No MPI here."""

    def event(self, event, record, context):
        """Return the record, possibly with `skip` set: later instances then never see the event."""
        return record

    def observe(self, event, record, context):
        """While the run learns from its first images: integer arrays by name, summed over events and ranks.

        Integers, because their sums do not depend on the number of ranks.
        """
        return {}

    def conclude(self, observed, context):
        """What those sums teach: a `Learnt` made from `context.learnt` (the default: nothing new)."""
        return context.learnt

    def finish(self):
        """After this rank's last event, before totals are reduced: close files."""

    def find_cells(self, records, context):
        """While the run learns without a cell given: a `Learnt` with the cells that the first hits' records share, made
        from `context.learnt`, or None. On rank 0; records in order."""
        return None

    def totals(self):
        """What is reduced over ranks at the end: {name: array}, joined by `merge`."""
        return {}

    @staticmethod
    def merge(mine, theirs):
        """Join the totals of two sets of ranks: arrays are summed, those named max_* and min_* compared.

        Called along a tree, always lower ranks first.
        """
        join = lambda name: np.maximum if name.startswith("max_") else np.minimum if name.startswith("min_") else np.add
        return {name: join(name)(mine[name], theirs[name]) for name in mine}

    def end(self, totals, context):
        """On rank 0, with the reduced totals."""
