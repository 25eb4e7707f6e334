"""Mean, spread and maximum of many images in one pass."""
from numba import njit


@njit(cache=True)
def add_image(image, count, mean, squares, largest):
    """Welford's update (Technometrics 4 (1962) 419) of running moments by one image; NaN pixels are left out.

    Parameters
    ----------
    image : (n,) any number type
    count : (n,) int64
        Images that had a value, in place.
    mean, squares : (n,) float64
        Running mean and sum of squared deviations, in place.
    largest : (n,) float64
        Running maximum, in place; -inf where there was no value.
    """
    for i in range(image.size):
        value = float(image[i])
        if value != value:
            continue
        count[i] += 1
        delta = value - mean[i]
        mean[i] += delta / count[i]
        squares[i] += delta * (value - mean[i])
        if value > largest[i]:
            largest[i] = value


@njit(cache=True)
def join_moments(count, mean, squares, other_count, other_mean, other_squares):
    """Join two sets of moments, the first in place (Chan, Golub and LeVeque, COMPSTAT 1982, equations 2.1)."""
    for i in range(count.size):
        total = count[i] + other_count[i]
        if other_count[i] == 0:
            continue
        delta = other_mean[i] - mean[i]
        mean[i] += delta * other_count[i] / total
        squares[i] += other_squares[i] + delta * delta * count[i] * other_count[i] / total
        count[i] = total
