"""Runs the migrations on the app's own engine, each in one transaction, and never two at a time."""

from alembic import context
from flask import current_app

import models  # noqa: F401 - fills the metadata
from services.migrating import migration_lock, whole_migrations


def run() -> None:
    """Upgrade or downgrade, as the command says."""
    db = current_app.extensions["migrate"].db
    folder = current_app.extensions["gateway"].config.instance_path
    with migration_lock(db.engine, folder), whole_migrations(db.engine) as connection:
        context.configure(
            connection=connection,
            target_metadata=db.metadata,
            render_as_batch=True,
            transaction_per_migration=True,
            transactional_ddl=True,
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()


run()
