"""What a source of events is: one file a format, found by entry point `mpixfel.sources`."""


class Source:
    """A stream of events in a fixed order. Every rank opens its own, reads only its events, reuses its buffers.

    Attributes
    ----------
    paths : tuple of str
        The files, in order; `EventId.source` indexes it.
    events_per_chunk : int
        How many consecutive events share a storage chunk or file: what the scheduler keeps together.
    """

    paths = ()
    events_per_chunk = 1

    def __len__(self):
        """Number of events selected."""
        raise NotImplementedError

    def event_id(self, i):
        """`EventId` of the i-th event, without reading its image."""
        raise NotImplementedError

    def event(self, i):
        """The i-th `Event`. Raises `BadData` if this event cannot be read; its buffers last until the next call."""
        raise NotImplementedError

    def static_mask(self):
        """(P, SS, FS) bool, True = bad: masks, bad regions, panel edges and padding that hold for every event."""
        raise NotImplementedError

    def saturation_adu(self):
        """(P, SS, FS) float32 saturation map, or None."""
        return None

    def close(self):
        """Close the files."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
