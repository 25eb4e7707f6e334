"""What a simulated detector makes of photons: words of one gain, or of three gain stages."""
from dataclasses import dataclass

import numpy as np

from mpixfel.kernels import exposure

# A JUNGFRAU-like ASIC: gain and noise of the three stages relative to the first, mean pedestals (ADU) of the later two.
STAGE_GAIN = (1.0, -1.0 / 29.0, -1.0 / 400.0)
STAGE_NOISE = (1.0, 0.15, 0.1)
STAGE_PEDESTAL_ADU = (None, 14700.0, 14900.0)
STAGE_CODE = np.array([0, 1, 3])
SWITCH_HIGH_ADU, SWITCH_LOW_ADU = 14500.0, 1500.0


@dataclass(frozen=True)
class Electronics:
    """One detector's electronics.

    Attributes
    ----------
    gain, noise : (s,) ADU per photon and ADU, for each of 1 or 3 stages
    pedestal : (s, n) float32 ADU, for each pixel of the stack
    panel_size : pixels of one panel in the stack
    dead, hot : flat indices
    """

    gain: np.ndarray
    noise: np.ndarray
    pedestal: np.ndarray
    common_mode_adu: float
    saturation_adu: int
    panel_size: int
    dead: np.ndarray
    hot: np.ndarray

    @property
    def stages(self):
        return len(self.gain)

    @property
    def dtype(self):
        """Signed words where noise can take them below zero."""
        low = self.pedestal.min() - 6.0 * self.noise[0]
        return np.dtype(np.int32 if self.noise[0] > 0 and low < 0 else np.uint16)

    def words(self, counted, rng, out, stage=-1):
        """Read the photons (P, SS, FS) int32 out into `out`, same shape; `stage` forces a gain stage."""
        counted, flat = counted.reshape(-1), out.reshape(-1)
        pedestal = self.pedestal
        if self.common_mode_adu > 0:
            offset = self.common_mode_adu * rng.standard_normal(counted.size // self.panel_size)
            pedestal = pedestal + np.repeat(offset.astype(np.float32), self.panel_size)
        if self.stages == 1:
            low = np.iinfo(out.dtype).min if out.dtype.kind == "i" else 0
            exposure.read_out(rng, counted, self.gain[0], pedestal[0], self.noise[0], low, self.saturation_adu, flat)
        else:
            exposure.read_out_stages(rng, counted, self.gain, pedestal, self.noise, STAGE_CODE, SWITCH_HIGH_ADU,
                                     SWITCH_LOW_ADU, stage, flat)
        flat[self.dead] = 0
        too_much = pedestal[0, self.hot] + self.gain[0] * rng.gamma(4.0, 50.0, self.hot.size)
        flat[self.hot] = np.minimum(self.saturation_adu, too_much)

    def variance(self, expected):
        """(n,) float32 variance of a pixel's reading beside that of the photons, photons^2: noise and rounding."""
        per_stage = (self.noise ** 2 + np.where(self.noise > 0, 1.0 / 12.0, 0.0)) / self.gain ** 2
        if self.stages == 1:
            return np.full(expected.size, per_stage[0], np.float32)
        high = (SWITCH_HIGH_ADU - self.pedestal[0]) / self.gain[0]
        low = (SWITCH_LOW_ADU - self.pedestal[1]) / self.gain[1]
        stage = (expected > high).astype(int) + (expected > low)
        return per_stage.astype(np.float32)[stage]


def make_electronics(options, stack_shape, dead, hot, rng):
    """The `Electronics` that the options ask for; pedestals come from `rng`."""
    size = int(np.prod(stack_shape))
    stages = range(3 if options.gain_switching else 1)
    means = (options.pedestal_adu, *STAGE_PEDESTAL_ADU[1:])
    # The ADC's later stages sit close to full scale: half the spread keeps their pedestals inside it.
    spreads = (options.pedestal_sigma_adu, 0.5 * options.pedestal_sigma_adu, 0.5 * options.pedestal_sigma_adu)
    pedestal = np.stack([means[s] + spreads[s] * rng.standard_normal(size) for s in stages]).astype(np.float32)
    return Electronics(np.array([options.adu_per_photon * STAGE_GAIN[s] for s in stages]),
                       np.array([options.noise_adu * STAGE_NOISE[s] for s in stages]), pedestal, options.common_mode_adu,
                       options.saturation_adu, int(np.prod(stack_shape[1:])), dead, hot)
