"""``testbeds/translations/texts``: passages in eight translations to choose from, where a ninth is the target.

The text of study *translations*: one modern translation (BSB) is the real text, and eight others are its rephrases.
Passages of it are vouched for, those of other chapters are in the pool in all eight, and those of others again, in the
target's translation, are the test. Nothing is degraded: which translation helps is measured (`WORTH`).
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from palimpsest.config import matching, remedy
from palimpsest.guard.tokens import TOKEN
from palimpsest.lake import Facts, Lake, Published, digest_file
from training.testbeds.docs import texts
from training.testbeds.docs.texts import Texts

FILE = "$PALIMPSEST_DATA/translations/translations.parquet"
TARGET = "BSB"
WORTH = {
    **{"NHEB": 0.77, "ACV": 0.71, "Darby": 0.6, "ASV": 0.59},
    **{"BBE": 0.57, "Rotherham": 0.52, "YLT": 0.47, "Geneva1599": 0.08},
}
"""Grades, as they were measured (part ``worth``) on seed 99, which no page has; what did harm counts as 0."""
GOOD = 4
"""Translations that count as good: as many as the budget has room for."""
VOUCHED, POOL, TEST = 160, 200, 300
"""Passages that each seed draws, of whole chapters."""
CODE = ("training/testbeds/translations/texts.py", *texts.CODE)
DATASET = "testbeds/translations/texts"


def draw(file: Path, seed: int) -> Texts:
    """The texts of a seed, words and marks with single spaces.

    Each part has chapters of its own, which another seed may have in another part. The chapters that study
    *translations* holds out are left alone.

    Raises ValueError for a file with too few passages, or without one of the translations.
    """
    import duckdb

    wanted = [TARGET, *WORTH]
    rows = duckdb.execute(
        "select chapter_id, doc_id, version, text from read_parquet(?) "
        "where split = 'train' and list_contains(?, version) order by chapter_id, doc_id",
        [str(file), wanted],
    ).fetchall()
    said = {(passage, version): " ".join(TOKEN.findall(text)) for _, passage, version, text in rows}
    chapters: dict[str, list[str]] = {}
    for chapter, passage, version, _ in rows:
        if version == TARGET and all((passage, other) in said for other in WORTH):
            chapters.setdefault(chapter, []).append(passage)
    random = np.random.default_rng([seed, 51])
    names = random.permutation(sorted(chapters)).tolist()
    vouched, pool, test = (_whole(chapters, names, count) for count in (VOUCHED, POOL, TEST))
    if len(test) < TEST:
        raise ValueError(
            f"{file} has {sum(map(len, chapters.values()))} passages for training in all of {', '.join(wanted)}, in "
            f"chapters of which {VOUCHED + POOL + TEST} passages are needed"
        )
    texts = [(number, version) for number in range(len(pool)) for version in WORTH]
    shown = [texts[place] for place in random.permutation(len(texts))]
    return Texts(
        test=[said[passage, TARGET] for passage in test],
        vouched=[said[passage, TARGET] for passage in vouched],
        pool=[said[pool[number], version] for number, version in shown],
        kind=[version for _, version in shown],
        document=[number for number, _ in shown],
    )


def _whole(chapters: Mapping[str, list[str]], names: list[str], count: int) -> list[str]:
    """So many passages of chapters that are taken off ``names``; of the last of them what is needed."""
    found: list[str] = []
    while names and len(found) < count:
        found += chapters[names.pop()]
    return found[:count]


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
