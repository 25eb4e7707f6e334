"""Tables of how far chance reaches, by the mean of a Poisson variable; see `stages.tail`."""
import numpy as np
from numba import njit

from mpixfel.kernels import FASTMATH

MEANS = np.geomspace(1e-6, 1e6, 481)
LEAST, MOST, LOG_LEAST, LOG_STEP = MEANS[0], MEANS[-1], np.log(MEANS[0]), np.log(MEANS[1] / MEANS[0])


@njit(cache=True, _nrt=False, fastmath=FASTMATH, error_model="numpy")
def reach(over, variance, quantum):
    """Least improbable excess over the mean; `over` (481,) is that of Poisson variables of `MEANS`, between which the
    logarithm of the mean is interpolated."""
    at = (np.log(min(max(variance / (quantum * quantum), LEAST), MOST)) - LOG_LEAST) / LOG_STEP
    i = min(max(int(at), 0), over.size - 2)
    return quantum * (over[i] + (at - i) * (over[i + 1] - over[i]))


@njit(cache=True, _nrt=False, fastmath=FASTMATH, error_model="numpy")
def fill_reaches(over, variance, factor, quantum, out):
    """`reach` of variances (n,) times a factor, into out (n,)."""
    for i in range(out.size):
        out[i] = reach(over, factor * variance[i], quantum)
