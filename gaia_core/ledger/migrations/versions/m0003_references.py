"""What attempts can be looked up by, beside their task ids."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make room for references, and find what is under way by its task id."""
    op.add_column("attempts", sa.Column("reference", sa.Text))
    is_under_way = sa.text("ended_at IS NULL")
    op.create_index(
        "ix_attempts_under_way",
        "attempts",
        ["task_id"],
        sqlite_where=is_under_way,
        postgresql_where=is_under_way,
    )
