"""Alembic runs inside the catalog's own transaction (``Catalog.migrate``): all of a migration happens, or nothing."""

from __future__ import annotations

from alembic import context

from palimpsest.catalog.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_as_batch=True,
    version_table="catalog_version",
)
context.run_migrations()
