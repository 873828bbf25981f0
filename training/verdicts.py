"""The collapse guard's verdicts in MLflow: a table, a tag per gate and the figures, on the study's parent run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from palimpsest.lake import Published
from training import track

WORST = ("failed", "warned", "not_judged", "passed")
COLUMNS = ("gate", "outcome", "subject", "measure", "value", "limit", "sentence")


def log_verdicts(run_id: str, gate: Published) -> None:
    """Table guard.json, tags ``palimpsest.guard`` and ``palimpsest.guard.G1``..., metrics ``guard/<gate>/...``."""
    verdicts = gate.extra.get("guard", [])
    if verdicts:
        track.add_facts(run_id, {"guard.json": as_table(verdicts)}, metrics(verdicts), tags(verdicts))


def as_table(verdicts: Sequence[Mapping]) -> dict[str, list]:
    return {name: [verdict[name] for verdict in verdicts] for name in COLUMNS} | {
        "waived by": [verdict["details"].get("waived_by") for verdict in verdicts]
    }


def metrics(verdicts: Sequence[Mapping]) -> dict[str, float]:
    """``guard/<gate>_<measure>/<subject>``: the value of each verdict that has one."""
    named = {f"guard/{v['gate']}_{v['measure']}/{v['subject'] or 'all'}": v["value"] for v in verdicts}
    return {re.sub(r"[^\w\-. :/]+", "_", name)[:250]: value for name, value in named.items() if value is not None}


def tags(verdicts: Sequence[Mapping]) -> dict[str, str]:
    """The worst outcome of all and of each gate, with the first sentence that said so; and who waived something."""
    found = {}
    for gate in {v["gate"] for v in verdicts}:
        worst = min((v for v in verdicts if v["gate"] == gate), key=lambda v: WORST.index(v["outcome"]))
        found[f"palimpsest.guard.{gate}"] = f"{worst['outcome']}: {worst['sentence']}"[:5000]
    waived = sorted({v["details"]["waived_by"] for v in verdicts if "waived_by" in v["details"]})
    found["palimpsest.guard"] = min((v["outcome"] for v in verdicts), key=WORST.index)
    return found | ({"palimpsest.guard.waived_by": ", ".join(waived)} if waived else {})
