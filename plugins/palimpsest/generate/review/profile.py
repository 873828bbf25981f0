"""How often a strategy's generations have each defect, and what became of those: a small table for people."""

from __future__ import annotations

from collections import Counter, defaultdict

from palimpsest.generate.review.decide import DEFECTS
from palimpsest.generate.review.reviewer import Reviewed

EXAMPLES = 5


class Profile:
    """Counts decisions as they are made; `rows` is the table."""

    def __init__(self) -> None:
        self._reviewed: Counter[str] = Counter()
        self._decided: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._examples: dict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, strategy: str, generation_id: str, reviewed: Reviewed) -> None:
        self._reviewed[strategy] += 1
        for defect in reviewed.defects:
            place = (strategy, defect)
            outcome = "kept" if reviewed.decision == "keep" else "dropped"
            self._decided[place].update(["found", outcome, *(["reason"] if reviewed.reason == defect else [])])
            if len(self._examples[place]) < EXAMPLES:
                self._examples[place].append(generation_id)

    def rows(self) -> list[dict[str, object]]:
        """Per strategy and defect found: found, its share of all reviewed, kept, dropped, dropped for it, examples."""
        return [
            {
                "strategy": strategy,
                "defect": defect,
                "found": counts["found"],
                "share": round(counts["found"] / self._reviewed[strategy], 6),
                "kept": counts["kept"],
                "dropped": counts["dropped"],
                "dropped_for_it": counts["reason"],
                "examples": self._examples[strategy, defect],
            }
            for strategy in sorted(self._reviewed)
            for defect in DEFECTS
            if (counts := self._decided.get((strategy, defect)))
        ]

    def lines(self) -> list[str]:
        """The table as one log line per strategy: ``rephrase: 4,000 reviewed; preamble 1.2% (kept 48), …``."""
        table = self.rows()
        said = []
        for strategy, reviewed in sorted(self._reviewed.items()):
            own = [row for row in table if row["strategy"] == strategy]
            seen = ", ".join(f"{r['defect']} {r['share']:.2%} ({r['dropped_for_it']} dropped for it)" for r in own)
            said.append(f"{strategy}: {reviewed:,} reviewed; {seen or 'no defect'}")
        return said
