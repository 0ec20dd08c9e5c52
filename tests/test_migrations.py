"""Migrations go up, down and up again with rows in the tables, and end at the tables of models.py."""

import flask_migrate
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

import config as settings
from services import budgets
from services.audit import Actor
from tests.conftest import prepare
from tests.helpers import AUTH, assert_books_agree, chat
from utils.extensions import Base, db

SCHEMA = {
    "sqlite": "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2",
    "postgresql": """
        SELECT 'column', table_name || '.' || column_name,
               data_type || ' ' || is_nullable || coalesce(column_default, '')
        FROM information_schema.columns WHERE table_schema = 'public'
        UNION SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
        UNION SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION SELECT 'trigger', tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION SELECT 'function', proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        ORDER BY 1, 2""",
}


@pytest.fixture
def engine(app):
    """A migrated database with a row in most tables."""
    here = app.extensions["gateway"]
    budgets.put(here.engine, Actor("t"), scope="user", owner="api-tokens", unit="tokens", limit="99", period="day")
    client = app.test_client()
    assert client.post("/v1/chat/completions", json=chat(model="echo"), headers=AUTH).status_code == 200
    assert client.post("/register", json={"username": "ana", "password": "correct horse"}).status_code == 201
    with app.app_context():
        yield here.engine


def schema(engine):
    """Everything the database knows of its tables."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(SCHEMA[engine.dialect.name]))]


def counts(engine):
    """Rows by table, but those of the triggers' own bookkeeping."""
    names = set(inspect(engine).get_table_names()) - {"alembic_version", "catalog_version"}
    with engine.connect() as connection:
        return {name: connection.execute(text(f'SELECT COUNT(*) FROM "{name}"')).scalar_one() for name in names}


def is_of_models(name, kind, parents):
    """SQLite's index of words is made of tables, Postgres' of an expression, which no model knows."""
    return not (kind in ("table", "index") and str(name).startswith(("message_texts", "ix_messages_content")))


def differences(engine, metadata):
    """What the tables in the database and those of the models do not have in common."""
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_name": is_of_models}
        found = list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))
    seen = inspect(engine)
    for table in metadata.tables.values():
        wanted = {str(check.name) for check in table.constraints if isinstance(check, sa.CheckConstraint)}
        if seen.has_table(table.name):
            present = {check["name"] for check in seen.get_check_constraints(table.name)}
            found += [("check", table.name, name) for name in sorted(wanted ^ present)]
    return found


def test_the_migrated_tables_are_those_of_the_models(engine):
    assert differences(engine, Base.metadata) == []


def test_a_model_that_went_ahead_of_its_migration_is_seen(engine):
    ahead = sa.MetaData(naming_convention=Base.metadata.naming_convention)
    for table in Base.metadata.tables.values():
        table.to_metadata(ahead)
    ahead.tables["users"].append_column(sa.Column("nickname", sa.String(20)))
    ahead.tables["users"].append_constraint(sa.CheckConstraint("id > 0", name="counted"))
    sa.Table("pets", ahead, sa.Column("id", sa.Integer, primary_key=True))
    found = differences(engine, ahead)
    assert {(difference[0], str(difference[-1])) for difference in found} == {
        ("add_table", "pets"),
        ("add_column", "users.nickname"),
        ("check", "ck_users_counted"),
    }


def test_every_step_goes_down_and_up_again_with_rows_in_the_tables(app, engine):
    newest, filled = schema(engine), counts(engine)
    before = newest
    assert {"users", "api_keys", "usage", "ledger_entries", "audit_log", "budget_windows"} <= {
        name for name, rows in filled.items() if rows
    }
    steps = list(ScriptDirectory(str(settings.ROOT / "migrations")).walk_revisions())
    for step in steps:
        flask_migrate.downgrade(revision=step.down_revision or "base")
        left = counts(engine)
        assert {name: filled[name] for name in left.keys() & filled.keys()} == left, f"{step.revision} lost rows"
        if step.down_revision:
            flask_migrate.upgrade(revision=step.revision)
            assert schema(engine) == before, step.revision
            flask_migrate.downgrade(revision=step.down_revision)
            before = schema(engine)
    assert [entry for entry in schema(engine) if not entry[1].startswith("alembic_version")] == []

    flask_migrate.upgrade()
    assert schema(engine) == newest
    prepare(app)
    app.extensions["gateway"].catalog.refresh()
    assert app.test_client().post("/v1/chat/completions", json=chat(model="echo"), headers=AUTH).status_code == 200
    assert_books_agree(engine)


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(engine):
    before = schema(engine), counts(engine)
    flask_migrate.upgrade()
    assert (schema(engine), counts(engine)) == before
    assert db.engine is engine
