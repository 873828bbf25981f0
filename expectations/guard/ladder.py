"""What follows from a breach: what the gate does by itself, and what it proposes to the person who has to decide.

A warning is said and nothing more. Text that lost rare words or entropy (G8, G9) puts its generator in quarantine. Of
text that costs a model of real text too much (G7) half as much is tried, and what that comes to is said. For too
little real text (G2 to G5) a person signs, with the probe's report before them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from palimpsest.config import Study
from palimpsest.guard import quarantine
from palimpsest.guard.judge import judge_probe, worse
from palimpsest.guard.probe import Probe
from palimpsest.guard.verdict import Verdict
from palimpsest.lake import Lake, Published
from palimpsest.provenance import decoding_of

SIGNABLE = ("G2", "G3", "G4", "G5")
SIGNED = "; or a person answers for it in a waiver, with the probe's report before them"
ADVICE = {
    "G2": "lower 'f' of that mix, or add real text",
    "G3": "publish what is missing, or list what had to go under guard.tombstones",
    "G4": "draw real and synthetic text apart: a mix with f below 1 and a real stream",
    "G5": "ask a generator that fewer models lie before, or one whose own mix has passed its gate",
    "G6": "draw nearer to the model's own distribution, as the verdict says",
    "G8": "raise the temperature, vary the prompts, ask more documents for fewer samples each",
    "G9": "raise the temperature, vary the prompts, ask more documents for fewer samples each",
    "G10": "ask for fewer 'generations' per document, or leave out the prompts that copy",
    "G11": "review by other rules, or keep everything; a choice no better than chance only costs text",
    "C2ST": "ask a generator nearer to the real text, vary the prompts, or choose among its texts (align: importance)",
}


def half_share(
    study: Study, strategy: str, breached: Sequence[Verdict], half: Probe | None, *, neural: bool = False
) -> Iterator[Verdict]:
    """The verdicts of G7, those that do not pass with what half the synthetic text comes to, and what to set then."""
    if half is None:
        yield from breached
        return
    judged = judge_probe(half, study.guard.thresholds, "", neural=neural)
    passes = all(verdict.outcome == "passed" for verdict in judged)
    mixes = {
        name: mix.f / 2
        for name, mix in study.mixes.items()
        if any(strategy in study.layouts[layout].strategies for layout in mix.streams)
    }
    proposed = ", ".join(f"f {f:g} in mix {name}" for name, f in mixes.items())
    if passes:
        said, response = "which passes", f"halve the synthetic share{f': {proposed}' if proposed else ''}"
    else:
        said = "which does not pass either"
        response = f"edit real documents instead (kind: augment), or leave strategy {strategy} out"
    details = {"half": {"ratio": half.ratio, "tokens": half.synthetic_tokens, "passes": passes, "f": mixes}}
    for verdict in breached:
        if verdict.outcome == "passed":
            yield verdict
            continue
        sentence = f"{verdict.sentence}; with half as much of it that model {worse(half.ratio)}, {said}"
        yield replace(verdict, sentence=sentence, details={**verdict.details, **details, "response": response})


def with_responses(found: Iterable[Verdict]) -> list[Verdict]:
    """The verdicts; those that fail say what to change."""
    told = []
    for verdict in found:
        advice = verdict.details.get("response") or ADVICE.get(verdict.gate)
        if verdict.outcome == "failed" and advice:
            can_be_signed = verdict.gate in SIGNABLE and verdict.details.get("waivable", True)
            response = f"{advice}{SIGNED if can_be_signed else ''}"
            verdict = replace(verdict, details={**verdict.details, "response": response})
        told.append(verdict)
    return told


def put_in_quarantine(study: Study, lake: Lake, failed: Published) -> list[quarantine.Entry]:
    """The generators whose text a stopped gate failed for its variety, put on the list; only those new on it."""
    by: dict[tuple[str, str], list[str]] = {}
    for verdict in failed.extra["guard"]:
        told = verdict["details"]
        if verdict["gate"] in quarantine.GATES and verdict["outcome"] == "failed" and told.get("generator"):
            by.setdefault((told["generator"], told["strategy"]), []).append(verdict["sentence"])
    since = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    entries = [
        quarantine.Entry(
            generator, study.name, strategy, decoding_of(study, strategy) or "", "; ".join(sentences), since
        )
        for (generator, strategy), sentences in by.items()
    ]
    return quarantine.put(lake, entries, [failed])
