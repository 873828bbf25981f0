"""What the choice of held-out documents does to a difference in loss: its interval over documents.

Tokens of one document are not independent, documents are taken to be: each is a cluster. A set's loss difference is the
ratio ``sum(nats_first - nats_second) / sum(tokens)`` over its documents, and the variance that of a ratio estimator
(Cochran 1977, chapter 6; for language models Miller 2024, 'Adding error bars to evals', clustered and paired errors),
in closed form. Both losses are of the same documents, so what makes a document hard for both cancels.

Documents differ much in length, and a long one draws the ratio to itself. Residuals are therefore those with the
document left out (the jackknife), and Student's t has the degrees of Kish's effective number of documents,
``sum(tokens)**2 / sum(tokens**2) - 1``: documents - 1 where all are equally long. Over lognormal lengths (deviation of
the log 0.5 to 1.2, 10 to 1000 documents) that covers 93.4 to 95.5%; plain residuals with documents - 1 degrees cover
82 to 95.5%.

It answers another question than the seed interval: other documents of the same kind under these very models, where
that is other seeds on these very documents. The root of the sum of both squares stands for both at once, a little
wide. Neither covers documents of another kind.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow.parquet as pq
from scipy.special import stdtrit

from palimpsest.lake import Published

FILE = "documents.parquet"
COLUMNS = ["document_id", "tokens", "set", "is_short", "is_long"]


@dataclass(frozen=True)
class Documents:
    """The held-out documents, and what every run makes of each."""

    tokens: np.ndarray = field(default_factory=lambda: np.empty(0))
    """(documents,), the closing boundary among them."""
    sets: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By held-out set: is the document in it? (documents,)"""
    nats: Mapping[str, Mapping[int, np.ndarray]] = field(default_factory=dict)
    """By recipe, then seed: the document's summed loss, (documents,)."""

    def influence(self, first: str, second: str, name: str, seeds: Sequence[int]) -> np.ndarray | None:
        """What each document does to loss of ``first`` minus loss of ``second`` on the set, means over the seeds.

        (documents,) in nats, 0 outside the set; None where a run has no such losses or the set fewer than two
        documents. The influence of a sum of differences is the sum of theirs.
        """
        ours, theirs, members = self.nats.get(first, {}), self.nats.get(second, {}), self.sets.get(name)
        if not seeds or members is None or members.sum() < 2 or not set(seeds) <= ours.keys() & theirs.keys():
            return None
        nats = np.mean([ours[seed][members] - theirs[seed][members] for seed in seeds], axis=0)
        found = np.zeros(len(members))
        found[members] = influence(nats, self.tokens[members])
        return found if np.isfinite(found).all() else None

    def margin(self, influence: np.ndarray | None, *names: str) -> float | None:
        """Half width of the difference with this influence; ``names`` are its sets, the widest interval counts."""
        if influence is None:
            return None
        return float(max(half_width(influence, self.tokens[self.sets[name]]) for name in names))

    def counts(self) -> dict[str, dict[str, float]]:
        """By set: documents, and as how many of equal length they count."""
        found = {name: self.tokens[members] for name, members in self.sets.items() if members.any()}
        return {
            name: {"documents": len(own), "effective": round(float(effective(own)), 1)} for name, own in found.items()
        }


def read(runs: Sequence[tuple[Published, Mapping]], reference: str) -> Documents:
    """The documents of runs, each given with its evaluation.

    Runs that published none (older ones), or others than the reference's, are not in it.
    """
    runs = [(run, evaluation) for run, evaluation in runs if (run.path / FILE).exists()]
    first = next((run for run, evaluation in runs if evaluation["recipe"] == reference), None)
    if first is None:
        return Documents()
    index, nats = pq.read_table(first.file(FILE), columns=COLUMNS), defaultdict(dict)
    for run, evaluation in runs:
        table = pq.read_table(run.file(FILE))
        if table.select(COLUMNS).equals(index):
            nats[evaluation["recipe"]][evaluation["seed"]] = table["nats"].to_numpy()
    rows = index.to_pydict()
    own = np.array([name is None for name in rows["set"]], bool)
    sets = {"iid": own} | {name: own & np.array(rows[f"is_{name}"], bool) for name in ("short", "long")}
    sets |= {name: np.array([other == name for other in rows["set"]]) for name in dict.fromkeys(rows["set"]) if name}
    return Documents(np.array(rows["tokens"], float), sets, dict(nats))


def influence(nats: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """By how much ``sum(nats) / sum(tokens)`` moves without each document, over the last axis.

    Scaled so that the squares add up to the ratio's variance.
    """
    count, total = nats.shape[-1], tokens.sum(-1, keepdims=True)
    residual = nats - nats.sum(-1, keepdims=True) / total * tokens
    return residual / (total - tokens) * math.sqrt((count - 1) / count)


def half_width(influence: np.ndarray, tokens: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Of the interval over documents of these lengths, over the last axis."""
    return stdtrit(np.maximum(effective(tokens) - 1, 1), (1 + level) / 2) * np.sqrt((influence**2).sum(-1))


def effective(tokens: np.ndarray) -> np.ndarray:
    """Kish's number: as many documents of equal length would tell as much, over the last axis."""
    return tokens.sum(-1) ** 2 / (tokens**2).sum(-1)


def holds(difference: float | None, margin: float | None) -> bool | None:
    """Does the interval exclude 0? None where there is none."""
    return None if difference is None or margin is None else abs(difference) > margin
