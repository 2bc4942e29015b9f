"""
The tables of the ledger, the same on SQLite and PostgreSQL.

Amounts are whole micro-dollars, moments are microseconds since 1970 in UTC, and
``day`` is the UTC date (``2026-11-22``) an operation was taken on: its money counts
in that day and month, whenever it is settled.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

operations = Table(
    "operations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("capability", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("principal", Text, nullable=False, default=""),
    Column("user_id", Text),
    Column("campaign_id", Text),
    Column("day", String(10), nullable=False),
    Column("request", Text),
    Column("prompt", Text),  # of the request, once more: people look for it
    Column("fingerprint", String(64), nullable=False, default=""),
    Column("key", Text),
    Column("route", Text),
    Column("result_key", String(64)),
    Column("batch_id", String(32)),
    Column("position", Integer),
    Column("reserved", BigInteger, nullable=False, default=0),
    Column("cost", BigInteger),
    Column("images", Integer, nullable=False, default=0),
    Column("provider", Text),
    Column("model", Text),
    Column("answer", Text),
    Column("error_type", Text),
    Column("error", Text),
    # Whose it is while it has not ended, and the number of the lease: every
    # update asks for both, so that a process that was given up cannot write.
    Column("owner", String(32)),
    Column("fence", Integer, nullable=False, default=0),
    Column("leases", Integer, nullable=False, default=0),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
)
_open = operations.c.finished_at.is_(None)
_in_batch = operations.c.batch_id.is_not(None)
_is_unknown = operations.c.state == "unknown"
_is_queued = operations.c.state == "queued"
Index("ix_operations_created", operations.c.created_at)
Index("ix_operations_principal", operations.c.principal, operations.c.created_at)
Index(
    "ix_operations_open",
    operations.c.owner,
    sqlite_where=_open,
    postgresql_where=_open,
)
Index(
    "ix_operations_batch",
    *(operations.c.batch_id, operations.c.position),
    sqlite_where=_in_batch,
    postgresql_where=_in_batch,
)
Index(
    "ix_operations_queued",
    *(operations.c.batch_id, operations.c.position),
    sqlite_where=_is_queued,
    postgresql_where=_is_queued,
)
Index(
    "ix_operations_unknown",
    operations.c.created_at,
    sqlite_where=_is_unknown,
    postgresql_where=_is_unknown,
)

attempts = Table(
    "attempts",
    metadata,
    Column("operation_id", String(32), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("task_id", String(36), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("price", BigInteger),  # what the catalogue said when it was sent
    Column("cost", BigInteger),
    Column("duration_ms", Float, nullable=False, default=0.0),
    Column("error", Text),
    Column("sent_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    # What its provider can look it up by, beside the task id.
    Column("reference", Text),
)
_is_under_way = attempts.c.ended_at.is_(None)
Index(
    "ix_attempts_under_way",
    attempts.c.task_id,
    sqlite_where=_is_under_way,
    postgresql_where=_is_under_way,
)

images = Table(
    "images",  # a picture may be the answer to several operations
    metadata,
    Column("operation_id", String(32), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("id", String(32), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("media_type", String(16), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
)
Index("ix_images_id", images.c.id)
Index("ix_images_sha256", images.c.sha256)

keys = Table(
    "keys",
    metadata,
    Column("principal", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("operation_id", String(32)),
    Column("batch_id", String(32)),
    Column("fingerprint", String(64), nullable=False),
    Column("is_final", Boolean, nullable=False, default=True),
    Column("created_at", BigInteger, nullable=False),
)
Index("ix_keys_operation", keys.c.operation_id)

results = Table(
    "results",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("operation_id", String(32), nullable=False),
    Column("used_at", BigInteger, nullable=False),
)
Index("ix_results_used", results.c.used_at)

entries = Table(
    "entries",  # append-only: nothing here is ever changed
    metadata,
    Column(
        "id",
        # SQLite counts by itself only in a column of exactly this type.
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
    ),
    Column("operation_id", String(32), nullable=False),
    Column("kind", String(16), nullable=False),  # reserve, settle, release, expire
    Column("reserved", BigInteger, nullable=False),  # by how much it changes
    Column("spent", BigInteger, nullable=False),
    Column("user_id", Text),
    Column("campaign_id", Text),
    Column("day", String(10), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
Index("ix_entries_operation", entries.c.operation_id)
# A balance is added up from the entries of one payer when it is first needed.
Index("ix_entries_day", entries.c.day)
_has_user = entries.c.user_id.is_not(None)
Index(
    "ix_entries_user",
    *(entries.c.user_id, entries.c.day),
    sqlite_where=_has_user,
    postgresql_where=_has_user,
)
_has_campaign = entries.c.campaign_id.is_not(None)
Index(
    "ix_entries_campaign",
    *(entries.c.campaign_id, entries.c.day),
    sqlite_where=_has_campaign,
    postgresql_where=_has_campaign,
)

balances = Table(
    "balances",
    metadata,
    Column("scope", Text, primary_key=True),  # total, user:NAME, campaign:NAME
    Column("period", String(10), primary_key=True),  # 2026-11-22, 2026-11, forever
    Column("reserved", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("period", String(10), primary_key=True),
    Column("share", String(16), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False, default=""),
    Column("state", String(16), nullable=False),
    Column("principal", Text, nullable=False, default=""),
    Column("key", Text),
    Column("fingerprint", String(64), nullable=False, default=""),
    Column("total", Integer, nullable=False, default=0),
    Column("done", Integer, nullable=False, default=0),
    Column("failed", Integer, nullable=False, default=0),
    Column("unknown", Integer, nullable=False, default=0),
    Column("cancelled", Integer, nullable=False, default=0),
    Column("cost", BigInteger, nullable=False, default=0),
    Column("last_event", Integer, nullable=False, default=0),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
)
Index("ix_batches_created", batches.c.created_at)

events = Table(
    "events",
    metadata,
    Column("batch_id", String(32), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("operation_id", String(32)),
    Column("position", Integer),
    Column("data", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
_says_unknown = events.c.kind == "unknown"
Index(
    "ix_events_unknown",
    events.c.operation_id,
    sqlite_where=_says_unknown,
    postgresql_where=_says_unknown,
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",  # never the key itself
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
)

server_secrets = Table(
    "server_secrets",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)
