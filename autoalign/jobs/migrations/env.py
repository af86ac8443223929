"""Read by Alembic alone: runs the migrations in the transaction that `database.upgrade` has begun."""

from __future__ import annotations

from alembic import context

from autoalign.jobs.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
