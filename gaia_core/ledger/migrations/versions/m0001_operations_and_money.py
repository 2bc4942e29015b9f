"""Operations, what they made, and what they cost."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables of the first version."""
    _operations()
    _attempts_and_images()
    _keys_and_results()
    _money()


def _operations() -> None:
    op.create_table(
        "operations",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("capability", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("campaign_id", sa.Text),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("request", sa.Text),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("route", sa.Text),
        sa.Column("result_key", sa.String(64)),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.BigInteger),
        sa.Column("images", sa.Integer, nullable=False),
        sa.Column("provider", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("answer", sa.Text),
        sa.Column("error_type", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("owner", sa.String(32)),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("leases", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
    )
    is_open = sa.text("finished_at IS NULL")
    is_unknown = sa.text("state = 'unknown'")
    op.create_index("ix_operations_created", "operations", ["created_at"])
    op.create_index(
        "ix_operations_open",
        "operations",
        ["owner"],
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.create_index(
        "ix_operations_unknown",
        "operations",
        ["created_at"],
        sqlite_where=is_unknown,
        postgresql_where=is_unknown,
    )


def _attempts_and_images() -> None:
    op.create_table(
        "attempts",
        sa.Column("operation_id", sa.String(32), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("task_id", sa.String(36), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("price", sa.BigInteger),
        sa.Column("cost", sa.BigInteger),
        sa.Column("duration_ms", sa.Float, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("sent_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
    )
    op.create_table(
        "images",
        sa.Column("operation_id", sa.String(32), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("media_type", sa.String(16), nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
    )
    op.create_index("ix_images_id", "images", ["id"])


def _keys_and_results() -> None:
    op.create_table(
        "keys",
        sa.Column("principal", sa.Text, primary_key=True),
        sa.Column("route", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("operation_id", sa.String(32)),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("is_final", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_keys_operation", "keys", ["operation_id"])
    op.create_table(
        "results",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("operation_id", sa.String(32), nullable=False),
        sa.Column("used_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_results_used", "results", ["used_at"])


def _money() -> None:
    op.create_table(
        "entries",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
        ),
        sa.Column("operation_id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        sa.Column("spent", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("campaign_id", sa.Text),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_entries_operation", "entries", ["operation_id"])
    op.create_index("ix_entries_day", "entries", ["day"])
    for name in ("user", "campaign"):
        is_known = sa.text(f"{name}_id IS NOT NULL")
        op.create_index(
            f"ix_entries_{name}",
            "entries",
            [f"{name}_id", "day"],
            sqlite_where=is_known,
            postgresql_where=is_known,
        )
    op.create_table(
        "balances",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("period", sa.String(10), primary_key=True),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        sa.Column("spent", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "alerts",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("period", sa.String(10), primary_key=True),
        sa.Column("share", sa.String(16), primary_key=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
