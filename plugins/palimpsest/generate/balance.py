"""What became of a plan, counted: the row balance, and per strategy what was planned, kept and lost."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from palimpsest.generate.fates import Decided
from palimpsest.generate.review import Profile
from palimpsest.lake import Facts, Rows

log = logging.getLogger(__name__)


class Balance:
    """Generations as they are decided."""

    def __init__(self, strategies: Sequence[str]) -> None:
        names = ("planned", "made", "dropped", "missing", "documents", "documents_incomplete")
        self.by_strategy = {strategy: Counter(dict.fromkeys(names, 0)) for strategy in strategies}
        self.profile = Profile()
        self.dropped: Counter[str] = Counter()
        self.missing: Counter[str] = Counter()
        self.total = self.open = self.tokens = 0
        self.open_shards: set[int] = set()
        self._document: tuple[str, str] | None = None
        self._complete = True

    def add(self, part: Decided) -> None:
        for generation, made in part:
            planned = generation.planned[0]
            facts, document = self.by_strategy[planned["strategy"]], (planned["strategy"], planned["document_id"])
            if document != self._document:
                facts["documents"] += 1
                self._document, self._complete = document, True
            kept = bool(made.reviewed) and made.reviewed.decision == "keep"
            facts.update(planned=1, made=kept)
            self.total += 1
            if not kept and self._complete:
                self._complete = False
                facts["documents_incomplete"] += 1
            if made.open:
                self.open += len(made.open)
                self.open_shards.add(planned["shard"])
            elif made.failed:
                self.missing[made.failed[1]["cause"]] += 1
                facts["missing"] += 1
            elif made.reviewed:
                self.profile.add(planned["strategy"], planned["key"], made.reviewed)
                if not kept:
                    self.dropped[made.reviewed.reason] += 1
                    facts["dropped"] += 1

    def facts(self) -> Facts:
        for line in self.profile.lines():
            log.info("%s", line)
        lost = self.dropped.total() + self.missing.total()
        by_strategy = {name: dict(facts) for name, facts in self.by_strategy.items()}
        extra = {"by_strategy": by_strategy, "tokens": self.tokens, "review": self.profile.rows()}
        return Facts(Rows(self.total, self.total - lost, self.dropped, self.missing), extra)
