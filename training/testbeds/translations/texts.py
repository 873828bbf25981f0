"""``testbeds/translations/texts``: passages in eight translations to choose from, where a ninth is the target.

The text of study *translations*: one modern translation (BSB) is the real text, and eight others are its rephrases.
Passages of it are vouched for, others are in the pool in all eight, and whole chapters that are held out, again in the
target's translation, are the test. Nothing is degraded: which translation helps is measured (`WORTH`).
"""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from palimpsest.config import matching, remedy
from palimpsest.guard.tokens import TOKEN
from palimpsest.lake import Facts, Lake, Published, digest_file
from training.testbeds.docs import texts
from training.testbeds.docs.texts import Texts

FILE = "$PALIMPSEST_DATA/translations/translations.parquet"
TARGET = "BSB"
WORTH = {
    **{"NHEB": 0.66, "ACV": 0.56, "Darby": 0.49, "BBE": 0.48},
    **{"ASV": 0.45, "Rotherham": 0.34, "YLT": 0.3, "Geneva1599": 0.0},
}
"""Grades, as they were measured (part ``worth``) on seed 99, which no page has; what did harm counts as 0."""
GOOD = 4
"""Translations that count as good: as many as the budget has room for."""
VOUCHED, POOL = 160, 200
"""Passages that each seed draws."""
CODE = ("training/testbeds/translations/texts.py", *texts.CODE)
DATASET = "testbeds/translations/texts"


def draw(file: Path, seed: int) -> Texts:
    """The texts of a seed, words and marks with single spaces; the test is the same for all."""
    wanted = pq.read_table(file, columns=["doc_id", "version", "split", "text"]).to_pylist()
    said = {(row["doc_id"], row["version"]): " ".join(TOKEN.findall(row["text"])) for row in wanted}
    passages = {split: sorted({r["doc_id"] for r in wanted if r["split"] == split}) for split in ("train", "val")}
    random = np.random.default_rng([seed, 51])
    drawn = random.permutation(passages["train"])[: VOUCHED + POOL]
    pool = [(number, version) for number in range(POOL) for version in WORTH]
    shown = [pool[place] for place in random.permutation(len(pool))]
    return Texts(
        test=[said[passage, TARGET] for passage in passages["val"]],
        vouched=[said[passage, TARGET] for passage in drawn[:VOUCHED]],
        pool=[said[drawn[VOUCHED + number], version] for number, version in shown],
        kind=[version for _, version in shown],
        document=[number for number, _ in shown],
    )


def publish(lake: Lake, seed: int) -> Published:
    """What `training.testbeds.docs.texts.save` writes, of a seed.

    Raises FileNotFoundError where the data folder has no translations.
    """

    def write(directory: Path) -> Facts:
        best = sorted(WORTH, key=WORTH.__getitem__, reverse=True)[:GOOD]
        return texts.save(draw(_file(), seed), WORTH, directory, clean=best)

    return lake.publish(DATASET, write, config=_config(seed), code=CODE)


def known(lake: Lake, seed: int) -> Published | None:
    """The texts of a seed, if this code has published them of the data that there is."""
    return lake.version(DATASET, config=_config(seed), code=CODE) if matching(FILE) else None


def _config(seed: int) -> dict[str, object]:
    return {"seed": seed, "python": platform.python_version(), "file": digest_file(_file())}


def _file() -> Path:
    if found := matching(FILE):
        return found[0]
    raise FileNotFoundError(f"testbed translations: no file {FILE}; {remedy(FILE)}")
