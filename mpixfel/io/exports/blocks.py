"""Panel stacks put back into the data block that they were cut from."""
import numpy as np


def active_areas(detector):
    """(P, 4) int: each panel's first slow, first fast, last slow + 1, last fast + 1 pixel in `block_of`'s image.

    The blocks of a layout that has several stand one below the other.
    """
    heights = {}
    for p in detector.panels:
        heights[p.block] = max(heights.get(p.block, 0), p.min_ss + p.shape[0])
    tops = dict(zip(sorted(heights), np.cumsum([0, *(heights[b] for b in sorted(heights))])))
    return np.array([(tops[p.block] + p.min_ss, p.min_fs, tops[p.block] + p.min_ss + p.shape[0], p.min_fs + p.shape[1])
                     for p in detector.panels], np.int64)


def block_of(stack, detector, fill=np.nan):
    """(ss, fs) image of a stack (P, SS, FS), in the stack's dtype; `fill` where there is no panel."""
    areas = active_areas(detector)
    block = np.full((areas[:, 2].max(), areas[:, 3].max()), fill, stack.dtype)
    for panel, (s0, f0, s1, f1) in zip(stack, areas):
        block[s0:s1, f0:f1] = panel[:s1 - s0, :f1 - f0]
    return block


def stack_of(blocks, detector, fill=0):
    """(P, SS, FS) stack of an event's blocks (ss, fs); `fill` beyond smaller panels."""
    stack = np.full(detector.stack_shape, fill, blocks[0].dtype)
    for i, p in enumerate(detector.panels):
        ss, fs = p.shape
        stack[i, :ss, :fs] = blocks[p.block][p.min_ss:p.min_ss + ss, p.min_fs:p.min_fs + fs]
    return stack
