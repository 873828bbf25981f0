"""The guard's verdicts in words: a line each for logs and files, advice, and the probes' report for who signs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from palimpsest.guard.verdict import Verdict

log = logging.getLogger("expectations.gate")
"""The gate speaks them."""


def spoken(verdict: Mapping[str, object]) -> str:
    """A verdict of a manifest as one line: gate, outcome, sentence and what follows."""
    response = verdict["details"].get("response")
    said = f"{verdict['gate']} {verdict['outcome'].replace('_', ' ')}: {verdict['sentence']}"
    return f"{said}; what to do: {response}" if response else said


def log_verdicts(verdicts: Sequence[Mapping[str, object]]) -> None:
    """In the task's log: what did not pass in full, then how each gate came out."""
    for verdict in verdicts:
        if verdict["outcome"] != "passed":
            level = logging.INFO if verdict["outcome"] == "not_judged" else logging.WARNING
            log.log(level, "%s", spoken(verdict))
    for gate in sorted({v["gate"] for v in verdicts}, key=lambda gate: (len(gate), gate)):
        own = [v for v in verdicts if v["gate"] == gate]
        counts = Counter(v["outcome"].replace("_", " ") for v in own)
        last = f"; e.g. {own[-1]['sentence']}" if own[-1]["outcome"] == "passed" else ""
        log.info("%s: %s%s", gate, ", ".join(f"{n} {outcome}" for outcome, n in counts.items()), last)


def advice(verdicts: Sequence[Verdict]) -> str:
    """What the guard's breaches ask for, a line each; empty without any."""
    told = dict.fromkeys(f"  {v.gate}: {v.details['response']}" for v in verdicts if "response" in v.details)
    return "\n".join(["What to do:", *told, "", ""]) if told else ""


def probe_report(verdicts: Iterable[Verdict]) -> str:
    """What the probes found of each strategy, for who is asked for a waiver; empty where none was made."""
    lines, told = [], []
    for verdict in verdicts:
        if verdict.gate not in ("G7", "G11"):
            continue
        lines.append(f"{verdict.gate} {verdict.outcome.replace('_', ' ')}: {verdict.sentence}")
        figures = [f"  {line}" for line in _figures(verdict.details)]
        lines += figures if figures != told else []  # a strategy's worst domain was measured with the whole
        told = figures
    return "\n".join(lines)


def _figures(details: Mapping[str, object]) -> Iterator[str]:
    if "ratios" in details:
        ratios = ", ".join(f"{ratio:.3f}" for ratio in details["ratios"])
        yield (
            f"{details['real_tokens']:,} real and {details['synthetic_tokens']:,} synthetic tokens, "
            f"{details['test_tokens']:,} held out; perplexity {details['perplexity_alone']:.1f} on real text alone, "
            f"times {ratios} by seed"
        )
        worst = sorted(details["domains"].items(), key=lambda found: -found[1])[:3]
        if len(details["domains"]) > 1:
            yield f"worst domains: {', '.join(f'{name} {ratio:.3f}' for name, ratio in worst)}"
    if "gains" in details:
        yield f"nats per token gained, by seed: {', '.join(f'{gain:.4f}' for gain in details['gains'])}"
