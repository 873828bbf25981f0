"""G7 to G11 and the trends: what the generated texts of a study lost of the real text they were written over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import duckdb

from expectations.guard.found import Found, about, as_warning
from expectations.guard.probes import Probes
from expectations.guard.tasks import judge_tasks
from expectations.guard.trends import detect, keep, trends
from palimpsest.align import aligned
from palimpsest.config import Study
from palimpsest.guard import texts as sampled
from palimpsest.guard.judge import judge
from palimpsest.guard.learned import learned
from palimpsest.guard.measure import Measured, watch_parts
from palimpsest.guard.tail import Counts, tail
from palimpsest.guard.texts import Texts, subject_of
from palimpsest.guard.thresholds import Thresholds
from palimpsest.guard.verdict import Verdict, not_judged
from palimpsest.lake import Lake
from palimpsest.provenance import SEEDED


@dataclass(frozen=True)
class Known:
    """What is known of a study's texts beside the texts."""

    neural: Mapping[str, Mapping] | None = None
    """By strategy, what the study's own probe found (`training.probe`); None where it has not run on this data."""
    audited: Mapping[str, bool] = field(default_factory=dict)
    """By generation, whether a person found the text good."""


def judge_texts(connection: duckdb.DuckDBPyConnection, study: Study, lake: Lake, known: Known | None = None) -> Found:
    """The verdicts of G7 to G11 on each written strategy, and of G7 to G10 on what each aligned layout keeps of it; of
    recorded texts, which nobody here can write again, breaches are warnings. Classic augmentation is its source's text
    by design and is not judged.
    """
    found = Found()
    names = [name for name, strategy in study.strategies.items() if strategy.kind != "augment"]
    unknown = connection.execute("select count(*) from train where origin = 'unknown'").fetchall()[0][0]
    if not names and not unknown:
        return found
    texts = Texts(connection, study)
    judged: list[tuple[str, str | None]] = [(name, None) for name in names]
    judged += [(name, layout) for layout, own in aligned(study).items() for name in own.strategies if name in names]
    for name, layout in judged:
        rows, others = (texts.written(name, origin, layout) for origin in ("real", "unknown"))
        if not rows and not others:
            continue
        own = _strategy(texts, lake, name, layout, rows, others, found, known or Known())
        # what a layout leaves out is its choice, not its generator's
        told = {"layout": layout} if layout else {"generator": (rows or others)[0][3]}
        verdicts = [about(verdict, strategy=name, **told) for verdict in own]
        recorded = study.strategies[name].engine.kind == "recorded"
        if recorded:  # nobody here can write these again
            verdicts = [about(as_warning(verdict), recorded=True) for verdict in verdicts]
        found.verdicts += verdicts
    if unknown:
        detect(connection, texts, names, unknown, found)
    return found


def _strategy(
    texts: Texts, lake: Lake, name: str, layout: str | None, rows: list, others: list, found: Found, known: Known
) -> Iterator[Verdict]:
    """G9 and G10 of all that was written; G7, G8, G11 and the trends of ``rows``, written over real text, and not of
    ``others``: what those say that real text does not may be their documents' own. Of what a layout keeps, all but G11
    and the neural probe, which are the strategy's.
    """
    limits, kind = texts.study.guard.thresholds, texts.study.strategies[name].kind
    subject = subject_of(texts.study, name, layout)
    told = f"{name}/{layout}" if layout else name
    written = [text for _, text, *_ in rows]
    depth = max((deep or 1 for *_, deep, _ in [*rows, *others]), default=1)
    model = (rows or others)[0][3]
    everything = [*written, *(text for _, text, *_ in others)]
    domains = texts.by_domain if kind in SEEDED and len(texts.by_domain) > 1 else {}
    parted = [(texts.domain_of[document] if domains else None, text) for document, text, *_ in rows]
    parted += [(None, text) for _, text, *_ in others]
    measured, by_domain = watch_parts(parted, texts.reference, domains, held_out=texts.held_out_texts())
    if others:
        counts = Counts()
        counts.add([texts.reference.vocabulary.encode(text) for text in written])
        measured = replace(measured, tail=tail(counts, measured.source))
    taught, lacking = learned(texts.connection, lake, name)
    lacking = lacking if rows else "no document they are written over is known to be people's (origin: unknown)"
    unjudged = _untold(texts, kind, rows, lacking)
    for verdict in judge(measured, limits, subject, depth):
        if verdict.gate == "G8" and unjudged:
            why = f"how many rare words {subject} keep cannot be judged: {unjudged}"
            verdict = not_judged("G8", verdict.measure, why, subject=subject)
        yield verdict
    yield from judge_tasks(texts.study, everything, subject)
    yield from _worst_domains(by_domain, limits, subject, depth)
    neural = None if known.neural is None else known.neural.get(name)
    probes = Probes(texts, name, model, taught, lacking, neural, layout)
    yield from probes.additive(written, found)
    if not layout:
        yield from probes.verifier(known.audited)
    yield from trends(texts, told, written, subject, found, model)
    keep(found, texts, told, model, measured)


def _untold(texts: Texts, kind: str, rows: list, lacking: str) -> str:
    """Why rare words cannot be counted against the sampled documents; empty if they can."""
    if not rows:
        return f"{lacking}; a corpus that people wrote says origin: real"
    if kind in SEEDED or (texts.is_whole and not lacking):
        return ""
    why = lacking or f"the study's real text is more than the {sampled.SAMPLE:,} characters that are counted"
    return f"they are not written over documents, and {why}; judge them in a study of a smaller corpus"


def _worst_domains(measured: Mapping[str, Measured], limits: Thresholds, subject: str, depth: int) -> Iterator[Verdict]:
    """G8 to G10 of each domain with enough to judge, of each measure the worst: of rare words the fewest kept. What is
    in the worst of many domains is more by chance alone: diversity and duplicates warn there.
    """
    judged: dict[tuple[str, str], list[Verdict]] = {}
    for domain, found in measured.items():
        for verdict in judge(found, limits, f"{subject} in domain {domain}", depth):
            if verdict.outcome != "not_judged":
                name = verdict.gate if verdict.gate == "G8" else verdict.measure
                judged.setdefault((verdict.gate, name), []).append(about(verdict, domain=domain))
    for (gate, _), known in judged.items():
        sign = 1 if gate == "G8" else -1
        worst = min(known, key=lambda verdict: (verdict.outcome == "passed", sign * verdict.value))
        yield worst if gate == "G8" else as_warning(worst)
