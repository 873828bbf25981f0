"""G7 to G10 and the trends: what the generated texts of a study lost of the real text they were written over.

Measured on a sample of documents that is the same whoever asks: those first by the hash of their id, until they are
`SAMPLE` characters, and all that was written over them until it is twice as much. What a generator learned from beyond
that is not in the sample: it would pass for a gain (G7), or for words of its own (G8). Such text is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import duckdb
import numpy as np
import pandas as pd

from palimpsest.align import aligned
from palimpsest.config import Study
from palimpsest.guard.copying import self_bleu
from palimpsest.guard.distance import Detector, Distance, distance
from palimpsest.guard.judge import judge, judge_probe, judge_tail
from palimpsest.guard.measure import Measured, Reference, watch
from palimpsest.guard.probe import additive_probe
from palimpsest.guard.tail import Counts, tail
from palimpsest.guard.trends import judge_classifier, judge_distance
from palimpsest.guard.verdict import Verdict, not_judged
from palimpsest.lake import Lake, NotPublished
from palimpsest.provenance import SEEDED

SAMPLE = 12_000_000
"""Characters of real text, some two million words: the passes of one strategy then take a minute."""
AT_A_TIME = 2_000
"""Texts that nothing is kept of."""
TREND = 100
"""Texts a side below which distances are noise, and a demo would wait half its gate's time for them."""
PLURALS = {
    "rephrase": "rephrases",
    "rationale": "rationales",
    "continuation": "continuations",
    "self": "texts made up",
}
REAL = """
    with domains as (select document_id, any_value(domain) as domain from megadoc_parts group by document_id),
    sized as (
        select
            document_id, text, is_reserve,
            sum(len(text)) over (order by is_reserve, md5(document_id), document_id) - len(text) as before
        from train where origin = 'real'
    )
    select sized.document_id, coalesce(domains.domain, '(small domains)') as domain, sized.text, sized.is_reserve
    from sized left join domains on sized.document_id = domains.document_id
    where before < ? order by before
"""
UNKNOWN = """
    with sized as (
        select document_id, sum(len(text)) over (order by md5(document_id), document_id) - len(text) as before
        from train where origin = 'unknown'
    )
    select document_id from sized where before < ?
"""
WRITTEN = """
    with sized as (
        select
            document_id, text, depth, model,
            sum(len(text)) over (order by g, md5(document_id), document_id) - len(text) as before
        from generations
        where strategy = ? and document_id in (select document_id from guard_sources where origin = ?)
    )
    select document_id, text, depth, model from sized where before < ? order by before
"""
KEPT = """
    with sized as (
        select
            document_id, text, depth, model,
            sum(len(text)) over (order by g, md5(document_id), document_id) - len(text) as before
        from generations
        where
            strategy = ? and document_id in (select document_id from guard_sources where origin = ?) and g < ?
            and generation_id not in (
                select generation_id from left_out where layout = ? and strategy = ? and generation_id is not null
            )
    )
    select document_id, text, depth, model from sized where before < ? order by before
"""
TESTS = """
    with sized as (
        select
            {domain} as domain, document_id, text,
            sum(len(text)) over (order by md5(document_id), document_id) - len(text) as before
        from validation where origin = 'real'
    )
    select domain, text from sized where before < ? order by before
"""
HELD_OUT = {"site": "site", "corpus": "corpus", "all": "'all'"}


@dataclass
class Found:
    """What the texts of a study's strategies came to: verdicts, and figures for trends."""

    verdicts: list[Verdict] = field(default_factory=list)
    measures: list[dict[str, object]] = field(default_factory=list)
    detector: pd.DataFrame | None = None
    """P(generated) of each document of unknown origin, if there are any and something to tell them by."""

    def measured(self, strategy: str, model: str, metric: str, value: float | None, null: object = None) -> None:
        if value is not None and np.isfinite(value):
            mean, sd = (None, None) if null is None else (null.mean, null.sd)
            row = {"strategy": strategy, "generator": model, "metric": metric, "value": float(value)}
            self.measures.append(row | {"real_mean": mean, "real_sd": sd})


class Texts:
    """The study's real text, read and counted once for all strategies."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, study: Study) -> None:
        self.connection, self.study = connection, study
        rows = connection.execute(REAL, [SAMPLE]).fetchall()
        self.sources = [(document, domain, text) for document, domain, text, reserve in rows if not reserve]
        self.all_real = [text for *_, text, _ in rows]
        trained = "select count(*) from train where origin = 'real' and not is_reserve"
        self.is_whole = len(self.sources) == connection.execute(trained).fetchall()[0][0]
        sampled = [(document, "real") for document, *_ in self.sources]
        sampled += [(document, "unknown") for (document,) in connection.execute(UNKNOWN, [SAMPLE]).fetchall()]
        frame = pd.DataFrame(sampled, columns=["document_id", "origin"], dtype=object)
        connection.register("guard_sources", frame)
        self._nulls: Distance | None = None
        self.domain_of = {document: domain for document, domain, _ in self.sources}
        held = connection.execute(TESTS.format(domain=HELD_OUT[study.guard.domain]), [SAMPLE]).fetchall()
        self.held_out: dict[str, list[str]] = {}
        for domain, text in held:
            self.held_out.setdefault(domain, []).append(text)

    @cached_property
    def reference(self) -> Reference:
        return Reference(text for *_, text in self.sources)

    def distance(self, written: list[str]) -> Distance:
        """How far they lie from real text; what halves of that differ by is measured once per number of texts.

        Raises ValueError for too few texts.
        """
        if min(len(self.sources), len(written)) < TREND:
            raise ValueError(f"{TREND} real and as many generated texts are needed")
        found = distance([text for *_, text in self.sources], written, nulls=self._nulls)
        self._nulls = found
        return found

    def held_out_texts(self) -> Iterator[str]:
        """All of them, for runs of words that nobody may quote; `held_out` is a sample for perplexities."""
        found = _batches(self.connection, "select text from validation where origin = 'real'")
        return (text for rows in found for (text,) in rows)

    def written(
        self, strategy: str, origin: str = "real", layout: str | None = None
    ) -> list[tuple[str, str, int | None, str]]:
        """Document, text, depth and generator of a strategy's sampled generations over documents of that origin.

        With an aligned ``layout`` those that it keeps.
        """
        if layout is None:
            return self.connection.execute(WRITTEN, [strategy, origin, 2 * SAMPLE]).fetchall()
        most = self.study.layouts[layout].generations or self.study.strategies[strategy].generations
        return self.connection.execute(KEPT, [strategy, origin, most, layout, strategy, 2 * SAMPLE]).fetchall()


def judge_texts(connection: duckdb.DuckDBPyConnection, study: Study, lake: Lake) -> Found:
    """The verdicts of G7 to G10 on each written strategy, and on what each aligned layout keeps of it; of recorded
    texts, which nobody here can write again, breaches are warnings. Classic augmentation is its source's text by design
    and is not judged.
    """
    found = Found()
    names = [name for name, strategy in study.strategies.items() if strategy.kind != "augment"]
    if not names:
        return found
    texts = Texts(connection, study)
    judged: list[tuple[str, str | None]] = [(name, None) for name in names]
    judged += [(name, layout) for layout, own in aligned(study).items() for name in own.strategies if name in names]
    for name, layout in judged:
        rows, others = (texts.written(name, origin, layout) for origin in ("real", "unknown"))
        if not rows and not others:
            continue
        verdicts = [
            _of(verdict, strategy=name, layout=layout)
            for verdict in _strategy(texts, lake, name, layout, rows, others, found)
        ]
        recorded = study.strategies[name].engine.kind == "recorded"
        found.verdicts += [_as_warning(verdict) for verdict in verdicts] if recorded else verdicts
    found.detector = _detect(connection, texts, names)
    return found


def _strategy(
    texts: Texts, lake: Lake, name: str, layout: str | None, rows: list, others: list, found: Found
) -> Iterator[Verdict]:
    """G9 and G10 of all that was written; G7, G8 and the trends of ``rows``, written over real text, and not of
    ``others``: what those say that real text does not may be their documents' own.
    """
    limits, kind = texts.study.guard.thresholds, texts.study.strategies[name].kind
    subject = f"synthetic {PLURALS[kind]} of strategy {name}" + (f" that layout {layout} keeps" if layout else "")
    told = f"{name}/{layout}" if layout else name
    written = [text for _, text, *_ in rows]
    depth = max((deep or 1 for *_, deep, _ in [*rows, *others]), default=1)
    model = (rows or others)[0][3]
    everything = [*written, *(text for _, text, *_ in others)]
    measured = watch(everything, texts.reference, held_out=texts.held_out_texts())
    if others:
        counts = Counts()
        counts.add([texts.reference.vocabulary.encode(text) for text in written])
        measured = replace(measured, tail=tail(counts, measured.source))
    learned, lacking = _learned(texts.connection, lake, name)
    lacking = lacking if rows else "no document they are written over is known to be people's (origin: unknown)"
    unjudged = _untold(texts, kind, rows, lacking)
    for verdict in judge(measured, limits, subject, depth):
        if verdict.gate == "G8" and unjudged:
            why = f"how many rare words {subject} keep cannot be judged: {unjudged}"
            verdict = not_judged("G8", verdict.measure, why, subject=subject)
        yield verdict
    if kind in SEEDED:
        yield from _worst_tail(texts, subject, rows, depth)
    yield from _probe(texts, learned, lacking, told, written, subject, found, model)
    yield from _trends(texts, told, written, subject, found, model)
    _keep(found, told, model, measured)


def _untold(texts: Texts, kind: str, rows: list, lacking: str) -> str:
    """Why rare words cannot be counted against the sampled documents; empty if they can."""
    if not rows:
        return f"{lacking}; a corpus that people wrote says origin: real"
    if kind in SEEDED or (texts.is_whole and not lacking):
        return ""
    why = lacking or f"the study's real text is more than the {SAMPLE:,} characters that are counted"
    return f"they are not written over documents, and {why}; judge them in a study of a smaller corpus"


def _worst_tail(texts: Texts, subject: str, rows: list, depth: int) -> Iterator[Verdict]:
    """G8 in the domain where the fewest rare words are kept, of those with enough to judge."""
    limits, encode = texts.study.guard.thresholds, texts.reference.vocabulary.encode
    domains = {domain for _, domain, _ in texts.sources}
    if len(domains) < 2:
        return
    real = {domain: Counts(spread=True) for domain in domains}
    own = {domain: Counts() for domain in domains}
    for _, domain, text in texts.sources:
        real[domain].add([encode(text)])
    for document, text, *_ in rows:
        own[texts.domain_of[document]].add([encode(text)])
    judged = []
    for domain in sorted(domains):
        source = real[domain].source()
        for verdict in judge_tail(tail(own[domain], source), source, limits, f"{subject} in domain {domain}", depth):
            judged.append(_of(verdict, domain=domain))
    known = [verdict for verdict in judged if verdict.outcome != "not_judged"]
    if known:
        yield min(known, key=lambda verdict: (verdict.outcome == "passed", verdict.value))


def _probe(
    texts: Texts,
    learned: list[str],
    lacking: str,
    name: str,
    written: list[str],
    subject: str,
    found: Found,
    model: str,
) -> Iterator[Verdict]:
    """G7, where R also holds the real text that a generator trained here has learned from."""
    vocabulary = texts.reference.vocabulary

    def numbered(documents: list[str]) -> list[np.ndarray]:
        return [vocabulary.encode(document) for document in documents]

    try:
        if lacking:
            raise ValueError(f"{lacking}; compare the losses of runs with and without them on held-out text")
        real, synthetic = numbered(texts.all_real), numbered(written)
        tests = {domain: numbered(documents) for domain, documents in texts.held_out.items()}
        probe = additive_probe(real, synthetic, tests, len(vocabulary), learned=numbered(learned))
    except ValueError as error:
        yield not_judged("G7", "probe", f"what {subject} cost cannot be judged: {error}", subject=subject)
        return
    found.measured(name, model, "probe_ratio", probe.ratio)
    yield from judge_probe(probe, texts.study.guard.thresholds, subject)


def _learned(connection: duckdb.DuckDBPyConnection, lake: Lake, strategy: str) -> tuple[list[str], str]:
    """All real documents that the generators of a strategy could learn from, or none and why they cannot be had."""
    query = "select distinct generator_mix from generations where strategy = ? and generator_mix is not null"
    files = {}
    for (uri,) in connection.execute(query, [strategy]).fetchall():
        try:
            parent = next(p for p in lake.open(uri).manifest["parents"] if p["dataset"].endswith("/split"))
            files[parent["uri"]] = str(lake.open(parent["uri"], parent["digest"]).file("train.parquet"))
        except (NotPublished, StopIteration):
            return [], f"what their generator learned from ({uri}) is no longer in the lake"
    if not files:
        return [], ""
    real = "from read_parquet(?) where origin = 'real'"
    characters = duckdb.execute(f"select coalesce(sum(len(text)), 0) {real}", [list(files.values())]).fetchall()[0][0]
    if characters > SAMPLE:
        return [], f"their generator learned from {characters:,} characters of real text, a probe holds {SAMPLE:,}"
    return [text for (text,) in duckdb.execute(f"select text {real}", [list(files.values())]).fetchall()], ""


def _trends(texts: Texts, name: str, written: list[str], subject: str, found: Found, model: str) -> Iterator[Verdict]:
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


def _keep(found: Found, name: str, model: str, measured: Measured) -> None:
    for metric, value in (measured.blocks.means if measured.nulls else {}).items():
        found.measured(name, model, metric, value, measured.nulls[metric])
    found.measured(name, model, "tail_mass", measured.tail.mass)
    if measured.tail.rare:
        found.measured(name, model, "rare_recall", measured.tail.recall)


def _detect(connection: duckdb.DuckDBPyConnection, texts: Texts, names: list[str]) -> pd.DataFrame | None:
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
    for rows in _batches(connection, f"select document_id, text {unknown}"):
        scores = detector.score([text for _, text in rows])
        scored.append(pd.DataFrame({"document_id": [document for document, _ in rows], "generated": scores}))
    return pd.concat(scored, ignore_index=True)


def _batches(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[list[tuple]]:
    """The rows of a query, some at a time; nothing else may be asked of the connection before the last."""
    connection.execute(query)
    while rows := connection.fetchmany(AT_A_TIME):
        yield rows


def _of(verdict: Verdict, **names: str | None) -> Verdict:
    """The verdict with the names that a waiver may know it by."""
    return replace(verdict, details={**verdict.details, **names})


def _as_warning(verdict: Verdict) -> Verdict:
    outcome = "warned" if verdict.outcome == "failed" else verdict.outcome
    details: Mapping[str, object] = {**verdict.details, "recorded": True}
    return replace(verdict, severity="warning", outcome=outcome, details=details)
