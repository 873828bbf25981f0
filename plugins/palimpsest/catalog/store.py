"""Recording dataset versions and asking for their lineage."""

from __future__ import annotations

import datetime as dt
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, delete, event, func, literal, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, OperationalError

from palimpsest.catalog import work
from palimpsest.catalog.read import finite, quarantine_rows, training_run
from palimpsest.catalog.tables import (
    Base,
    DatasetParent,
    DatasetVersion,
    Quarantined,
    TrainingRun,
)
from palimpsest.lake import Lake, LakeError, NotPublished, Published
from palimpsest.state import state_dir

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x70616C69
"""PostgreSQL advisory lock held while migrating, so that two processes do not create the same tables."""
SQLITE_WAIT_S = 60
"""How long a process waits for another one's write to a SQLite catalog."""
BATCH = 1_000
HEAD = "0002"
"""The newest migration."""


@dataclass(frozen=True)
class Relative:
    """A dataset version related to another by descent; ``distance`` is the number of stages between."""

    uri: str
    dataset: str | None
    digest: str
    distance: int


class Catalog:
    """One catalog database; every method is one transaction."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)

    @classmethod
    def from_env(cls) -> Catalog:
        """The catalog at PALIMPSEST_CATALOG (an SQLAlchemy URL); by default a SQLite file in the state folder."""
        return cls(os.environ.get("PALIMPSEST_CATALOG") or f"sqlite:///{state_dir() / 'catalog.db'}")

    def ready(self) -> None:
        """See that the tables are those of this code; costs one query where they are."""
        try:
            with self._transaction() as connection:
                if connection.scalar(text("select version_num from catalog_version")) == HEAD:
                    return
        except (LakeError, DatabaseError):
            pass  # no tables yet
        self.migrate()

    def migrate(self, revision: str = "head") -> None:
        """Bring the tables to ``revision``; an older one takes them back ('base' removes them)."""
        logging.getLogger("alembic").setLevel(logging.WARNING)  # first: its import already reports every plugin
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self._transaction() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            config.attributes["connection"] = connection
            (command.upgrade if revision == "head" else command.downgrade)(config, revision)

    def record(self, *published: Published) -> None:
        """Index these versions with their parents, quarantine and training run, each once.

        A version indexed with another digest was published again under its URI: its rows are replaced.
        """
        found = {p.uri: p for p in published}
        with self._transaction() as connection:
            query = select(DatasetVersion.uri, DatasetVersion.digest).where(DatasetVersion.uri.in_(found))
            known = dict(connection.execute(query).all())
            for uri in sorted(found):  # one order for all, or two writers deadlock on PostgreSQL
                if known.get(uri) == found[uri].digest:
                    continue
                if uri in known:
                    connection.execute(delete(DatasetVersion).where(DatasetVersion.uri == uri))
                _insert_version(connection, found[uri])

    def sync(self, lake: Lake) -> int:
        """Make the index equal to the lake: add what is missing, drop what is gone; how many versions it now holds."""
        found = {published.uri: published for published in _walk(lake)}
        with self._transaction() as connection:
            known = dict(connection.execute(select(DatasetVersion.uri, DatasetVersion.digest)).all())
            stale = [uri for uri, digest in known.items() if uri not in found or found[uri].digest != digest]
            for start in range(0, len(stale), BATCH):
                connection.execute(delete(DatasetVersion).where(DatasetVersion.uri.in_(stale[start : start + BATCH])))
            for uri in sorted(found.keys() - (known.keys() - set(stale))):
                _insert_version(connection, found[uri])
        return len(found)

    def lineage_up(self, uri: str) -> list[Relative]:
        """Everything the version was made from, nearest first."""
        return self._relatives(uri, DatasetParent.child_uri, DatasetParent.parent_uri)

    def lineage_down(self, uri: str) -> list[Relative]:
        """Everything made from the version, nearest first."""
        return self._relatives(uri, DatasetParent.parent_uri, DatasetParent.child_uri)

    def record_usage(self, attempt: str, **row: Any) -> None:
        """Add or renew an attempt's line of the throughput ledger (columns of `tables.EngineUsage`).

        Raises `LakeError` unless wall = paid + idle and paid = useful + repaid + failed, each to 1% of wall.
        """
        with self._transaction() as connection:
            work.write_usage(connection, {"attempt": attempt, "heartbeat_at": _now(), **row})

    def close_dead(self, study: str, shard: int, older_than_s: float) -> None:
        """Attempts of a shard whose process is gone, or silent for so long, are dead."""
        with self._transaction() as connection:
            work.close_dead(connection, study, shard, older_than_s)

    def usage(self, study: str | None = None) -> list[dict[str, Any]]:
        """Every attempt of a study, or of all, oldest first: engine, model, state, times, seconds, requests, tokens."""
        with self._transaction() as connection:
            return work.read_usage(connection, study)

    def record_failures(self, rows: Sequence[Mapping[str, Any]], *, tried: bool = True) -> None:
        """Requests that ended without a text (columns of `tables.FailedRequest`, without tries and times).

        ``tried``: just now, so one more try of those known; else only those not known yet are added.
        """
        with self._transaction() as connection:
            work.write_failures(connection, rows, tried=tried)

    def forget_failures(self, keys: Iterable[str]) -> None:
        """These requests have a text now."""
        with self._transaction() as connection:
            work.delete_failures(connection, keys)

    def failed_requests(self, study: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
        """What failed for good, of one study or all, newest first."""
        with self._transaction() as connection:
            return work.read_failures(connection, study, limit)

    def take_leases(self, names: Iterable[str], holder: str, ttl_s: float) -> set[str]:
        """Those of ``names`` that are the holder's now, for ``ttl_s`` seconds.

        A holder is named '<liveness.identity>/<anything>'. What another one holds is taken only if its time is over
        or its process is known to be dead.
        """
        with self._transaction() as connection:
            return work.take(connection, names, holder, ttl_s)

    @contextmanager
    def keep_leases(self, names: Iterable[str], holder: str, ttl_s: float) -> Iterator[set[str]]:
        """Those of ``names`` that still are the holder's, renewed; nobody can take them while the block runs.

        A lease whose time is over but that nobody took is still its holder's.
        """
        with self._transaction() as connection:
            yield work.renew(connection, names, holder, ttl_s)

    def release_leases(self, names: Iterable[str], holder: str) -> None:
        with self._transaction() as connection:
            work.release(connection, names, holder)

    def training_runs(self, study: str) -> list[dict[str, Any]]:
        query = select(TrainingRun.__table__).where(TrainingRun.study == study)
        with self._transaction() as connection:
            return [dict(row) for row in connection.execute(query.order_by(TrainingRun.run)).mappings()]

    def quarantined(self, url: str) -> list[dict[str, Any]]:
        """Where a URL was quarantined, and for what cause."""
        query = select(Quarantined.__table__).where(Quarantined.url == url)
        with self._transaction() as connection:
            return [dict(row) for row in connection.execute(query.order_by(Quarantined.dataset_uri)).mappings()]

    def close(self) -> None:
        self.engine.dispose()

    def _relatives(self, uri: str, here, there) -> list[Relative]:
        start = select(there.label("uri"), DatasetParent.parent_digest.label("digest"), literal(1).label("distance"))
        walk = start.where(here == uri).cte("walk", recursive=True)
        step = select(there, DatasetParent.parent_digest, walk.c.distance + 1).where(here == walk.c.uri)
        walk = walk.union(step)
        nearest = select(
            walk.c.uri, func.min(walk.c.distance).label("distance"), func.max(walk.c.digest).label("digest")
        )
        nearest = nearest.group_by(walk.c.uri).subquery()
        query = (
            select(
                nearest.c.uri,
                DatasetVersion.dataset,
                func.coalesce(DatasetVersion.digest, nearest.c.digest).label("digest"),
                nearest.c.distance,
            )
            .outerjoin(DatasetVersion, DatasetVersion.uri == nearest.c.uri)
            .order_by(nearest.c.distance, nearest.c.uri)
        )
        with self._transaction() as connection:
            if not connection.scalar(select(func.count()).where(DatasetVersion.uri == uri)):
                raise NotPublished(f"{uri} is not in the catalog; bring it up to date with: python -m palimpsest sync")
            return [Relative(*row) for row in connection.execute(query)]

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self.engine.begin() as connection:
                yield connection
        except OperationalError as error:
            place = self.engine.url.render_as_string(hide_password=True)
            if "no such table" in str(error.orig):
                raise LakeError(
                    f"catalog {place} has no tables yet; create them with: python -m palimpsest sync"
                ) from error
            raise ConnectionError(f"catalog {place} cannot be used: {error.orig}; check PALIMPSEST_CATALOG") from error


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": SQLITE_WAIT_S})
    if engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)

    @event.listens_for(engine, "connect")
    def _configure(connection, _record) -> None:
        connection.isolation_level = None
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma foreign_keys = on")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        """Take the write lock first: a reader that upgrades later is refused at once instead of waiting."""
        connection.exec_driver_sql("begin immediate")

    return engine


def _insert_version(connection: Connection, published: Published) -> None:
    manifest, uri = published.manifest, published.uri
    rows = manifest["rows"]
    counted = [f["rows"] for f in manifest["files"] if "rows" in f]
    version = {
        "uri": uri,
        "dataset": manifest["dataset"],
        "key": manifest["key"],
        "digest": manifest["digest"],
        "rows": rows["kept"] if rows else sum(counted) if counted else None,
        "bytes": manifest["bytes"],
        "config": finite(manifest["config"]),
        "extra": finite(manifest["extra"]),
        "published_at": published.lake.published_at(published),
    }
    if not _insert_new(connection, DatasetVersion, [version]):
        return
    parents = {p["uri"]: p["digest"] for p in manifest["parents"]}
    edges = [{"child_uri": uri, "parent_uri": u, "parent_digest": d} for u, d in parents.items()]
    _insert_new(connection, DatasetParent, edges)
    _insert_new(connection, Quarantined, quarantine_rows(published))
    _insert_new(connection, TrainingRun, training_run(published))


def _insert_new(connection: Connection, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows whose key is new; how many of the first batch were."""
    dialect = {"sqlite": sqlite, "postgresql": postgresql}[connection.dialect.name]
    inserted = 0
    for start in range(0, len(rows), BATCH):
        statement = dialect.insert(table).on_conflict_do_nothing()
        inserted += connection.execute(statement, list(rows[start : start + BATCH])).rowcount
    return inserted


def _walk(lake: Lake) -> Iterator[Published]:
    """Every published version of the lake, unfinished directories left out."""
    for path in sorted(str(p) for p in lake.fs.glob(f"{lake.base}/**/manifest.json")):
        uri = path.removeprefix(f"{lake.base}/").removesuffix("/manifest.json")
        if not any(part.startswith(".") for part in uri.split("/")):
            yield lake.open(uri)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
