"""``testbeds/web/texts``: passages of the web text in the data folder, half of what is chosen from worse or generated.

Layout, shares and most kinds are those of `training.testbeds.docs.texts`, with one passage of every drawn document.
The web text holds nothing generated, so two sorts of that are added. Rephrases by a large language model are the
sample's recordings, of pages that are no part of the web text: good prose of elsewhere. Samples of a word trigram of
the passages that are vouched for, and of a trigram of such samples, are what a model makes of its own training text:
nothing sounds more like the target.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from palimpsest.config import matching, remedy, unresolved
from palimpsest.guard.tokens import TOKEN, Vocabulary, size
from palimpsest.guard.trigram import Trigram
from palimpsest.lake import REPOSITORY, Facts, Lake, Published, digest_file
from training.testbeds.docs import texts
from training.testbeds.docs.degrade import GRADES as DEGRADED
from training.testbeds.docs.degrade import Grades, Words
from training.testbeds.docs.texts import Encoded

FILES = "$PALIMPSEST_DATA/text/web_train-*.parquet"
REPHRASES = REPOSITORY / "sample" / "generations.jsonl"
DOCUMENTS, PASSAGE = 2_400, 200
"""Drawn by each seed, of some 24,000; words and marks of each that are taken, so that length tells nothing."""
CODE = ("training/testbeds/web/texts.py", *texts.CODE)
DATASET = "testbeds/web/texts"
SELF = ("self once", "self twice")
WORTH = {
    **{"clean": 1.0, "shuffled 30": 0.6, "shuffled 100": 0.1, "misread 10": 0.1, "misread 30": 0.0, "code": 0.0},
    **{"boilerplate": 0.0, "rephrased": 0.5, "self once": 0.8, "self twice": 0.6},
}
"""Grades, as they were measured (part ``worth``) on seed 99, which no page has; what did harm counts as 0."""
GRADES: Grades = {kind: (worth, DEGRADED.get(kind, (worth, None))[1]) for kind, worth in WORTH.items()}


def documents(seed: int) -> list[str]:
    """A passage of each of the documents that a seed draws, none twice, words and marks with single spaces."""
    tables = (pq.read_table(file, columns=["text"]) for file in _files())
    found = list(dict.fromkeys(text for table in tables for text in table["text"].to_pylist()))
    random = np.random.default_rng([seed, 31])
    passages = (passage(found[place], random) for place in random.permutation(len(found))[:DOCUMENTS])
    return list(dict.fromkeys(passages))


def passage(text: str, random: np.random.Generator) -> str:
    """So many words and marks from anywhere in the text; all of a shorter one."""
    words = TOKEN.findall(text)
    start = random.integers(max(len(words) - PASSAGE, 0) + 1)
    return " ".join(words[start : start + PASSAGE])


def publish(lake: Lake, seed: int) -> Published:
    """What `training.testbeds.docs.texts.save` writes, of a seed.

    Raises FileNotFoundError where the data folder has no web text.
    """

    def write(directory: Path) -> Facts:
        return texts.save(texts.draw(documents(seed), seed, GRADES, _generated), WORTH, directory)

    return lake.publish(DATASET, write, config=_config(seed), code=CODE)


def known(lake: Lake, seed: int) -> Published | None:
    """The texts of a seed, if this code has published them of the data that there is."""
    return lake.version(DATASET, config=_config(seed), code=CODE) if matching(FILES) else None


def _config(seed: int) -> dict[str, object]:
    files = {unresolved(file): digest_file(file) for file in (*_files(), REPHRASES)}
    return {"seed": seed, "python": platform.python_version(), "files": files}


def _files() -> list[Path]:
    if found := matching(FILES):
        return found
    raise FileNotFoundError(f"testbed web: no file {FILES}; {remedy(FILES)}")


def _generated(
    vouched: Encoded, pool: Encoded, each: int, vocabulary: Vocabulary, random: np.random.Generator
) -> dict[str, list[Words]]:
    rows = map(json.loads, REPHRASES.read_text(encoding="utf-8").splitlines())
    written = [row["text"] for row in rows if row["strategy"] == "rephrase"]
    if len(written) < each:
        raise ValueError(f"{REPHRASES.name} has {len(written)} rephrases, and {each} are needed; draw fewer documents")
    rephrased = [passage(written[place], random).split() for place in random.permutation(len(written))[:each]]
    found, source, length = {"rephrased": rephrased}, vouched, size(vouched) // len(vouched)
    for kind in SELF:
        source = Trigram(source, len(vocabulary)).sample(size(vouched), random)
        flat = np.concatenate(source)[: each * length]  # as long as passages, or their length would tell them
        found[kind] = [[vocabulary.words[number] for number in text] for text in np.split(flat, each)]
    return found
