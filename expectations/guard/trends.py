"""Trends of a strategy's text: how far it lies from real text, and which documents of unknown origin look like it."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pandas as pd

from expectations.guard.found import Found
from palimpsest.guard.distance import Detector
from palimpsest.guard.measure import Measured
from palimpsest.guard.tail import mass_null
from palimpsest.guard.texts import Texts, batches
from palimpsest.guard.trends import judge_classifier, judge_distance
from palimpsest.guard.verdict import Verdict, not_judged, percent

UNKNOWN = "documents of unknown origin"


def trends(texts: Texts, name: str, written: list[str], subject: str, found: Found, model: str) -> Iterator[Verdict]:
    """C2ST and MMD; Vendi, self-BLEU and n-gram novelty are kept in ``found`` and have no verdict."""
    limits = texts.study.guard.thresholds
    alike = texts.study.guard.in_distribution
    declared = alike == "all" or name.partition("/")[0] in alike
    try:
        apart = texts.distance(written)
    except ValueError as error:
        why = f"how far {subject} lie from real text cannot be judged: {error}"
        severity = "critical" if declared else "warning"
        yield not_judged("C2ST", "auc", why, severity=severity, subject=subject, limit=limits.classifier_auc_max)
        return
    found.measured(name, model, "auc", apart.auc, apart.auc_null)
    found.measured(name, model, "mmd", apart.mmd, apart.mmd_null)
    found.measured(name, model, "vendi", apart.vendi, apart.vendi_null)
    found.measured(name, model, "self_bleu", *texts.self_bleu(written))
    yield judge_classifier(apart, limits, subject, in_distribution=declared)
    yield judge_distance(apart, limits, subject)
    encode = texts.reference.vocabulary.encode
    for length, share in texts.reference.known.novelty(encode(text) for text in written).items():
        found.measured(name, model, f"novel_{length}grams", share, texts.novelty_nulls.get(length))


def keep(found: Found, texts: Texts, name: str, model: str, measured: Measured) -> None:
    """The figures of one pass, for the history."""
    real = texts.reference
    for metric, value in (measured.blocks.means if measured.nulls else {}).items():
        found.measured(name, model, metric, value, measured.nulls[metric])
    mass = mass_null(real.source, real.documents, measured.tail.tokens)
    found.measured(name, model, "tail_mass", measured.tail.mass, mass)
    if measured.tail.rare:
        found.measured(name, model, "rare_recall", measured.tail.recall)


def detect(connection: duckdb.DuckDBPyConnection, texts: Texts, names: list[str], count: int, found: Found) -> None:
    """P(generated) of each of the ``count`` documents of unknown origin, and a sentence; or why there is none."""
    about = {"severity": "warning", "subject": UNKNOWN}
    counted = "all of them count as synthetic in every share"
    try:
        detector = Detector(
            (text for *_, text in texts.sources), (text for name in names for _, text, *_ in texts.written(name))
        )
    except ValueError as error:
        why = f"how many of {count:,} {UNKNOWN} look generated cannot be judged: {error}; {counted}"
        found.verdicts.append(not_judged("ORIGIN", "generated", why, **about))
        return
    scored = []
    for rows in batches(connection, "select document_id, text from train where origin = 'unknown'"):
        scores = detector.score([text for _, text in rows])
        scored.append(pd.DataFrame({"document_id": [document for document, _ in rows], "generated": scores}))
    found.detector = pd.concat(scored, ignore_index=True)
    share = float((found.detector["generated"] > 0.5).mean())
    said = (
        f"{percent(share)} of {count:,} {UNKNOWN} look more like this study's generated text than like its real text; "
    )
    details = {"documents": count, "mean": float(found.detector["generated"].mean())}
    found.verdicts.append(
        Verdict("ORIGIN", "passed", said + counted, share, None, measure="generated", details=details, **about)
    )
    found.measured(UNKNOWN, "unknown", "looks_generated", share)
