"""Drafts for the cells that are short, and the verdict on each: near what is measured on, verified, or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from palimpsest.config import Labelled
from palimpsest.labelled.coverage import Cell
from palimpsest.labelled.deal import Deal
from palimpsest.labelled.generators import Draft, Writer
from palimpsest.labelled.items import Items, Values, take
from palimpsest.labelled.learner import Classifier, balanced, features
from palimpsest.lake import LakeError

ROUNDS = 4
"""Drafts of a cell are asked for in so many parts: once enough are accepted, no more is asked for."""


@dataclass(frozen=True)
class Drafts:
    """All drafts of a seed, in the order in which they were written."""

    drafts: list[Draft]
    cells: np.ndarray
    verdicts: np.ndarray
    """'accepted', or why not: 'near_duplicate', 'shared_words' (with a validation or test item), 'other_label',
    'unsure'."""
    confidence: np.ndarray
    """The verifier's probability of the label the draft was written for."""
    rows: object
    """Features."""

    @property
    def values(self) -> Values:
        found = [draft.value for draft in self.drafts]
        return np.stack(found) if found and isinstance(found[0], np.ndarray) else found

    @property
    def planted(self) -> np.ndarray:
        return np.array([draft.planted for draft in self.drafts], bool)

    @property
    def separate(self) -> np.ndarray:
        """Those that stand near no validation or test item: what an unverified arm draws from."""
        return ~np.isin(self.verdicts, ("near_duplicate", "shared_words"))

    def first(self, which: np.ndarray, cells: Sequence[Cell], share: float) -> np.ndarray:
        """Places of the first drafts of ``which`` that fill a share of each cell's deficit (below 1: and its cap)."""
        found = []
        for place, cell in enumerate(cells):
            wanted = round(share * cell.deficit) if share > 1 else min(round(share * cell.deficit), cell.planned)
            if cell.planned:
                found.append(np.flatnonzero(which & (self.cells == place))[:wanted])
        return np.concatenate([*found, np.zeros(0, int)]).astype(int)


def verifier(study: Labelled, items: Items, dealt: Deal) -> Classifier:
    """A classifier of real validation items alone, all cells alike. Raises `LakeError` where they have one label."""
    places = dealt.validation
    if len(np.unique(items.label[places])) < 2:
        raise LakeError(
            f"{study.path}: validation: the validation items have fewer than two labels: nothing can be verified; give "
            "the cells 3 rows or more"
        )
    rows = features(take(items.values, places), study.learner)
    weights = balanced(items.cells[places])
    return Classifier(study.learner, len(items.labels), rows, items.label[places], weights)


def draft(study: Labelled, items: Items, cells: Sequence[Cell], dealt: Deal, writer: Writer, seed: int) -> Drafts:
    """Drafts of every cell with a plan, until enough are accepted or the attempts are used up.

    Raises `LakeError` for a cell of which the generator wrote nothing.
    """
    model, random = verifier(study, items, dealt), np.random.default_rng([seed, 1])
    whole = [place for place, cell in enumerate(cells) if not cell.deficit]
    others = dealt.train[np.isin(items.cells[dealt.train], whole)]
    found: list[tuple[list[Draft], int, np.ndarray, np.ndarray]] = []
    for place, cell in enumerate(cells):
        if not cell.planned:
            continue
        seeds = dealt.train[items.cells[dealt.train] == place]
        wanted = max(cell.planned, round(max(study.curve) * cell.deficit))
        accepted = separate = 0
        part = -(-study.verification.attempts * wanted // ROUNDS)
        for _ in range(ROUNDS):
            if accepted >= wanted and separate >= cell.planned:
                break
            written = writer.write(seeds, others, part, random)
            if not written:
                break
            verdicts, confidence = _judged(study, items, dealt, model, written, place)
            accepted += int((verdicts == "accepted").sum())
            separate += int((~np.isin(verdicts, ("near_duplicate", "shared_words"))).sum())
            found.append((written, place, verdicts, confidence))
        if not any(cells_of == place for _, cells_of, _, _ in found):
            raise LakeError(
                f"{study.path}: generator: '{writer.name}' wrote nothing for cell {cell.cell} from its {len(seeds)} "
                "seeds; see what its engine says, or give another generator"
            )
    written = [one for drafts, *_ in found for one in drafts]
    values = np.stack([one.value for one in written]) if written and not isinstance(written[0].value, str) else None
    texts = [one.value for one in written] if values is None else values
    return Drafts(
        written,
        np.repeat([place for _, place, _, _ in found], [len(drafts) for drafts, *_ in found]).astype(int),
        np.concatenate([v for *_, v, _ in found]) if found else np.zeros(0, "U16"),
        np.concatenate([c for *_, c in found]) if found else np.zeros(0),
        features(texts, study.learner) if written else None,
    )


def _judged(
    study: Labelled, items: Items, dealt: Deal, model: Classifier, written: Sequence[Draft], place: int
) -> tuple[np.ndarray, np.ndarray]:
    label = place // len(items.groups)
    values = [one.value for one in written]
    values = values if isinstance(values[0], str) else np.stack(values)
    found = model.probabilities(features(values, study.learner))
    sure = found[:, label] >= study.verification.confidence
    verdicts = np.where(found.argmax(axis=1) != label, "other_label", np.where(sure, "accepted", "unsure"))
    offences = dealt.protected.offences(values)
    verdicts = np.array([why or verdict for why, verdict in zip(offences, verdicts, strict=True)], "U16")
    return verdicts, found[:, label]
