"""Tier 0 of the collapse experiments: every policy on CPython's own text, round by round.

    python -m palimpsest guard experiment

Half a second per round on one core. The trigram learns from 80% of the documents; perplexity is on the other 20%.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from palimpsest.guard.corpus import cpython_documents, held_out
from palimpsest.guard.diversity import BLOCK, figures
from palimpsest.guard.loops import Arm, Documents, generations, portions
from palimpsest.guard.tail import Counts, Source, sampled, tail
from palimpsest.guard.tokens import Vocabulary, draw, size
from palimpsest.guard.trigram import Trigram
from palimpsest.lake import Facts, Lake, Published
from palimpsest.machine import hardware

GENERATIONS = 5
SEEDS = (0, 1, 2)
TEST_SHARE = 0.2
PASSAGE = 256
"""Tokens. Real documents are learned and drawn in passages: a few help topics hold a quarter of the text, and whether
a draw has one or not would move a perplexity by more than a generation does."""
SHARES = (0.0, 0.1, 0.25, 0.5, 1.0)
COLD = 0.7
REPLAY = 0.25
DECODINGS = ({}, {"temperature": COLD}, {"mode_seeking": True})
ARMS = (
    *(
        Arm(policy, real, **decoding)
        for decoding in DECODINGS
        for policy, real in (
            *(("replace", share) for share in SHARES),
            ("subsample", 0.0),
            ("subsample", 0.25),
            ("accumulate", 0.0),
        )
    ),
    *(
        Arm(policy, real, replay=REPLAY)
        for policy, real in (("replace", 0.0), ("replace", 0.5), ("subsample", 0.0), ("accumulate", 0.0))
    ),
)
CODE = ("plugins/palimpsest/guard", "plugins/palimpsest/config/loop.py")


@dataclass(frozen=True)
class Row:
    """One generation of one arm."""

    arm: str
    decoding: str
    seed: int
    generation: int
    perplexity: float
    """Of held-out real text under the model that learned from this generation's mix."""
    base: float
    """The same under a model of the real text alone; in the continual form of this generation's."""
    real_share: float
    entropy: float
    """Of what the model before wrote, as the next three; of one block."""
    compression: float
    distinct_3: float
    types: int
    """Distinct words."""
    recall: float | None
    """Of the rare words of the real text, those in it. None in the continual form, where real text changes."""
    sampled: float | None
    """The recall that pure sampling alone would leave at this depth, were no real text mixed in."""


@dataclass(frozen=True)
class World:
    """One seed's split of the corpus: documents as numbers, and the model of the real text."""

    real: Documents
    test: Documents
    source: Source
    model: Trigram
    vocabulary: Vocabulary


def world(texts: Sequence[str], seed: int) -> World:
    """A random 80/20 split. Raises ValueError for texts too few to split."""
    vocabulary = Vocabulary()
    real, test = held_out([vocabulary.encode(text) for text in texts], TEST_SHARE, seed)
    if not size(real) or not size(test):
        raise ValueError(f"{len(texts)} documents cannot be split into training and test text; give more")
    real = [document[start : start + PASSAGE] for document in real for start in range(0, len(document), PASSAGE)]
    counts = Counts(spread=True)
    counts.add(real)
    return World(real, test, counts.source(), Trigram(real, len(vocabulary)), vocabulary)


def grid(
    texts: Sequence[str], seeds: Iterable[int] = SEEDS, count: int = GENERATIONS, arms: Sequence[Arm] = ARMS
) -> Iterator[Row]:
    """A row per seed, arm and generation, as they are made."""
    for seed in seeds:
        here, starts = world(texts, seed), {}
        for arm in arms:
            if arm.replay not in starts:
                starts[arm.replay] = _start(here, arm.replay, seed, count)
            yield from _rows(here, arm, seed, count, *starts[arm.replay])


def _start(
    here: World, replay: float | None, seed: int, count: int
) -> tuple[Documents | list[Documents], Trigram, list[float]]:
    """The real text (of every round, in the continual form), the first model, and what real text alone comes to."""
    if replay is None:
        return here.real, here.model, [here.model.perplexity(here.test)] * (count + 1)
    real = portions(here.real, count, replay, np.random.default_rng([seed, 2]))
    models = [Trigram(own, len(here.vocabulary)) for own in real]
    return real, models[0], [model.perplexity(here.test) for model in models]


def _rows(
    here: World, arm: Arm, seed: int, count: int, real: Sequence, model: Trigram, bases: Sequence[float]
) -> Iterator[Row]:
    types = len(here.vocabulary)
    for found in generations(real, model, arm, count, types, np.random.default_rng([seed, 1])):
        written = Counts()
        written.add(found.written)
        block = draw(found.written, BLOCK, np.random.default_rng(seed))
        measured = figures([here.vocabulary.decode(document) for document in block], block)
        fixed = arm.replay is None
        yield Row(
            arm.name,
            arm.decoding,
            seed,
            found.generation,
            found.model.perplexity(here.test),
            bases[found.generation],
            found.real_share,
            **{name: measured[name] for name in ("entropy", "compression", "distinct_3")},
            types=int((written.counts > 0).sum()),
            recall=tail(written, here.source).recall if fixed else None,
            sampled=sampled(here.source, found.generation) if fixed else None,
        )


def publish(
    lake: Lake,
    seeds: int = len(SEEDS),
    generations: int = GENERATIONS,
    tell: Callable[[Row], None] | None = None,
    arms: Sequence[Arm] = ARMS,
) -> Published:
    """``guard/experiment``: rounds.parquet, and in ``extra`` how long it took and on what; ``tell`` has each row.

    Nothing is done where this Python's text, the code and the numbers are those of the last time.
    """

    def write(directory: Path) -> Facts:
        import pyarrow as pa
        import pyarrow.parquet as pq

        started, used, rows, texts = time.monotonic(), time.process_time(), [], cpython_documents()
        for row in grid(texts, range(seeds), generations, arms):
            rows.append(asdict(row))
            if tell:
                tell(row)
        pq.write_table(pa.Table.from_pylist(rows), directory / "rounds.parquet")
        took = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - used}
        return Facts(extra=took | {"documents": len(texts), "hardware": hardware()})

    config = {"seeds": seeds, "generations": generations, "python": sys.version.split()[0]}
    config["arms"] = [asdict(arm) for arm in arms]
    return lake.publish("guard/experiment", write, config=config, code=CODE)


def load(published: Published) -> list[Row]:
    """The rows of a published experiment."""
    import pyarrow.parquet as pq

    return [Row(**row) for row in pq.read_table(published.file("rounds.parquet")).to_pylist()]
