"""G7 and G11: what a strategy's text costs a model of real text, and whether its verifier chooses better than chance.

Both by a word trigram and, where the study has ``guard.probe``, by the neural models that `training.probe` trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from expectations.guard.found import Found
from expectations.guard.ladder import half_share
from palimpsest.guard.judge import judge_probe
from palimpsest.guard.probe import Probe, additive_probe, verifier_gains
from palimpsest.guard.texts import Texts, subject_of
from palimpsest.guard.thresholds import Thresholds
from palimpsest.guard.verdict import Verdict, not_judged, percent
from palimpsest.guard.verifier import judge_audit, judge_gain

COMPARE = "compare the losses of runs with and without them on held-out text"


@dataclass
class Probes:
    """The probes of one strategy's text."""

    texts: Texts
    strategy: str
    model: str
    learned: list[str]
    """What its generator learned from, where that was here."""
    lacking: str
    """Why that cannot be had, or nothing."""
    neural: Mapping | None
    """What `training.probe` found of this strategy: probe, half and gains, or why it could not."""
    layout: str | None = None
    """The aligned layout whose choice of the text is meant; no neural model learned that by itself."""

    @property
    def limits(self) -> Thresholds:
        return self.texts.study.guard.thresholds

    @property
    def subject(self) -> str:
        return subject_of(self.texts.study, self.strategy, self.layout)

    @cached_property
    def real(self) -> dict[str, object]:
        """R and the held-out documents of each domain, numbered."""
        return {
            "real": self._numbered(self.texts.all_real),
            "tests": {domain: self._numbered(documents) for domain, documents in self.texts.held_out.items()},
            "learned": self._numbered(self.learned),
        }

    def additive(self, written: list[str], found: Found) -> Iterator[Verdict]:
        """G7, where R also holds what a generator trained here has learned from."""

        def probe(most: int | None = None) -> Probe:
            if self.lacking:
                raise ValueError(f"{self.lacking}; {COMPARE}")
            real, synthetic = self.real, self._numbered(written)
            return additive_probe(synthetic=synthetic, types=self._types, most=most, **real)

        yield from self._judged("probe", found, probe, lambda first: probe(first.synthetic_tokens // 2))
        if self.texts.study.guard.probe and not self.layout:
            yield from self._judged("probe_lm", found, self._neural_probe, self._neural_half)

    def _judged(
        self, measure: str, found: Found, probe: Callable[[], Probe], half: Callable[[Probe], Probe | None]
    ) -> Iterator[Verdict]:
        try:
            first = probe()
        except ValueError as error:
            why = f"what {self.subject} cost cannot be judged: {error}"
            yield not_judged("G7", measure, why, subject=self.subject)
            return
        told = f"{self.strategy}/{self.layout}" if self.layout else self.strategy
        found.measured(told, self.model, f"{measure}_ratio", first.ratio)
        neural = measure == "probe_lm"
        verdicts = judge_probe(first, self.limits, self.subject, neural=neural)
        if any(verdict.outcome != "passed" for verdict in verdicts):
            halved = half(first)
            verdicts = half_share(self.texts.study, self.strategy, verdicts, halved, neural=neural)
        yield from verdicts

    def _neural_probe(self) -> Probe:
        if self.lacking:
            raise ValueError(f"{self.lacking}; {COMPARE}")
        if self.neural is None:
            raise ValueError(f"no neural model has learned this data: python -m training probe {self._study}")
        if self.neural.get("why"):
            raise ValueError(self.neural["why"])
        return Probe(**self.neural["probe"])

    def _neural_half(self, _: Probe) -> Probe | None:
        return Probe(**self.neural["half"]) if self.neural.get("half") else None

    def verifier(self, audited: Mapping[str, bool]) -> Iterator[Verdict]:
        """G11 of the strategy's review, where it drops enough for its choice to be one; and of its audit."""
        accepted, dropped = self.texts.reviewed(self.strategy)
        if not accepted and not dropped:
            return
        subject = f"the review of strategy {self.strategy}"
        lost, shown = (sum(map(len, found)) for found in (dropped, [*accepted, *dropped]))
        gone, least = lost / max(1, shown), self.limits.verifier_dropped_min
        if gone < least or not dropped:
            why = f"{subject} drops {percent(gone)} of the text it was shown; whether it chooses better than chance "
            why += f"can be told from {percent(least)} on"
            yield not_judged("G11", "gain", why, subject=subject, limit=self.limits.verifier_p_max)
        else:
            yield self._gain(accepted, dropped, subject)
            if self.neural and self.neural.get("gains"):
                yield judge_gain(self.neural["gains"], self.limits, subject, neural=True)
        if not dropped and not audited:
            return
        query = "select distinct generation_id from generations where strategy = ? and verdict <> 'not_reviewed'"
        ids = [name for (name,) in self.texts.connection.execute(query, [self.strategy]).fetchall()]
        told = [audited[name] for name in ids if name in audited]
        command = f"python -m palimpsest guard audit {self._study} --strategy {self.strategy}"
        yield judge_audit(sum(told), len(told), self.limits, subject, command)

    def _gain(self, accepted: list[str], dropped: list[str], subject: str) -> Verdict:
        try:
            if self.lacking:
                raise ValueError(self.lacking)
            texts = {"accepted": self._numbered(accepted), "dropped": self._numbered(dropped), **self.real}
            gains = verifier_gains(types=self._types, **texts)
        except ValueError as error:
            why = f"whether {subject} chooses better than chance cannot be judged: {error}"
            return not_judged("G11", "gain", why, subject=subject, limit=self.limits.verifier_p_max)
        return judge_gain(gains, self.limits, subject)

    def _numbered(self, documents: list[str]) -> list[np.ndarray]:
        return [self.texts.reference.vocabulary.encode(document) for document in documents]

    @property
    def _types(self) -> int:
        """Words of all documents numbered so far: ask after numbering."""
        return len(self.texts.reference.vocabulary)

    @property
    def _study(self) -> str:
        return self.texts.study.name
