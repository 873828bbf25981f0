"""One generation in, a recorded decision out. Nothing is deleted: what is dropped stays in the ledger, with its reason.

A generation is one or more parts (chunks of a long document, each answered by itself), reviewed against the whole
document. Every defect found is named whatever the study makes of it; only 'strip' changes the text, and only by
cutting around it. The order of work: peel what stands around the answer, then judge the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from palimpsest.config import Review, Study, evaluation_sets
from palimpsest.generate.requests import Rendered
from palimpsest.generate.review import benchmark
from palimpsest.generate.review.benchmark import Benchmarks
from palimpsest.generate.review.decide import DEFECTS, Action, decide
from palimpsest.generate.review.echo import echo
from palimpsest.generate.review.facts import Facts, overlap
from palimpsest.generate.review.faithfulness import COVERS, faithfulness
from palimpsest.generate.review.language import language, of_source
from palimpsest.generate.review.loop import loop
from palimpsest.generate.review.personal import personal
from palimpsest.generate.review.preamble import around, cue_of
from palimpsest.generate.review.refusal import refusal
from palimpsest.generate.review.wrapper import wrapped

JOINT = "\n\n"
"""Between the parts of one generation."""
ANSWERS = ("rephrase", "rationale")
"""Kinds asked for in words: only they can refuse, introduce, wrap or echo."""
LAYERS = 3
"""Wrappers in wrappers that are peeled: a fence in a lead-in, and once more."""
DETAIL = 200
"""Characters of what was seen that are kept."""
WORST: tuple[Action, ...] = ("drop", "again", "keep")


@dataclass(frozen=True)
class Part:
    """An engine's answer to one request."""

    text: str
    prompt: Rendered | None = None
    finish_reason: str | None = None
    attempt: int = 0


@dataclass(frozen=True)
class Reviewed:
    """What becomes of a generation, and why."""

    decision: Action
    text: str
    """What is kept: the parts joined, without what the study has stripped."""
    defects: tuple[str, ...] = ()
    """All that were found, in the order of `config.Review`; a kept generation may have some."""
    details: dict[str, str] = field(default_factory=dict)
    """For each defect, what was seen; for a person to read, at most 200 characters."""
    faithfulness: float | None = None
    reason: str | None = None
    """The defect that decided; None for one that is kept."""
    again: tuple[int, ...] = ()
    """Places of the parts to ask for once more, if that is the decision."""

    @property
    def detail(self) -> str | None:
        return self.details.get(self.reason) if self.reason else None


@dataclass(frozen=True)
class Reviewer:
    """The rules for one strategy."""

    kind: str
    review: Review = Review()
    near_copy_overlap: float = 0.8
    repeatable: bool = True
    """Whether asking again can give another text."""
    benchmarks: Benchmarks = field(default_factory=lambda: Benchmarks(()))

    def canonical(self) -> dict[str, object]:
        """All that decides besides the code: for the configuration of what is published."""
        return {
            "review": self.review.model_dump(mode="json", exclude={"benchmarks"}),
            "benchmarks": self.benchmarks.canonical(),
            "near_copy_overlap": self.near_copy_overlap,
            "repeatable": self.repeatable,
        }


def open_reviewer(study: Study, strategy: str) -> Reviewer:
    """The reviewer of a strategy; raises `ConfigError` for a benchmark file that is missing or no JSON lines."""
    chosen = study.strategies[strategy]
    return Reviewer(
        kind=chosen.kind,
        review=chosen.review,
        near_copy_overlap=study.gates.near_copy_overlap,
        repeatable=chosen.engine.kind == "vllm" and chosen.sampling.temperature > 0,
        benchmarks=benchmark.load((*chosen.review.benchmarks, *evaluation_sets(study).values())),
    )


def review_generation(parts: Sequence[Part], *, document: str, reviewer: Reviewer, final: bool = False) -> Reviewed:
    """The decision on a generation of ``document``: keep, drop or again, its text, defects and faithfulness.

    ``final``: nobody will ask again, so what would be asked for is dropped. Classic augmentation is not reviewed: it
    is its source's text by design.
    """
    if reviewer.kind == "augment":
        return Reviewed("keep", JOINT.join(part.text for part in parts))
    source = Facts("") if reviewer.kind == "self" else _facts(document)
    judged = [_judge(part, source, reviewer) for part in parts]
    text = JOINT.join(kept for kept, _ in judged)
    whole = Facts(text)
    decisions = [decide(found, reviewer.review, part.attempt, repeatable=reviewer.repeatable and not final)
                 for part, (_, found) in zip(parts, judged, strict=True)]  # fmt: skip
    details = _merged([found for _, found in judged])
    if len(parts) > 1:
        joint = _repeats(whole, source, reviewer)
        attempt = max(part.attempt for part in parts)
        decisions.append(decide(joint, reviewer.review, attempt, repeatable=reviewer.repeatable and not final))
        details = joint | details
    decision, reason = min(decisions, key=lambda made: WORST.index(made[0]))
    again = [place for place, (made, _) in enumerate(decisions) if made == "again"] if decision == "again" else []
    covers = COVERS.get(reviewer.kind)
    return Reviewed(
        decision=decision,
        text=text,
        defects=tuple(name for name in DEFECTS if name in details),
        details={name: details[name][:DETAIL] for name in DEFECTS if name in details},
        faithfulness=None if covers is None else round(faithfulness(whole, source, covers=covers), 4),
        reason=reason,
        again=tuple(range(len(parts))) if len(parts) in again else tuple(again),
    )


def _judge(part: Part, source: Facts, reviewer: Reviewer) -> tuple[str, dict[str, str]]:
    """The part's text as the study wants it kept, and its defects with what was seen."""
    found: dict[str, str] = {}
    kept = bare = part.text
    if reviewer.kind in ANSWERS:
        for name, detail, inside in _layers(part, source):
            found.setdefault(name, detail)
            if kept is bare and getattr(reviewer.review, name) == "strip":
                kept = inside
            bare = inside
    text = Facts(bare)
    no_answer = refusal(bare, source.text, len(text.words))
    if no_answer and (reviewer.kind in ANSWERS or not bare.strip()):
        found["refusal"] = no_answer
    if reviewer.kind in ANSWERS and part.prompt and (said := echo(text, source, _words_of(part.prompt))):
        found["prompt_echo"] = said
    found |= _repeats(text, source, reviewer)
    if part.finish_reason == "length":
        found["truncated"] = f"cut off at its token limit: …{' '.join(bare[-60:].split())}"
    if reviewer.kind != "self" and (other := language(bare, _language(source.text))):
        found["language"] = other
    if item := reviewer.benchmarks.recited(text):
        found["benchmark"] = item
    if values := personal(text, source):
        found["pii"] = values
    return kept, found


def _layers(part: Part, source: Facts) -> Iterator[tuple[str, str, str]]:
    """What stands around an answer, from the outside in: the defect, what was seen, and the text inside."""
    text, cue = part.text, cue_of(_words_of(part.prompt)) if part.prompt else ""
    for _ in range(LAYERS):
        cut = around(text, source.lower, cue)
        if cut.body != text:
            text = cut.body
            yield "preamble", " … ".join(" ".join(e.split())[:90] for e in (cut.lead, cut.closing) if e.strip()), text
        inside = wrapped(text, source.text)
        if inside is None:
            return
        text = inside[0]
        yield "markdown", f"the whole text is inside {inside[1]}", text


def _repeats(text: Facts, source: Facts, reviewer: Reviewer) -> dict[str, str]:
    """What a text says again: its source, or itself."""
    found = {}
    share = overlap(text, source)
    if share >= reviewer.near_copy_overlap:
        found["near_copy"] = f"{share:.0%} of its runs of five words are its source's"
    if again := loop(text, source):
        found["loop"] = again
    return found


def _merged(parts: list[dict[str, str]]) -> dict[str, str]:
    """Each defect once, with what was seen first and where."""
    if len(parts) == 1:
        return parts[0]
    return {name: f"part {i}: {seen}" for i, found in reversed([*enumerate(parts)]) for name, seen in found.items()}


def _words_of(prompt: Rendered) -> str:
    return "\n".join(content for _, content in prompt.messages) if prompt.messages else prompt.text


@lru_cache(maxsize=64)
def _facts(document: str) -> Facts:
    """A document's samples are reviewed one after the other: what it holds is found once."""
    return Facts(document)


@lru_cache(maxsize=256)
def _language(document: str) -> str | None:
    return of_source(document)
