"""What is left to generate: the keys of a plan against the ledger, by key alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from palimpsest.generate.requests import Outcome
from palimpsest.generate.segments import Segments, rows_of


class Standing:
    """What the ledger has of some keys, kept up to date: each segment is read once."""

    def __init__(self, segments: Segments, keys: Iterable[str]) -> None:
        self.segments = segments
        self._failed: dict[str, bool | None] = dict.fromkeys(keys)  # None: the ledger has nothing
        self._read: set[str] = set()

    def update(self) -> None:
        """Take in the segments that are new since the last time."""
        for name, file in self.segments.verified(self._read):
            for batch in rows_of(file, self._failed, ["key", "cause"]):
                for key, cause in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    self.set(key, cause is not None)
            self._read.add(name)

    def add(self, segment: str, outcomes: Sequence[Outcome]) -> None:
        """Take in a segment that this process has appended."""
        for outcome in outcomes:
            self.set(outcome.key, outcome.text is None)
        self._read.add(segment)

    def set(self, key: str, failed: bool) -> None:
        if key in self._failed and self._failed[key] is not False:
            self._failed[key] = failed

    def is_done(self, key: str, replay: bool = False) -> bool:
        failed = self._failed[key]
        return failed is False or (failed is True and not replay)

    def done(self, replay: bool = False) -> set[str]:
        return {key for key in self._failed if self.is_done(key, replay)}

    def failed(self) -> set[str]:
        return {key for key, failed in self._failed.items() if failed}
