from __future__ import annotations

import json
import logging

import pytest

from expectations.gate import gate_documents, gate_study
from expectations.verdicts import GateFailed, data_docs_dir
from palimpsest.lake import Lake, NotPublished


def study_gate(world, found):
    return gate_study(world.study, world.lake, **{k: found[k] for k in ("split", "generations", "mixes")})


def failures(lake: Lake, dataset: str) -> dict[str, str]:
    """Expectations that do not hold in the kept verdict of a failed gate → their severity."""
    verdict = json.loads(lake.latest(f"{dataset}_failed").file("verdict.json").read_text())
    return {v["expectation"]: v["severity"] for v in verdict["verdicts"] if not v["success"]}


def replace(table: str, change):
    """Spoil one table: ``change`` gets its rows and returns others."""
    return lambda name, rows: change(rows) if name == table else rows


def test_good_documents_pass_and_the_verdict_is_published(world):
    found = world.publish()
    verdict = gate_documents(world.corpus, world.lake, documents=found["documents"])
    print(verdict.extra)
    assert verdict.extra["success"]
    assert verdict.manifest["parents"][0]["digest"] == found["documents"].digest


def test_good_study_passes(world):
    verdict = study_gate(world, world.publish())
    print(verdict.extra)
    assert verdict.extra["success"]
