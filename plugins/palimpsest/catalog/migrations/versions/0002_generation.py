"""Engine seconds per attempt and where they went; leases; requests that failed for good."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXTS = ("attempt", "model", "worker", "state")
TIMES = ("started_at", "heartbeat_at")
SECONDS = ("wall_seconds", "failed_seconds", "idle_seconds")
COUNTS = ("input_tokens", "output_tokens")
OLD = """
    update engine_usage set
        attempt = 'before-0002-' || id,
        model = '',
        worker = '',
        state = 'done',
        started_at = recorded_at,
        heartbeat_at = recorded_at,
        wall_seconds = paid_seconds,
        failed_seconds = paid_seconds - useful_seconds - repaid_seconds,
        idle_seconds = 0,
        input_tokens = 0,
        output_tokens = 0
"""


def upgrade() -> None:
    types = {
        sa.String: TEXTS,
        sa.DateTime: TIMES,
        sa.Double: SECONDS,
        sa.BigInteger: COUNTS,
    }
    columns = {name: kind(timezone=True) if kind is sa.DateTime else kind() for kind in types for name in types[kind]}
    with op.batch_alter_table("engine_usage") as table:
        for name, kind in columns.items():
            table.add_column(sa.Column(name, kind))
    op.execute(OLD)
    with op.batch_alter_table("engine_usage") as table:
        for name, kind in columns.items():
            table.alter_column(name, existing_type=kind, nullable=False)
        table.drop_column("recorded_at")
        table.create_unique_constraint("uq_engine_usage_attempt", ["attempt"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_index("ix_leases_holder", "leases", ["holder"])
    op.create_table(
        "failed_requests",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("strategy", sa.String(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("g", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("detail", sa.String()),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_failed_requests"),
    )
    op.create_index("ix_failed_requests_study", "failed_requests", ["study"])


def downgrade() -> None:
    op.drop_table("failed_requests")
    op.drop_table("leases")
    with op.batch_alter_table("engine_usage") as table:
        table.add_column(sa.Column("recorded_at", sa.DateTime(timezone=True)))
    op.execute("update engine_usage set recorded_at = heartbeat_at")
    with op.batch_alter_table("engine_usage") as table:
        table.drop_constraint("uq_engine_usage_attempt", type_="unique")
        table.alter_column("recorded_at", existing_type=sa.DateTime(timezone=True), nullable=False)
        for name in (*TEXTS, *TIMES, *SECONDS, *COUNTS):
            table.drop_column(name)
