"""One module a step, read by alembic."""
