"""What benchmarks time calls with."""
import time


def least_seconds(function, repeat):
    """Least processor time of a call, s; the first call, which may compile, does not count."""
    function()
    best = float("inf")
    for _ in range(repeat):
        began = time.process_time()
        function()
        best = min(best, time.process_time() - began)
    return best
