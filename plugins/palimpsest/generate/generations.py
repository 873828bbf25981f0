"""The plan by generation: the requests (one per chunk of a long document) whose answers make one text, and its fate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

from palimpsest.config import Study
from palimpsest.generate.asks import Asker
from palimpsest.generate.chunks import View
from palimpsest.generate.plan import again
from palimpsest.generate.requests import Request
from palimpsest.generate.review import Part, Reviewed, Reviewer, review_generation
from palimpsest.generate.segments import Row
from palimpsest.generate.tables import REQUESTS, planned_rows, training_documents
from palimpsest.lake import Lake, LakeError, Published


@dataclass(frozen=True)
class Generation:
    """Sample ``g`` of a strategy for a document."""

    document: str
    planned: tuple[Row, ...]
    """The plan's row of each part."""
    requests: tuple[tuple[Request, ...], ...]
    """For each part the request as planned, and as it is asked again: once more, twice more …"""

    @property
    def keys(self) -> Iterator[str]:
        """All keys under which the ledger may have something of it, part by part."""
        return (request.key for asked in self.requests for request in asked)

    @property
    def size(self) -> int:
        """How many keys."""
        return sum(map(len, self.requests))


@dataclass(frozen=True)
class Fate:
    """What the ledger makes of a generation: ``reviewed`` if every part has a text, else what is open or failed."""

    open: tuple[Request, ...] = ()
    """Neither answered nor failed yet."""
    failed: tuple[Request, Row] | None = None
    """The first part without a text, and the ledger's row that says why."""
    reviewed: Reviewed | None = None
    """Its decision is 'keep' or 'drop'."""
    rows: tuple[Row, ...] = ()
    """The ledger's row of each part, of the attempt that counts."""
    attempt: int = 0
    """The highest of its parts."""


def most_attempts(reviewer: Reviewer) -> int:
    """How often a generation may be asked for again under these rules."""
    review = reviewer.review
    asks = any(value == "again" for value in review.model_dump().values())
    return review.attempts if reviewer.repeatable and asks else 0


def planned_generations(
    study: Study, lake: Lake, reviewer: Reviewer, strategy: str, *, split: Published, plan: Published, shard: int | None
) -> Iterator[Generation]:
    """A strategy's generations: its documents in the plan's order, and the samples of each in theirs."""
    asker = Asker(study, strategy, lake)
    attempts = most_attempts(reviewer)
    documents = chain.from_iterable(training_documents(split))
    document = {"document_id": None}
    rows = (row for row in planned_rows(plan, REQUESTS.names, shard) if row["strategy"] == strategy)
    for document_id, planned in groupby(rows, key=lambda row: row["document_id"]):
        while document["document_id"] != document_id:
            document = next(documents, None)
            if document is None:
                raise LakeError(f"{plan.uri} names document {document_id}, which {split.uri} lacks; plan again")
        by_sample: dict[int, list[Row]] = {}
        for row in planned:
            by_sample.setdefault(row["g"], []).append(row)
        for parts in by_sample.values():
            requests = (_request(asker, document["text"], row) for row in parts)
            yield Generation(
                document["text"],
                tuple(parts),
                tuple((r, *(again(study, r, n + 1) for n in range(attempts))) for r in requests),
            )


def fate(generation: Generation, found: Sequence[Row | None], reviewer: Reviewer) -> Fate:
    """What becomes of a generation; ``found`` has the ledger's row, or None, for each of its `keys`.

    An attempt that failed for good ends it: another would be paid for what a person may still replay.
    """
    tries = len(generation.requests[0])
    attempts = [0] * len(generation.requests)
    while True:
        asked = [requests[n] for requests, n in zip(generation.requests, attempts, strict=True)]
        rows = [found[part * tries + n] for part, n in enumerate(attempts)]
        if None in rows:
            return Fate(open=tuple(request for request, row in zip(asked, rows, strict=True) if row is None))
        for request, row in zip(asked, rows, strict=True):
            if row["text"] is None:
                return Fate(failed=(request, row), attempt=max(attempts))
        parts = [
            Part(row["text"], request.prompt, row["finish_reason"], request.attempt)
            for request, row in zip(asked, rows, strict=True)
        ]
        reviewed = review_generation(parts, document=generation.document, reviewer=reviewer)
        if reviewed.decision != "again":
            return Fate(reviewed=reviewed, rows=tuple(rows), attempt=max(attempts))
        for part in reviewed.again:
            attempts[part] += 1


def _request(asker: Asker, text: str, row: Row) -> Request:
    view = View(row["view_before"], row["view_start"], row["view_end"])
    return Request(
        key=row["key"],
        url=row["url"],
        kind=row["kind"],
        g=row["g"],
        document=asker.written_over(text, view),
        seed=row["seed"],
        group=row["group"],
        part=row["part"],
        prompt=asker.render(text, view, row["part"], row["parts"]),
        strategy=row["strategy"],
        model=row["model"],
    )
