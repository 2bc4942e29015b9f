"""Batches, their events, and the processes that work on them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables of batches and workers; what is there stays."""
    _items()
    _batches()
    _workers()


def _items() -> None:
    op.add_column("operations", sa.Column("batch_id", sa.String(32)))
    op.add_column("operations", sa.Column("position", sa.Integer))
    op.add_column("keys", sa.Column("batch_id", sa.String(32)))
    is_item = sa.text("batch_id IS NOT NULL")
    op.create_index(
        "ix_operations_batch",
        "operations",
        ["batch_id", "position"],
        sqlite_where=is_item,
        postgresql_where=is_item,
    )
    is_queued = sa.text("state = 'queued'")
    op.create_index(
        "ix_operations_queued",
        "operations",
        ["batch_id", "position"],
        sqlite_where=is_queued,
        postgresql_where=is_queued,
    )


def _batches() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("unknown", sa.Integer, nullable=False),
        sa.Column("cancelled", sa.Integer, nullable=False),
        sa.Column("cost", sa.BigInteger, nullable=False),
        sa.Column("last_event", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
    )
    op.create_index("ix_batches_created", "batches", ["created_at"])
    op.create_table(
        "events",
        sa.Column("batch_id", sa.String(32), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("operation_id", sa.String(32)),
        sa.Column("position", sa.Integer),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    says_unknown = sa.text("kind = 'unknown'")
    op.create_index(
        "ix_events_unknown",
        "events",
        ["operation_id"],
        sqlite_where=says_unknown,
        postgresql_where=says_unknown,
    )


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )
