"""One seed of a labelled study: every arm trained and measured on real test items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from palimpsest.config import Labelled
from palimpsest.guard.distance import told_apart
from palimpsest.labelled.coverage import Cell
from palimpsest.labelled.deal import Deal
from palimpsest.labelled.draft import Drafts
from palimpsest.labelled.items import Items, take
from palimpsest.labelled.learner import Classifier, balanced, features, label_noise, out_of_sample, stack
from palimpsest.labelled.score import score


@dataclass(frozen=True)
class Bench:
    """What all arms of a seed share."""

    study: Labelled
    items: Items
    cells: Sequence[Cell]
    seed: int
    train: np.ndarray
    train_rows: object
    held_back: np.ndarray
    held_rows: object
    test: np.ndarray
    test_rows: object
    drafts: Drafts

    @classmethod
    def of(cls, study: Labelled, items: Items, cells: Sequence[Cell], dealt: Deal, drafts: Drafts, seed: int) -> Bench:
        rows = (
            features(take(items.values, part), study.learner) for part in (dealt.train, dealt.held_back, dealt.test)
        )
        train, held, test = rows
        return cls(
            study, items, cells, seed, dealt.train, train, dealt.held_back, held, dealt.test, test, drafts
        )  # fmt: skip

    @property
    def labels(self) -> int:
        return len(self.items.labels)

    def label_of(self, places: np.ndarray) -> np.ndarray:
        """Labels of drafts."""
        return self.drafts.cells[places] // len(self.items.groups)

    def fit(self, *, added: np.ndarray | None = None, real: np.ndarray | None = None, weigh: bool = True) -> Classifier:
        """A classifier of the real training items with drafts ``added``, or with held-back items ``real``."""
        rows, cells = [self.train_rows], [self.items.cells[self.train]]
        if added is not None and len(added):
            rows.append(self.drafts.rows[added])
            cells.append(self.drafts.cells[added])
        if real is not None and len(real):
            rows.append(self.held_rows[real])
            cells.append(self.items.cells[self.held_back[real]])
        cells = np.concatenate(cells)
        last = None
        if self.study.learner.last_on_real and added is not None and len(added):
            last = np.arange(len(self.train))
        weights = balanced(cells) if weigh else None
        return Classifier(
            self.study.learner, self.labels, stack(*rows), cells // len(self.items.groups), weights, last
        )  # fmt: skip

    def scored(self, model: Classifier) -> dict[str, object]:
        found = score(
            model.probabilities(self.test_rows),
            self.items.label[self.test],
            self.items.cells[self.test],
            [bool(cell.deficit) for cell in self.cells],
        )
        return found | {"worst_cell": self.items.names[found["worst_cell"]]}


def arms(bench: Bench) -> dict[str, dict[str, object]]:
    """Figures by arm, the mandatory baselines first; 'real' only where enough was held back."""
    drafts, cells = bench.drafts, bench.cells
    models = {"nothing": bench.fit(weigh=False), "oversampled": bench.fit()}
    sets = {"unverified": drafts.separate, "verified": drafts.verdicts == "accepted"}
    if drafts.planted.any():
        sets = {"clean": drafts.separate & ~drafts.planted} | sets
    found = {arm: bench.scored(model) | {"added": 0} for arm, model in models.items()}
    for arm, which in sets.items():
        places = drafts.first(which, cells, 1)
        found[arm] = bench.scored(bench.fit(added=places)) | {"added": len(places)}
    places = as_much_real(bench)
    if len(places):
        found["real"] = bench.scored(bench.fit(real=places)) | {"added": len(places)}
    return found


def as_much_real(bench: Bench) -> np.ndarray:
    """Places among the held-back items: of each cell as many as are planned to be generated, or all there are."""
    cells = bench.items.cells[bench.held_back]
    found = [np.flatnonzero(cells == place)[: cell.planned] for place, cell in enumerate(bench.cells)]
    return np.concatenate([*found, np.zeros(0, int)]).astype(int)


def curve(bench: Bench, known: Mapping[str, Mapping[str, object]]) -> list[dict[str, object]]:
    """Figures by share of the deficit that is filled with verified items; ``known`` has those of 0 and of 1 already:
    the arms 'oversampled' and 'verified'.
    """
    found = []
    for share in sorted(set(bench.study.curve)):
        places = bench.drafts.first(bench.drafts.verdicts == "accepted", bench.cells, share)
        arm = {0: "oversampled", 1: "verified"}.get(share)
        figures = known[arm] if arm else bench.scored(bench.fit(added=places))
        found.append({**figures, "share": share, "added": len(places)})
    return found


def fidelity(bench: Bench) -> dict[str, object]:
    """TSTR, TRTS and class-conditional C2ST of the accepted items, each beside what real items give.

    TSTR: trained on generated items, tested on real ones of the same labels; TRTS the other way round.
    """
    places = bench.drafts.first(bench.drafts.verdicts == "accepted", bench.cells, 1)
    labels, own = bench.label_of(places), bench.items.label
    known = np.unique(labels)
    among = np.isin(own[bench.test], known)
    found: dict[str, object] = {"labels": len(known)}
    if len(known) >= 2:
        made = Classifier(bench.study.learner, bench.labels, bench.drafts.rows[places], labels, balanced(labels))
        found["tstr"] = _accuracy(made, bench.test_rows[among], own[bench.test][among])
        seen = np.isin(own[bench.train], known)
        real = Classifier(
            bench.study.learner, bench.labels, bench.train_rows[seen], own[bench.train][seen],
            balanced(own[bench.train][seen]),
        )  # fmt: skip
        found["trtr"] = _accuracy(real, bench.test_rows[among], own[bench.test][among])
        found["trts"] = _accuracy(real, bench.drafts.rows[places], labels)
    apart = {}
    for label in known:
        try:
            rows = bench.test_rows[own[bench.test] == label], bench.drafts.rows[places[labels == label]]
            side, auc, null = told_apart(*rows, bench.seed)
        except ValueError as error:
            apart[bench.items.labels[label]] = {"why": str(error)}
            continue
        apart[bench.items.labels[label]] = {"items": side, "auc": auc, "null": null.mean, "null_sd": null.sd}
    return found | {"c2st": apart}


def noise(bench: Bench) -> dict[str, object]:
    """Estimated share of wrong labels among real and generated items together, and among the generated ones alone.

    Judged by real items only: by folds of them, and for generated items by all of them.
    """
    found: dict[str, object] = {}
    own, cells = bench.items.label[bench.train], bench.items.cells[bench.train]
    try:
        real = out_of_sample(bench.study.learner, bench.labels, bench.train_rows, own, bench.seed)
    except ValueError as error:
        return {"unverified": {"why": str(error)}, "verified": {"why": str(error)}}
    model = Classifier(bench.study.learner, bench.labels, bench.train_rows, own, balanced(cells))
    for arm, which in (("unverified", bench.drafts.separate), ("verified", bench.drafts.verdicts == "accepted")):
        places = bench.drafts.first(which, bench.cells, 1)
        if not len(places):
            found[arm] = {"why": "no generated item to look at"}
            continue
        likely = np.concatenate([real, model.probabilities(bench.drafts.rows[places])])
        labels = np.concatenate([own, bench.label_of(places)])
        wrong = label_noise(likely, labels, np.arange(len(labels)) < len(own))
        found[arm] = {"estimate": float(wrong.mean()), "generated": float(wrong[len(own) :].mean())}
        if bench.drafts.planted.any():
            found[arm]["planted"] = float(bench.drafts.planted[places].mean())
    return found


def _accuracy(model: Classifier, rows, labels: np.ndarray) -> float:
    """Balanced over labels."""
    right = model.probabilities(rows).argmax(axis=1) == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))
