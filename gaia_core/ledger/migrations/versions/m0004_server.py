"""API keys, what links are signed with, and whose pictures are whose."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make room for keys, and for finding pictures by owner and by prompt."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_table(
        "server_secrets",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.add_column("operations", sa.Column("prompt", sa.Text))
    op.create_index(
        "ix_operations_principal", "operations", ["principal", "created_at"]
    )
    op.create_index("ix_images_sha256", "images", ["sha256"])
    _copy_prompts()


def _copy_prompts() -> None:
    """Take the prompts out of the requests that are on record."""
    connection = op.get_bind()
    operations = sa.table(
        "operations", sa.column("id"), sa.column("request"), sa.column("prompt")
    )
    requests = sa.select(operations.c.id, operations.c.request).where(
        operations.c.request.is_not(None)
    )
    found = [
        {"own": row.id, "words": json.loads(row.request).get("prompt")}
        for row in connection.execute(requests)
    ]
    prompts = [one for one in found if one["words"] is not None]
    if prompts:
        change = sa.update(operations).where(operations.c.id == sa.bindparam("own"))
        connection.execute(change.values(prompt=sa.bindparam("words")), prompts)
