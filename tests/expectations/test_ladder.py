"""What a gate does by itself when the guard stops a study: quarantine, advice, and the probes' report for who signs."""

from __future__ import annotations

import pytest

from expectations.gate import gate_study
from expectations.verdicts import GateFailed
from palimpsest.config import Engine
from palimpsest.guard import quarantine
from tests.expectations.conftest import prose

STAGES = ("split", "generations", "mixes")


def monotonous(table: str, rows: list[dict]) -> list[dict]:
    """Real text that varies, and a model that says two words."""
    if table in ("train", "validation"):
        more = [{**row, "document_id": f"{n:016x}", "url": f"{row['url']}?{n}"} for n, row in enumerate(rows)]
        return [{**row, "text": prose(row["url"], 600)} for row in [*rows, *more]]
    if table == "generations":
        return [{**row, "text": "word other " * (300 + row["g"])} for row in rows]
    return rows


def stopped(world, **changes):
    published = world.publish(monotonous)
    strategy = world.study.strategies["rephrase"]
    strategy = strategy.model_copy(update={"engine": Engine.model_construct(kind="vllm", server="s")})
    guard = world.study.guard.model_copy(update=changes)
    study = world.study.model_copy(update={"strategies": {"rephrase": strategy}, "guard": guard})
    with pytest.raises(GateFailed) as failure:
        gate_study(study, world.lake, **{name: published[name] for name in STAGES})
    return failure.value


def test_a_gate_that_stops_for_lost_variety_puts_the_generator_in_quarantine(world):
    failure = stopped(world)
    (entry,) = quarantine.standing(world.lake).values()
    assert (entry.generator, entry.study, entry.strategy) == ("sample", "toy", "rephrase")
    assert "have an entropy of" in entry.why and '"temperature": 1.0' in entry.decoding
    told = failure.record.extra["guard"]
    lost = next(verdict for verdict in told if verdict["gate"] == "G9" and verdict["outcome"] == "failed")
    assert lost["details"]["response"].startswith("raise the temperature")
    assert f"{lost['sentence']}; what to do: raise the temperature" in failure.record.file("guard.txt").read_text()
    assert failure.report.startswith("G7 ") and "perplexity" in failure.report
    stopped(world)
    assert len(quarantine.history(world.lake)) == 1, "found once"


def test_what_only_warns_or_is_an_experiment_puts_nobody_in_quarantine(world):
    stopped(world, severity={"G8": "warning", "G9": "warning"})
    stopped(world, experiment=True)
    assert quarantine.standing(world.lake) == {}
