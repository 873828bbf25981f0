"""What an implementation of meta-learned weights has to meet on the testbed of digits, and means over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from training.analysis.testbed_seeds import Check, factor, interval, less, middle, over_seeds, values

EVEN_ALL, EVEN_FEW, PEAKED = "even, all of validation", "even, 32 of validation", "peaked, all of validation"
FLOORED, SHARP, LOSS, ALL = "MTS 1024/1024, floor", "MTS 1024/128", "loss alone 1024/1024", "no selection"
POSITION, DYNAMICS, TOLD = "position, together", "dynamics, together", "dynamics told to MTS, together"
"""Names of states, arms and features as `training.testbeds` has them, which cannot be imported here: it loads torch."""

Rows = Sequence[Mapping]


def checks(tables: Mapping[str, Rows]) -> list[Check]:
    """Every acceptance figure, over the seeds that there are."""
    return [*_noise(tables["noise"]), *_quality(tables["quality"]), *_accuracy(tables["arms"])]


def _noise(rows: Rows) -> list[Check]:
    even, few, peaked = (gsnr(rows, name) for name in (EVEN_ALL, EVEN_FEW, PEAKED))
    steep = [n for n in peaked if 16 <= n <= 512]
    slopes = np.polyfit(np.log(steep), np.log([peaked[n][0] for n in steep]), 1)[0]
    worth = np.array([middle(ratio) / effective.mean() for ratio, effective in peaked.values()])
    apart = float(np.abs(worth / worth.mean() - 1).max())
    falls, grows = even[64][0] / peaked[64][0], few[2048][0] / few[256][0]
    return [
        Check("5a (i) log GSNR on log N, 16 to 512, peaked: slope ≥ 0.6", interval(slopes), slopes.mean() >= 0.6),
        Check("5a (ii) GSNR / B_eff within ± 30% up to N = 1024, peaked", f"± {apart:.0%}", apart <= 0.3),
        Check("5a (iii) GSNR at N = 64: even ≥ 10 times peaked", factor(falls), middle(falls) >= 10),
        Check("5a (iv) GSNR of 2048 over 256, even, 32 of validation: < 1.5", factor(grows), middle(grows) < 1.5),
    ]


def _quality(rows: Rows) -> list[Check]:
    found = values(rows, "feature", "auroc")
    three = "; of the three that MTS is told "
    asked = (
        ("5b position together: AUROC ≥ 0.95", over_seeds(found[POSITION]), 0.95, ""),
        (
            "5b dynamics together, every column: AUROC ≥ 0.70",
            over_seeds(found[DYNAMICS]),
            0.70,
            three + interval(over_seeds(found[TOLD])),
        ),
        (
            "5b position less dynamics, every column ≥ 0.1",
            less(found, POSITION, DYNAMICS),
            0.1,
            three + interval(less(found, POSITION, TOLD)),
        ),
        ("5b loss after 3 epochs less after 60 ≥ 0.1", less(found, "loss_3", "loss_60"), 0.1, ""),
    )
    return [Check(name, interval(own) + beside, own.mean() >= least) for name, own, least, beside in asked]


def _accuracy(rows: Rows) -> list[Check]:
    online, alarms = values(rows, "arm", "online"), over_seeds(values(rows, "arm", "alarms")[SHARP])
    against = {"own": online[FLOORED], ALL: values(rows, "arm", "retrained")[ALL]}
    own = over_seeds(online[FLOORED])
    spread = float(own.std(ddof=1)) if len(own) > 1 else np.inf
    asked = (
        (f"5c {FLOORED}, online, less {ALL} ≥ 0.15", less(against, "own", ALL), 0.15),
        (f"5c the same less {LOSS} ≥ 0.05", less(online, FLOORED, LOSS), 0.05),
        ("5c AUROC of its weights ≥ 0.83", over_seeds(values(rows, "arm", "auroc")[FLOORED]), 0.83),
    )
    return [
        *(Check(name, interval(own), own.mean() >= least) for name, own, least in asked),
        Check("5c its standard deviation over seeds ≤ 0.03", f"{spread:.3f}", spread <= 0.03),
        Check(
            f"5c {SHARP} without a floor rings the alarm",
            f"{(alarms > 0).sum()} of {len(alarms)} seeds",
            bool((alarms > 0).all()),
        ),
    ]


def gsnr(rows: Rows, state: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """By N the GSNR and the effective examples of every seed; a GSNR that was not told from 0 counts as 1e-4."""
    own = [row for row in rows if row["state"] == state]
    ratio, effective = values(own, "meta", "ratio"), values(own, "meta", "effective")
    return {n: (np.maximum(over_seeds(ratio[n]), 1e-4), over_seeds(effective[n])) for n in sorted(ratio)}
