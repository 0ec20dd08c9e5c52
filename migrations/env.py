"""Runs the migrations on the app's own engine, each in one transaction."""

from alembic import context
from flask import current_app

import models  # noqa: F401 - fills the metadata


def run() -> None:
    """Upgrade or downgrade, as the command says."""
    db = current_app.extensions["migrate"].db
    with db.engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=db.metadata,
            render_as_batch=True,
            transaction_per_migration=True,
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()


run()
