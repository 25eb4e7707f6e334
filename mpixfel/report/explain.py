"""One event, told step by step."""
import numpy as np

from mpixfel.model.event import Record

ROWS_SHOWN = 10


def explain(event, chain, context, learnt, out=print):
    """Process an event as `pipeline.process_event` does, and tell what each module instance made of it."""
    out(f"event {event.id.name}: source {event.id.source}, position {event.id.index} in it")
    out(f"photon energy {event.photon_energy_ev:.2f} eV, distance {context.detector.distance_m(event.clen_m):.6f} m")
    out("what the run has learnt is used" if learnt else "nothing learnt is used: the output holds no learnt.h5")
    for block, raw in enumerate(event.raw):
        out(f"block {block}: {raw.dtype} {'x'.join(map(str, raw.shape))}, {raw.min()} to {raw.max()}")
    record = Record(event.id, event.photon_energy_ev, context.detector.distance_m(event.clen_m))
    for module in chain:
        before, record = record, module.event(event, record, context)
        tell(module.name, before, record, out)
        if record.skip:
            break
    return record


def tell(name, before, record, out):
    """What one instance has changed."""
    out(f"\n{name}")
    for stage, seconds in record.seconds.items():
        spent = seconds - before.seconds.get(stage, 0.0)
        if spent > 0:
            out(f"  {stage}: {1e3 * spent:.2f} ms")
    if record.image is not None and before.image is None:
        photons = record.image.photons
        out(f"  image: {np.isnan(photons).mean():.2%} of pixels bad, {len(record.image.saturated)} saturated, "
            f"median background {record.background:.3f} photons")
        tell_peaks(record.peaks, out)
    if len(record.lattices):
        tell_lattices(record, out)
    if record.skip:
        numbers = ", ".join(f"{k} {v:g}" for k, v in record.skip.numbers.items())
        out(f"  ends here: {record.skip.reason.name} ({record.skip.stage}) {record.skip.detail} {numbers}".rstrip())
    for note in record.notes[len(before.notes):]:
        out(f"  {note}")
    out(f"  outcome: {record.outcome.name}")


def tell_peaks(peaks, out):
    """The strongest peaks."""
    out(f"  {len(peaks)} peaks" + (", the strongest:" if len(peaks) else ""))
    if len(peaks):
        out("    panel      fs      ss   photons     sigma     1/d (1/angstrom)")
    for p in peaks[:ROWS_SHOWN]:
        out(f"    {p['panel']:5d} {p['fs']:7.1f} {p['ss']:7.1f} {p['intensity']:9.1f} {p['sigma']:9.1f} "
            f"{p['resolution']:10.4f}")


def tell_lattices(record, out):
    """Cells and figures of the lattices."""
    for k, lattice in enumerate(record.lattices):
        out(f"  lattice {k}: cell " + " ".join(f"{x:.3f}" for x in lattice["cell"]))
        out(f"    {lattice['n_indexed']} peaks indexed, rmsd {lattice['rmsd']:.3f} px, score {lattice['score']:.1f}")
        rows = record.reflections[record.reflections["lattice"] == k]
        if len(rows):
            strong = (rows["intensity"] > 3 * rows["sigma"]).sum()
            out(f"    {len(rows)} reflections integrated, {strong} above 3 sigma, to 1/d "
                f"{rows['resolution'].max():.4f}")
