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
    """The throughput ledger: seconds of engine paid for, of these useful, of these paid a second time after a crash."""

    __tablename__ = "engine_usage"
    id: Mapped[int] = mapped_column(primary_key=True)
    study: Mapped[str] = mapped_column(index=True)
    shard: Mapped[int]
    engine: Mapped[str]
    paid_seconds: Mapped[float]
    useful_seconds: Mapped[float]
    repaid_seconds: Mapped[float]
    requests: Mapped[int] = mapped_column(BigInteger)
    recorded_at: Mapped[dt.datetime]


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
