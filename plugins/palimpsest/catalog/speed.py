"""How fast a model wrote, by the throughput ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def seconds_per_token(usage: Sequence[Mapping]) -> float | None:
    """Busy engine seconds per token written, waste included; None where nothing was written.

    ``usage`` has attempts of one model. Shards that ran side by side shared the engine, so time counts once.
    """
    usage = [row for row in usage if row["output_tokens"] and row["wall_seconds"]]
    if not usage:
        return None
    elapsed, until = 0.0, 0.0
    for start, wall in sorted((row["started_at"].timestamp(), row["wall_seconds"]) for row in usage):
        elapsed += max(0.0, start + wall - max(start, until))
        until = max(until, start + wall)
    tokens, paid, wall = (sum(row[name] for row in usage) for name in ("output_tokens", "paid_seconds", "wall_seconds"))
    return elapsed * paid / wall / tokens
