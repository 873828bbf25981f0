"""What scores keep of the pool at one budget of tokens, and what a word trigram learns from that."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import spearmanr

from palimpsest.guard.tokens import Vocabulary
from palimpsest.guard.trigram import Trigram
from palimpsest.lake import Published
from training.selection import classifier, commonness, likelihood
from training.selection.found import Scores, average
from training.selection.pool import Pool

BUDGET = 0.5
"""Of the pool's tokens."""
LOTS = 5
"""Draws of which chance and the oracle, whose best texts are more than the budget, are the mean."""
RANDOM, ORACLE, EVERYTHING, LENGTH, RANK = "random", "oracle", "everything", "length", "rank average"
CHEAP = {"log-probability": likelihood.score, "classifier": classifier.score, "commonness": commonness.score}
AVERAGED = ("log-probability", "classifier")

Row = dict[str, object]


class Bench:
    """One seed's arms: ``tables`` has what each came to, and what it kept of each kind."""

    def __init__(self, texts: Published, seed: int) -> None:
        self.seed, self.pool = seed, Pool(texts, texts)
        columns = ["generation_id", "text", "kind", "grade", "clean"]
        known = {
            row["generation_id"]: row
            for row in pq.read_table(texts.file("generations.parquet"), columns=columns).to_pylist()
        }
        self.places = np.flatnonzero(self.pool.origin == "synthetic")
        rows = [known[self.pool.rows["id"][int(place)].as_py()] for place in self.places]
        self.vocabulary = vocabulary = Vocabulary()
        self.kind = np.array([row["kind"] for row in rows], dtype=object)
        self.kinds = sorted(set(self.kind))
        self.grade = np.array([row["grade"] for row in rows])
        self.clean = np.array([row["clean"] for row in rows])
        self.encoded = [vocabulary.encode(row["text"]) for row in rows]
        self.test = [vocabulary.encode(text) for text in pq.read_table(texts.file("test.parquet"))["text"].to_pylist()]
        self.types = len(vocabulary)
        self.tables: dict[str, list[Row]] = {"arms": [], "kinds": [], "figures": []}

    def simple(self) -> None:
        """Chance, everything, the oracle, and scores that nothing is trained for."""
        found: dict[str, Scores] = {}
        self.add(RANDOM, lambda: None)
        self.add(ORACLE, lambda: self.grade)
        self.add(EVERYTHING, lambda: None, budget=1.0)
        self.add(LENGTH, lambda: np.array([len(text) for text in self.encoded], float))
        for name, score in CHEAP.items():
            self.scored(name, lambda name=name, score=score: found.setdefault(name, score(self.pool)))
        self.scored(RANK, lambda: average({name: found[name] for name in AVERAGED}, self.pool.origin))
        self._paid(RANK, AVERAGED)

    def scored(self, name: str, work: Callable[[], Scores]) -> None:
        """An arm by a score of the selection stage, and what the method says of itself."""
        found: list[Scores] = []

        def score() -> np.ndarray:
            found.append(work())
            return found[0].score[self.places]

        row = self.add(name, score)
        row["flops"] = found[0].flops
        own = {"arm": name, "seed": self.seed}
        self.tables["figures"] += [{**own, "figure": key, "value": float(v)} for key, v in found[0].figures.items()]

    def add(self, name: str, work: Callable[[], np.ndarray | None], *, budget: float = BUDGET) -> Row:
        """The row of an arm that keeps the highest scores; where most are alike, the mean of several lots.

        A budget of all has nothing to draw: every lot would keep the same texts.
        """
        began, spent = time.monotonic(), time.process_time()
        score = work()
        cost = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - spent}
        drawn = np.zeros(len(self.encoded)) if score is None else score
        drawn_by_lot = budget < 1 and len(np.unique(drawn)) < len(drawn) / 2
        found = [self._learned(drawn, lot, budget) for lot in range(LOTS if drawn_by_lot else 1)]
        perplexities, shares = zip(*found, strict=True)
        own = {"arm": name, "seed": self.seed}
        row = {**own, "perplexity": float(np.mean(perplexities)), **self._against(score), "flops": None, **cost}
        self.tables["arms"].append(row)
        kept = {kind: float(np.mean([share[kind] for share in shares])) for kind in self.kinds}
        self.tables["kinds"] += [{**own, "kind": kind, "kept": share} for kind, share in kept.items()]
        return row

    def _learned(self, score: np.ndarray, lot: int, budget: float) -> tuple[float, dict[str, float]]:
        """Perplexity of the test under what is kept, equal scores by lot and the last text cut; kept shares by kind."""
        lots = np.random.default_rng([self.seed, 12, lot]).random(len(score))
        order = np.lexsort((lots, -score))
        lengths = np.array([len(self.encoded[place]) for place in order])
        left = np.maximum(round(budget * lengths.sum()) - (np.cumsum(lengths) - lengths), 0)
        kept = np.minimum(lengths, left)
        chosen = [self.encoded[place][:count] for place, count in zip(order, kept, strict=True) if count]
        of = self.kind[order]
        shares = {kind: float(kept[of == kind].sum() / lengths[of == kind].sum()) for kind in self.kinds}
        return Trigram(chosen, self.types).perplexity(self.test), shares

    def _against(self, score: np.ndarray | None) -> dict[str, float | None]:
        """How well a score tells clean texts, and how it follows the grades."""
        from sklearn.metrics import roc_auc_score

        if score is None:
            return {"auroc": None, "spearman": None}
        return {
            "auroc": float(roc_auc_score(self.clean, score)),
            "spearman": float(spearmanr(score, self.grade).statistic),
        }

    def _paid(self, name: str, parts: tuple[str, ...]) -> None:
        """An average costs what its parts do, and itself."""
        rows = {row["arm"]: row for row in self.tables["arms"]}
        for cost in ("seconds", "cpu_seconds", "flops"):
            rows[name][cost] += sum(rows[part][cost] for part in parts)
