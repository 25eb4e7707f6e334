"""A table that grows, kept column by column: as it will be written."""
import numpy as np


class Columns:
    """Rows of a structured dtype; `table[name]` is a contiguous column. Room is kept when it is cleared.

    Taken apart row by row as they come, tables are still in the processor's cache; taken apart all at once when they are
    written, each column would draw the whole table through memory.
    """

    def __init__(self, dtype):
        self.dtype, self.n, self.room = dtype, 0, 0
        self.arrays = {name: np.empty((0, *dtype[name].shape), dtype[name].base) for name in dtype.names}

    def __len__(self):
        return self.n

    def __getitem__(self, name):
        return self.arrays[name][:self.n]

    def append(self, rows):
        """Add rows at the end."""
        end = self.n + len(rows)
        if end > self.room:
            self.room = max(2 * self.room, end, 1024)
            for name, array in self.arrays.items():
                self.arrays[name] = np.empty((self.room, *array.shape[1:]), array.dtype)
                self.arrays[name][:self.n] = array[:self.n]
        for name, array in self.arrays.items():
            array[self.n:end] = rows[name]
        self.n = end

    def clear(self):
        self.n = 0
