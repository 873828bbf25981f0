"""The catalog's tables about work that goes on: engine seconds, failed requests, leases. One call, one transaction."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from palimpsest.catalog.tables import EngineUsage, FailedRequest, Lease
from palimpsest.lake import LakeError
from palimpsest.liveness import is_dead

SECONDS = ("wall_seconds", "paid_seconds", "useful_seconds", "repaid_seconds", "failed_seconds", "idle_seconds")
TOLERANCE = 0.01
"""Of the clock on the wall: what rounding and a thread's pause may hide, and nothing else."""
DETAIL = 2_000
"""Characters of an engine's words about a failure that are kept."""


def write_usage(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add or renew the line of an attempt; raises `LakeError` unless its seconds add up."""
    wall, paid, useful, repaid, failed, idle = (row[name] for name in SECONDS)
    slack = TOLERANCE * wall + 0.01
    if abs(paid + idle - wall) > slack or abs(useful + repaid + failed - paid) > slack or min(useful, repaid, idle) < 0:
        raise LakeError(
            f"study {row['study']}, shard {row['shard']}: engine seconds do not add up: wall {wall:.2f}, paid "
            f"{paid:.2f} (useful {useful:.2f}, repaid {repaid:.2f}, failed {failed:.2f}), idle {idle:.2f}. "
            f"This is a bug in engine '{row['engine']}'s meter; what was generated is in the ledger."
        )
    table = _upsert(connection, EngineUsage)
    kept = {name: table.excluded[name] for name in row if name not in ("attempt", "started_at")}
    connection.execute(table.values(row).on_conflict_do_update(index_elements=["attempt"], set_=kept))


def close_dead(connection: Connection, study: str, shard: int, older_than_s: float) -> None:
    """Attempts of a shard that were killed: what had not been stored is to be paid again, as their lines say.

    Leases of processes known to be dead go too: of lanes with nothing left to ask nobody would ever take them over.
    """
    here = (EngineUsage.study == study, EngineUsage.shard == shard, EngineUsage.state == "running")
    rows = connection.execute(select(EngineUsage.attempt, EngineUsage.worker, EngineUsage.heartbeat_at).where(*here))
    oldest = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=older_than_s)
    dead = [
        a for a, worker, beat in rows.all() if is_dead(worker) or beat.replace(tzinfo=beat.tzinfo or dt.UTC) < oldest
    ]
    if dead:
        connection.execute(update(EngineUsage).where(EngineUsage.attempt.in_(dead)).values(state="dead"))
    holders = connection.scalars(select(Lease.holder).distinct()).all()
    gone = [holder for holder in holders if is_dead(holder.rpartition("/")[0])]
    if gone:
        connection.execute(delete(Lease).where(Lease.holder.in_(gone)))


def read_usage(connection: Connection, study: str | None) -> list[dict[str, Any]]:
    query = select(EngineUsage.__table__).order_by(EngineUsage.id)
    rows = connection.execute(query if study is None else query.where(EngineUsage.study == study)).mappings()
    return [{name: value for name, value in row.items() if name != "id"} for row in rows]


def write_failures(connection: Connection, rows: Sequence[Mapping[str, Any]], *, tried: bool) -> None:
    """Requests that ended without a text; ``tried``: just now. Otherwise only those not listed yet are added."""
    now, table = dt.datetime.now(dt.UTC), _upsert(connection, FailedRequest)
    if tried:
        names = {column.name for column in FailedRequest.__table__.columns} - {"key", "first_at"}
        renewed = {name: table.excluded[name] for name in sorted(names)}
        insert = table.on_conflict_do_update(index_elements=["key"], set_=renewed | {"tries": FailedRequest.tries + 1})
    else:
        insert = table.on_conflict_do_nothing(index_elements=["key"])
    new = {"tries": 1, "first_at": now, "last_at": now}
    said = [{**row, "detail": _text(row["detail"], DETAIL), "url": _text(row["url"])} | new for row in rows]
    if said:  # in one order for all, or two writers deadlock on PostgreSQL
        connection.execute(insert, sorted(said, key=lambda row: row["key"]))


def delete_failures(connection: Connection, keys: Iterable[str]) -> None:
    connection.execute(delete(FailedRequest).where(FailedRequest.key.in_(sorted(keys))))


def read_failures(connection: Connection, study: str | None, limit: int | None) -> list[dict[str, Any]]:
    query = select(FailedRequest.__table__).order_by(FailedRequest.last_at.desc(), FailedRequest.key).limit(limit)
    rows = connection.execute(query if study is None else query.where(FailedRequest.study == study)).mappings()
    return [dict(row) for row in rows]


def take(connection: Connection, names: Iterable[str], holder: str, ttl_s: float) -> set[str]:
    """Those of ``names`` that are now the holder's: they were free, its own, expired, or of a process that is dead."""
    wanted = sorted(names)
    now = _clock(connection)
    held = dict(connection.execute(select(Lease.name, Lease.holder).where(Lease.name.in_(wanted))).all())
    free = [{"name": name, "holder": holder, "expires_at": now + ttl_s} for name in wanted if name not in held]
    if free:
        connection.execute(_upsert(connection, Lease).values(free).on_conflict_do_nothing())
    dead = {other for other in set(held.values()) - {holder} if is_dead(other.rpartition("/")[0])}
    open_ = (Lease.expires_at < now) | Lease.holder.in_(dead)
    query = select(Lease.name).where(Lease.name.in_(wanted), open_).order_by(Lease.name)
    # skipping what another worker is appending under just now: its lease is about to be renewed
    taken = connection.scalars(query.with_for_update(skip_locked=True)).all()
    if taken:
        values = {"holder": holder, "expires_at": now + ttl_s}
        connection.execute(update(Lease).where(Lease.name.in_(taken)).values(values))
    return set(connection.scalars(select(Lease.name).where(Lease.name.in_(wanted), Lease.holder == holder)))


def renew(connection: Connection, names: Iterable[str], holder: str, ttl_s: float) -> set[str]:
    """Those of ``names`` that still are the holder's; until the transaction ends nobody can take them."""
    query = select(Lease.name).where(Lease.name.in_(sorted(names)), Lease.holder == holder).order_by(Lease.name)
    kept = connection.scalars(query.with_for_update()).all()
    values = {"expires_at": _clock(connection) + ttl_s}
    connection.execute(update(Lease).where(Lease.name.in_(kept)).values(values))
    return set(kept)


def release(connection: Connection, names: Iterable[str], holder: str) -> None:
    connection.execute(delete(Lease).where(Lease.name.in_(sorted(names)), Lease.holder == holder))


def _clock(connection: Connection) -> float:
    """The database's clock where it has one: workers' own may differ by more than a lease lasts."""
    if connection.dialect.name == "postgresql":
        return float(connection.scalar(select(func.extract("epoch", func.clock_timestamp()))))
    return time.time()


def _upsert(connection: Connection, table: type):
    return {"sqlite": sqlite, "postgresql": postgresql}[connection.dialect.name].insert(table)


def _text(value: str | None, most: int | None = None) -> str | None:
    """PostgreSQL's text cannot hold the NUL character, which broken answers do contain."""
    return value and value.replace("\0", "\ufffd")[:most]
