"""Whether beam centre, distance or wavelength are off."""
import numpy as np

from mpixfel.report.findings import Finding
from mpixfel.stages.cells import shifted
from mpixfel.stages.survey import shift_map, survey

SCALES = np.arange(-12, 13) * 0.005 + 1.0
SCALE_ERROR = 0.002         # of the cell while distances are tried, one standard deviation
NOTABLE_PX = 1.0            # a beam centre that is off by more is worth a word
NOTABLE_SCALE = 0.003
ALL_WELL = 0.1              # where no more of the hits fail, nothing is tried


def beam_map(evidence):
    """{"x_px", "y_px", "score", "indexed", "patterns", "best_px"} or {}: patterns indexed at shifts of the beam."""
    looks = evidence.worth_a_survey()
    if not looks:
        return {}
    found = shift_map([look.pattern() for look in mixed(looks)], evidence.cells)
    px = evidence.distance_m / evidence.pixel_m
    return {"x_px": (found.shift * px).tolist(), "y_px": (found.shift * px).tolist(), "score": found.score.tolist(),
            "indexed": found.indexed.tolist(), "patterns": found.n_patterns,
            "best_px": (found.best_shift * px).tolist(),
            "score_given": float(found.score[found.middle]), "score_best": float(found.score[found.best]),
            "indexed_given": int(found.indexed[found.middle]), "indexed_best": int(found.indexed[found.best])}


def mixed(looks):
    """Patterns without lattice and with one in turn, so that a survey of the first few sees both."""
    kinds = [look for look in looks if not len(look.lattices)], [look for look in looks if len(look.lattices)]
    longest = max(map(len, kinds))
    return [kind[i] for i in range(longest) for kind in kinds if i < len(kind)]


def scale_scan(evidence, shift_px=(0.0, 0.0)):
    """{"scale", "score", "indexed", "best"} or {}: patterns indexed at distances times `scale`."""
    looks = mixed(evidence.worth_a_survey())[:8]
    if not looks or not evidence.cells:
        return {}
    x, y = np.array(shift_px) * evidence.pixel_m / evidence.distance_m
    made = [survey([shifted(look.pattern(scale), x, y) for look in looks], evidence.cells, SCALE_ERROR)
            for scale in SCALES]
    score, uncut = (np.array([getattr(s, name) for s in made]) for name in ("score", "mean_odds"))
    given = len(SCALES) // 2
    k = int(np.argmax(score))
    return {"scale": SCALES.tolist(), "score": score.tolist(), "indexed": [s.indexed for s in made],
            "patterns": len(looks),
            "best": float(_peak(SCALES, uncut)), "score_given": float(score[given]), "score_best": float(score[k]),
            "indexed_given": made[given].indexed, "indexed_best": made[k].indexed}


def _peak(x, y):
    """Where a parabola through the highest of equally spaced points and its neighbours has its top."""
    k = int(np.argmax(y))
    if not 0 < k < len(y) - 1:
        return x[k]
    bend = y[k - 1] - 2 * y[k] + y[k + 1]
    return x[k] + (0.5 * (y[k - 1] - y[k + 1]) / bend * (x[1] - x[0]) if bend < 0 else 0.0)


def findings(evidence, beam, scale):
    """`Finding`s from `beam_map`, `scale_scan` and what the run's lattices say themselves."""
    found = [_beam_by_map(beam), _scale_by_scan(scale), _beam_by_lattices(evidence), _scale_by_lattices(evidence)]
    if found[0]:
        found[2] = None
    if found[1]:
        found[3] = None
    return [f for f in found if f]


def better(numbers):
    """Whether the best place of a survey is clearly better than the given one."""
    gain = numbers["indexed_best"] - numbers["indexed_given"]
    return numbers["score_best"] > 1.15 * numbers["score_given"] + 10 and numbers["indexed_best"] >= 2 and (
        gain >= 2 or numbers["score_best"] > 1.5 * numbers["score_given"])


def _beam_by_map(beam):
    if not beam or not better(beam) or np.hypot(*beam["best_px"]) < NOTABLE_PX:
        return None
    x, y = beam["best_px"]
    return Finding("The beam centre is off",
                   f"Of {beam['patterns']} patterns {beam['indexed_given']} are indexed where the geometry puts the "
                   f"beam, and {beam['indexed_best']} with the pattern {x:+.1f} px in x and {y:+.1f} px in y "
                   f"(laboratory axes) from there. Move the panels by the opposite: add {-x:.2f} to each corner_x and "
                   f"{-y:.2f} to each corner_y.",
                   {"shift_px": [x, y], **{k: beam[k] for k in ("indexed_given", "indexed_best", "patterns")}},
                   _likelihood(beam))


def _likelihood(numbers):
    """From the patterns that are indexed in addition, and from what the score gains: it tells wrong indices, too."""
    gain = (numbers["indexed_best"] - numbers["indexed_given"]) / numbers["patterns"]
    return float(np.clip(0.3 + 0.65 * max(gain, 1 - numbers["score_given"] / numbers["score_best"]), 0.3, 0.95))


def _scale_by_scan(scale):
    if not scale or not better(scale) or abs(scale["best"] - 1) < NOTABLE_SCALE:
        return None
    percent = 100 * (scale["best"] - 1)
    return Finding("Distance, wavelength or cell are off by a common factor",
                   f"Of {scale['patterns']} patterns {scale['indexed_given']} are indexed at the given distance and "
                   f"{scale['indexed_best']} at a distance {percent:+.1f} % from it. The same is done by a wavelength "
                   f"(photon energy {percent:+.1f} %) or by cell axes that are all {-percent:+.1f} % off. Find out "
                   "which: the distance (clen, coffset) is the usual one.",
                   {"scale": scale["best"], **{k: scale[k] for k in ("indexed_given", "indexed_best", "patterns")}},
                   _likelihood(scale))


def _beam_by_lattices(evidence):
    lattices = evidence.results.lattices
    if len(lattices) < 5:
        return None
    shift = np.median(lattices["beam_shift"], axis=0) / evidence.pixel_m
    if np.hypot(*shift) < NOTABLE_PX:
        return None
    return Finding("The beam centre is off, and the run has allowed for it",
                   f"The lattices' patterns lie {shift[0]:+.2f} px in x and {shift[1]:+.2f} px in y (laboratory axes) "
                   f"from where the geometry puts them. Add {-shift[0]:.2f} to each corner_x and {-shift[1]:.2f} to "
                   "each corner_y.",
                   {"shift_px": shift.tolist(), "lattices": len(lattices)},
                   float(np.clip(0.1 + 0.05 * np.hypot(*shift), 0, 0.4)))


def _scale_by_lattices(evidence):
    lattices, cells = evidence.results.lattices, evidence.results.given_cells
    if len(lattices) < 5:
        return None
    scale, words = float(np.median(lattices["distance_scale"])), ""
    forms = [k for k in range(len(cells)) if np.sum(lattices["form"] == k) >= 5]
    if forms and abs(scale - 1) < NOTABLE_SCALE:
        ratio = np.median(lattices["cell"][lattices["form"] == forms[0]][:, :3],
                          axis=0) / np.array(cells[forms[0]].parameters[:3])
        if np.ptp(ratio) < 0.3 * abs(np.mean(ratio) - 1):
            scale, words = 1 / float(np.mean(ratio)), " (all axes of the cell are refined by the same factor)"
    if abs(scale - 1) < NOTABLE_SCALE:
        return None
    return Finding("Distance, wavelength or cell are off by a common factor, and the run has allowed for it",
                   f"The lattices fit best at a distance of {scale:.4f} times the given one{words}. Correct the "
                   f"distance, or the photon energy, or the cell file: whichever is wrong.",
                   {"scale": scale, "lattices": len(lattices)},
                   float(np.clip(0.1 + 20 * abs(scale - 1), 0, 0.4)))
