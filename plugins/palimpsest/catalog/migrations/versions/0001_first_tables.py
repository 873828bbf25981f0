"""Dataset versions and their parents, quarantine, throughput ledger, training runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dataset_versions",
        sa.Column("uri", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("rows", sa.BigInteger()),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("uri", name="pk_dataset_versions"),
    )
    op.create_index("ix_dataset_versions_dataset", "dataset_versions", ["dataset"])
    op.create_index("ix_dataset_versions_digest", "dataset_versions", ["digest"])
    op.create_table(
        "dataset_parents",
        sa.Column("child_uri", sa.String(), nullable=False),
        sa.Column("parent_uri", sa.String(), nullable=False),
        sa.Column("parent_digest", sa.String(), nullable=False),
        _of_version("dataset_parents", "child_uri"),
        sa.PrimaryKeyConstraint("child_uri", "parent_uri", name="pk_dataset_parents"),
    )
    op.create_index("ix_dataset_parents_parent_uri", "dataset_parents", ["parent_uri"])
    op.create_table(
        "quarantine",
        sa.Column("dataset_uri", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("url", sa.String()),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("detail", sa.String()),
        _of_version("quarantine", "dataset_uri"),
        sa.PrimaryKeyConstraint("dataset_uri", "number", name="pk_quarantine"),
    )
    op.create_table(
        "engine_usage",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("engine", sa.String(), nullable=False),
        sa.Column("paid_seconds", sa.Double(), nullable=False),
        sa.Column("useful_seconds", sa.Double(), nullable=False),
        sa.Column("repaid_seconds", sa.Double(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_engine_usage"),
    )
    op.create_index("ix_engine_usage_study", "engine_usage", ["study"])
    op.create_table(
        "training_runs",
        sa.Column("dataset_uri", sa.String(), nullable=False),
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("run", sa.String(), nullable=False),
        sa.Column("recipe", sa.String(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("losses", sa.JSON(), nullable=False),
        sa.Column("mlflow_run_id", sa.String()),
        _of_version("training_runs", "dataset_uri"),
        sa.PrimaryKeyConstraint("dataset_uri", name="pk_training_runs"),
    )
    op.create_index("ix_training_runs_study", "training_runs", ["study"])


def downgrade() -> None:
    for table in ("training_runs", "engine_usage", "quarantine", "dataset_parents", "dataset_versions"):
        op.drop_table(table)


def _of_version(table: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], ["dataset_versions.uri"], name=f"fk_{table}_{column}", ondelete="CASCADE")
