"""API keys, what links are signed with, and whose pictures are whose."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_AT_ONCE = 1_000


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
    """Take the prompts out of the requests that are on record, some at a time."""
    connection = op.get_bind()
    operations = sa.table(
        "operations", sa.column("id"), sa.column("request"), sa.column("prompt")
    )
    change = sa.update(operations).where(operations.c.id == sa.bindparam("own"))
    change = change.values(prompt=sa.bindparam("words"))
    requests = (
        sa.select(operations.c.id, operations.c.request)
        .where(
            operations.c.request.is_not(None), operations.c.id > sa.bindparam("after")
        )
        .order_by(operations.c.id)
        .limit(_AT_ONCE)
    )
    after = ""
    while found := connection.execute(requests, {"after": after}).all():
        after = found[-1].id
        prompts = [
            {"own": row.id, "words": words}
            for row in found
            if (words := _prompt_in(row.request)) is not None
        ]
        if prompts:
            connection.execute(change, prompts)


def _prompt_in(request: str) -> str | None:
    """Read a prompt, without what no database takes as text."""
    prompt = json.loads(request).get("prompt")
    if not isinstance(prompt, str):
        return None
    return prompt.encode("utf-8", "replace").decode().replace("\0", "?")
