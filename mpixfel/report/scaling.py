"""How a run's speed grows with its ranks: figures, a table, a picture."""
import numpy as np

SHARES = ("read", "compute", "write", "wait")
COMPUTE = ("calibrate", "hitfind", "index", "refine", "integrate")
COLOURS = {"read": "#4c78a8", "compute": "#54a24b", "write": "#e45756", "wait": "#bab0ac"}


def shares(events, n_ranks, seconds):
    """What each rank did with its time: {share: (n_ranks,) array, parts of 1}.

    Parameters
    ----------
    events : EVENT (n,)
    seconds : float
        How long the processing took, from the first event to the last.
    """
    def spent(stages):
        time = sum(events[f"time_{s}"].astype(float) for s in stages)
        return np.bincount(events["rank"], time, minlength=n_ranks)[:n_ranks] / seconds
    parts = {"read": spent(("read",)), "compute": spent(COMPUTE), "write": spent(("write",))}
    return {**parts, "wait": np.clip(1.0 - sum(parts.values()), 0.0, 1.0)}


def efficiency(rows):
    """Speed of each rank against that of a rank of the first row: 1.0 is perfect. Rows have n_ranks, events,
    seconds."""
    speed = np.array([r["events"] / r["seconds"] / r["n_ranks"] for r in rows])
    return speed / speed[0]


def table(result):
    """Lines for the terminal; `result` is {"strong": rows, "weak": rows}."""
    lines = []
    for kind, rows in result.items():
        lines += [f"{kind} scaling", f"{'ranks':>7}{'events':>9}{'seconds':>10}{'events/s':>10}{'efficiency':>12}"
                  + "".join(f"{s:>9}" for s in SHARES) + f"{'start-up s':>12}"]
        for row in rows:
            lines.append(f"{row['n_ranks']:7d}{row['events']:9d}{row['seconds']:10.2f}"
                         f"{row['events'] / row['seconds']:10.1f}{row['efficiency']:12.3f}"
                         + "".join(f"{np.mean(row['shares'][s]):9.1%}" for s in SHARES) + f"{row['startup_s']:12.2f}")
    return "\n".join(lines)


def save_picture(path, result):
    """Efficiency over ranks, and below it what the ranks did with their time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(5 * len(result), 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(result), squeeze=False)
    for column, (kind, rows) in enumerate(result.items()):
        ranks = [row["n_ranks"] for row in rows]
        above, below = axes[:, column]
        above.plot(ranks, [row["efficiency"] for row in rows], "o-", color="#333333")
        above.axhline(1.0, color="#999999", linewidth=0.8)
        above.set(title=f"{kind} scaling", xlabel="ranks", ylabel="efficiency", xscale="log", ylim=(0, 1.15))
        above.set_xticks(ranks, ranks)
        above.minorticks_off()
        base = np.zeros(len(rows))
        for share in SHARES:
            part = np.array([np.mean(row["shares"][share]) for row in rows])
            below.bar(range(len(rows)), part, bottom=base, color=COLOURS[share], label=share)
            base += part
        below.set(xlabel="ranks", ylabel="share of time, mean over ranks", ylim=(0, 1.05))
        below.set_xticks(range(len(rows)), ranks)
        below.legend(fontsize="small")
    figure.savefig(path, dpi=120)
