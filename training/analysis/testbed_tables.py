"""The tables of the page of the testbed of digits: what each arm, pair of arms, batch size and feature came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from training.analysis.testbed_checks import (
    EVEN_ALL,
    EVEN_FEW,
    FLOORED,
    LOSS,
    PEAKED,
    SHARP,
    gsnr,
)
from training.analysis.testbed_seeds import interval, less, middle, over_seeds, spread, values

PAIRS = (
    (FLOORED, "random", "selection itself, at as many examples"),
    (FLOORED, LOSS, "features and floor, at one batch"),
    ("MTS 1024/1024", LOSS, "features"),
    (FLOORED, "MTS 1024/1024", "the floor"),
    ("MTS 1024/1024", "MTS 64/64", "both batches together, as in the paper"),
    (FLOORED, "MTS 64/1024, floor", "the hypergradient's batch alone"),
    ("MTS 1024/1024", SHARP, "the learner's batch alone"),
    (FLOORED, "PVM, alpha 0.1", "against the best alpha measured before"),
    (FLOORED, "Aux-Clf(Val)", "against a classifier of the validation images"),
    (FLOORED, "real and validation", "against no generated images at all"),
)
"""Which arm less which, and what that tells."""

Rows = Sequence[Mapping]

ARM = {
    "arm": lambda r: r["arm"],
    "retrained on its choice": lambda r: spread(r["retrained"]),
    "online": lambda r: spread(r["online"]),
    "at least stopping loss": lambda r: spread(r["stopped"]),
    "AUROC": lambda r: spread(r["auroc"]),
    "seeds": lambda r: len(r["retrained"]),
    "B_eff/N": lambda r: spread(r["share"], 2),
    "seeds with alarms": lambda r: "–" if r["alarms"] is None else f"{sum(a > 0 for a in r['alarms'])}",
    "CPU seconds": lambda r: f"{np.mean(r['cpu_seconds']):.1f}",
}
PAIR = {
    "what": lambda r: r["what"],
    "arms": lambda r: f"{r['first']} less {r['second']}",
    "retrained": lambda r: interval(r["retrained"], "+"),
    "online": lambda r: "–" if r["online"] is None else interval(r["online"], "+"),
}
FEATURE = {"feature": lambda r: r[0], "AUROC": lambda r: spread(r[1])}


def by_arm(rows: Rows) -> list[dict]:
    """What each arm came to over the seeds; None where it has no such figure."""
    names = ("retrained", "online", "stopped", "auroc", "share", "alarms", "cpu_seconds")
    found = {name: values(rows, "arm", name) for name in names}
    return [
        {"arm": arm} | {name: over_seeds(found[name][arm]) if arm in found[name] else None for name in names}
        for arm in found["retrained"]
    ]


def paired(rows: Rows) -> list[dict]:
    """Of each of `PAIRS` that was measured, the differences seed by seed."""
    online, retrained = values(rows, "arm", "online"), values(rows, "arm", "retrained")
    return [
        {
            "first": first,
            "second": second,
            "what": what,
            "retrained": less(retrained, first, second),
            "online": less(online, first, second) if first in online and second in online else None,
        }
        for first, second, what in PAIRS
        if first in retrained and second in retrained
    ]


def by_batch(rows: Rows) -> list[tuple[str, dict[int, str]]]:
    """A line per state: by N, what is shown."""
    lines = []
    for name in (EVEN_ALL, EVEN_FEW, PEAKED):
        own = gsnr(rows, name)
        lines.append((f"GSNR, {name}", {n: f"{middle(ratio):.3g}" for n, (ratio, _) in own.items()}))
    lines.append(("B_eff, peaked", {n: f"{effective.mean():.1f}" for n, (_, effective) in own.items()}))
    per = {n: f"{middle(ratio) / effective.mean():.4f}" for n, (ratio, effective) in own.items()}
    return [*lines, ("GSNR / B_eff, peaked", per)]


def batches(rows: Rows) -> dict[str, Callable]:
    """The columns of `by_batch`."""
    counts = sorted({row["meta"] for row in rows})
    return {"N": lambda r: r[0]} | {str(n): (lambda r, n=n: r[1].get(n, "–")) for n in counts}


def by_feature(rows: Rows) -> list[tuple[str, np.ndarray]]:
    """Features and their AUROC over the seeds, the best first."""
    found = {name: over_seeds(own) for name, own in values(rows, "feature", "auroc").items()}
    return sorted(found.items(), key=lambda pair: -pair[1].mean())
