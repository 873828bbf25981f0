"""Labelled studies small enough for a test: the digits as shipped, and texts of invented words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palimpsest.config import Labelled, load_labelled
from palimpsest.labelled import card, stages
from palimpsest.lake import REPOSITORY, Lake, Published

SEEDS = [0, 1, 2]
WORDS = 60


@dataclass(frozen=True)
class Run:
    """A study that has run."""

    study: Labelled
    lake: Lake
    planned: Published
    measured: list[Published]
    told: Published

    @property
    def table(self) -> dict:
        return json.loads(self.told.file("table.json").read_text())

    @property
    def arms(self) -> dict[str, dict]:
        return {row["arm"]: row for row in self.table["arms"]}


def run(study: Labelled, lake: Lake) -> Run:
    planned = stages.plan(study, lake)
    measured = [stages.measure(study, lake, planned, seed) for seed in study.seeds]
    return Run(study, lake, planned, measured, card.card(study, lake, planned, measured))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The shipped testbed with three of its six seeds."""
    study = load_labelled(REPOSITORY / "dags" / "labelled" / "digits.yaml").model_copy(update={"seeds": SEEDS})
    return run(study, Lake(tmp_path_factory.mktemp("lake")))


def texts(label: str, count: int, seed: int, own: float = 0.35) -> list[str]:
    """Sentences of common words, with some that only this label uses."""
    random = np.random.default_rng([seed, *label.encode()])
    return [
        " ".join(
            f"{label}{random.integers(40)}" if random.random() < own else f"word{int(200 * random.random() ** 2)}"
            for _ in range(WORDS)
        )
        for _ in range(count)
    ]


def write_table(path: Path, counts: dict[tuple[str, str], int], seed: int = 0) -> Path:
    """A table of so many texts by label and group."""
    rows = [
        {"text": text, "label": label, "group": group}
        for number, ((label, group), count) in enumerate(counts.items())
        for text in texts(label, count, seed + number)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def content(file: Path, **changes) -> dict:
    """A text study of few items, whose limits are as small."""
    found = {
        "name": "toy",
        "description": "Does a toy repair itself?",
        "source": {"files": [str(file)], "group": "group"},
        "test": 20,
        "validation": 10,
        "train": 40,
        "coverage": {"min_seeds": 10},
        "generator": {"kind": "recombine"},
        "curve": [0, 0.5, 1],
        "seeds": [0],
        "learner": {"features": 2048},
    }
    return {**found, **changes}


COUNTS = {
    ("alpha", "x"): 90,
    ("alpha", "y"): 90,
    ("beta", "x"): 90,
    ("beta", "y"): 42,
    ("gamma", "x"): 24,
    ("gamma", "y"): 90,
}
"""Training items left: 40 in most cells, 18 of beta/y, 8 of gamma/x."""


@pytest.fixture
def toy(tmp_path: Path) -> Labelled:
    return Labelled.model_validate(content(write_table(tmp_path / "toy.parquet", COUNTS)))
