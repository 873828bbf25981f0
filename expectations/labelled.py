"""A labelled study's gates in Data Docs: the verdicts of its card (`palimpsest.labelled.judge`), a sentence each."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from expectations.rules import EveryRow
from expectations.sentences import EveryVerdict, VerifierBeatsChance
from expectations.verdicts import Judged
from palimpsest.lake import Published


class GeneratedItemsBeatOversampling(EveryVerdict):
    gate = "L1"
    setting = "gates.gain_sd"
    sentence = "Verified items are worth more than oversampling (breaches: {asked})"


class OtherCellsLoseLittle(EveryVerdict):
    gate = "L2"
    setting = "gates.head_loss_points"
    sentence = "Cells that were not short lose little recall (breaches: {asked})"


class NoCellIsAboveItsCap(EveryVerdict):
    gate = "L4"
    setting = "coverage.max_ratio"
    sentence = "No cell has more generated items per real one than its cap (breaches: {asked})"


class GeneratedItemsStandApart(EveryVerdict):
    gate = "L5"
    setting = ""
    sentence = "No accepted item stands near a validation or test item (breaches: {asked})"


class ShortCellsHaveSeeds(EveryVerdict):
    gate = "L6"
    setting = "coverage.min_seeds"
    sentence = "Cells that are short have enough real items to generate from (breaches: {asked})"


GATES = (
    GeneratedItemsBeatOversampling,
    OtherCellsLoseLittle,
    VerifierBeatsChance,
    NoCellIsAboveItsCap,
    GeneratedItemsStandApart,
    ShortCellsHaveSeeds,
)


def show(card: Published) -> Judged:
    """The pages of a card (``labelled/<name>/card``), and what was said of each gate; nothing is stopped by it."""
    from expectations.checkpoint import judge

    found = profile(card)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gates.parquet"
        found.to_parquet(file, index=False)
        return judge(card.dataset, {"gates": found}, {"gates": file}, {"gates": suite(set(found["gate"]))})


def profile(card: Published) -> pd.DataFrame:
    """A row per verdict; what keeps the data from being published is a breach, though it was not judged."""
    rows = pq.read_table(card.file("verdicts.parquet")).to_pylist()
    return pd.DataFrame(
        {
            "subject": f"{row['gate']} {row['measure']} {row['subject']}".rstrip(),
            "gate": row["gate"],
            "outcome": row["outcome"],
            "sentence": row["sentence"],
            "blocks": int(row["sentence"] in card.extra["failed"]),
            "warns": int(row["outcome"] == "warned"),
        }
        for row in rows
    )


def suite(gates: set[str]) -> list[EveryRow]:
    asked = [rule for rule in GATES if rule.gate in gates]
    return [*(rule() for rule in asked), *(rule(column="warns", severity="warning") for rule in asked)]
