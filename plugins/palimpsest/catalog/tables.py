"""The catalog's tables, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Integer, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

CONVENTION = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
}
"""Names Alembic can find again on both databases."""


def _version() -> ForeignKey:
    return ForeignKey("dataset_versions.uri", ondelete="CASCADE")


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=CONVENTION)
    type_annotation_map = {dict[str, Any]: JSON, dt.datetime: DateTime(timezone=True)}


class DatasetVersion(Base):
    """One manifest of the lake."""

    __tablename__ = "dataset_versions"
    uri: Mapped[str] = mapped_column(primary_key=True)
    dataset: Mapped[str] = mapped_column(index=True)
    key: Mapped[str]
    digest: Mapped[str] = mapped_column(index=True)
    rows: Mapped[int | None] = mapped_column(BigInteger)
    """Rows kept; null where the stage counts none (a trained model)."""
    bytes: Mapped[int] = mapped_column(BigInteger)
    config: Mapped[dict[str, Any]]
    extra: Mapped[dict[str, Any]]
    published_at: Mapped[dt.datetime]


class DatasetParent(Base):
    """An edge of the lineage. The parent may be gone from the lake, so it is no foreign key."""

    __tablename__ = "dataset_parents"
    child_uri: Mapped[str] = mapped_column(_version(), primary_key=True)
    parent_uri: Mapped[str] = mapped_column(primary_key=True, index=True)
    parent_digest: Mapped[str]


class Quarantined(Base):
    """A row that a stage could not use, and why."""

    __tablename__ = "quarantine"
    dataset_uri: Mapped[str] = mapped_column(_version(), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    url: Mapped[str | None]
    """Not indexed: a quarantined URL may be longer than PostgreSQL can index."""
    cause: Mapped[str]
    detail: Mapped[str | None]


class EngineUsage(Base):
    """The throughput ledger: where the seconds of each attempt to generate a shard went.

    ``wall = paid + idle`` and ``paid = useful + repaid + failed``. While an attempt runs, what is in flight and what
    is not yet stored stand under repaid: that is what they will be if it dies.
    """

    __tablename__ = "engine_usage"
    id: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[str] = mapped_column(unique=True)
    study: Mapped[str] = mapped_column(index=True)
    shard: Mapped[int]
    engine: Mapped[str]
    model: Mapped[str]
    worker: Mapped[str]
    """`palimpsest.liveness.identity` of its process."""
    state: Mapped[str]
    """running, done, failed (an error ended it) or dead (killed)."""
    started_at: Mapped[dt.datetime]
    heartbeat_at: Mapped[dt.datetime]
    wall_seconds: Mapped[float]
    paid_seconds: Mapped[float]
    useful_seconds: Mapped[float]
    repaid_seconds: Mapped[float]
    failed_seconds: Mapped[float]
    idle_seconds: Mapped[float]
    requests: Mapped[int] = mapped_column(BigInteger)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)


class Lease(Base):
    """What one worker alone may do for now: generate the documents of a lane, merge the ledger's segments."""

    __tablename__ = "leases"
    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str] = mapped_column(index=True)
    expires_at: Mapped[float]
    """Seconds since 1970 by the database's clock; whoever comes later may take it over."""


class FailedRequest(Base):
    """A request that ended without a text: final until it is replayed."""

    __tablename__ = "failed_requests"
    key: Mapped[str] = mapped_column(primary_key=True)
    study: Mapped[str] = mapped_column(index=True)
    strategy: Mapped[str]
    shard: Mapped[int]
    url: Mapped[str]
    g: Mapped[int]
    part: Mapped[int]
    cause: Mapped[str]
    detail: Mapped[str | None]
    tries: Mapped[int]
    first_at: Mapped[dt.datetime]
    last_at: Mapped[dt.datetime]


class TrainingRun(Base):
    """One pre-training run and its final losses."""

    __tablename__ = "training_runs"
    dataset_uri: Mapped[str] = mapped_column(_version(), primary_key=True)
    study: Mapped[str] = mapped_column(index=True)
    run: Mapped[str]
    recipe: Mapped[str]
    seed: Mapped[int]
    losses: Mapped[dict[str, Any]]
    mlflow_run_id: Mapped[str | None]
