"""Trends of a strategy's text: how far it lies from real text, and which documents of unknown origin look like it."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pandas as pd

from expectations.guard.found import Found
from palimpsest.guard.copying import self_bleu
from palimpsest.guard.distance import Detector
from palimpsest.guard.measure import Measured
from palimpsest.guard.texts import Texts, batches
from palimpsest.guard.trends import judge_classifier, judge_distance
from palimpsest.guard.verdict import Verdict, not_judged


def trends(texts: Texts, name: str, written: list[str], subject: str, found: Found, model: str) -> Iterator[Verdict]:
    """C2ST and MMD; Vendi, self-BLEU and n-gram novelty are kept in ``found`` and have no verdict."""
    limits = texts.study.guard.thresholds
    try:
        apart = texts.distance(written)
    except ValueError as error:
        why = f"how far {subject} lie from real text cannot be judged: {error}"
        yield not_judged("C2ST", "auc", why, severity="warning", subject=subject)
        return
    found.measured(name, model, "auc", apart.auc, apart.auc_null)
    found.measured(name, model, "mmd", apart.mmd, apart.mmd_null)
    found.measured(name, model, "vendi", apart.vendi, apart.vendi_null)
    found.measured(name, model, "self_bleu", self_bleu(written))
    yield judge_classifier(apart, limits, subject, in_distribution=False)
    yield judge_distance(apart, limits, subject)
    encode = texts.reference.vocabulary.encode
    for length, share in texts.reference.known.novelty(encode(text) for text in written).items():
        found.measured(name, model, f"novel_{length}grams", share)


def keep(found: Found, name: str, model: str, measured: Measured) -> None:
    """The figures of one pass, for the history."""
    for metric, value in (measured.blocks.means if measured.nulls else {}).items():
        found.measured(name, model, metric, value, measured.nulls[metric])
    found.measured(name, model, "tail_mass", measured.tail.mass)
    if measured.tail.rare:
        found.measured(name, model, "rare_recall", measured.tail.recall)


def detect(connection: duckdb.DuckDBPyConnection, texts: Texts, names: list[str]) -> pd.DataFrame | None:
    """P(generated) of each document of unknown origin; None without these, or too little to tell them by."""
    unknown = "from train where origin = 'unknown'"
    if not connection.execute(f"select count(*) {unknown}").fetchall()[0][0]:
        return None
    try:
        detector = Detector(
            (text for *_, text in texts.sources), (text for name in names for _, text, *_ in texts.written(name))
        )
    except ValueError:
        return None
    scored = []
    for rows in batches(connection, f"select document_id, text {unknown}"):
        scores = detector.score([text for _, text in rows])
        scored.append(pd.DataFrame({"document_id": [document for document, _ in rows], "generated": scores}))
    return pd.concat(scored, ignore_index=True)
