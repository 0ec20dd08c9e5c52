"""The number that tells workers to read the catalogue again: raised by whoever changes it, and in nobody's way."""

import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

NEW = "INSERT INTO providers (name, kind, base_url, settings, managed_by, discover, is_enabled, created_at, updated_at)"
VALUES = "VALUES (:name, 'openai', 'http://127.0.0.1:1', '{}', 'admin', false, true, 0, 0)"


@pytest.fixture
def version(ask):
    """What it is raised by since the last time it was asked for."""
    last = 0

    def raised():
        nonlocal last
        before, last = last, ask("SELECT version FROM catalog_version")[0][0]
        return last - before

    raised()
    return raised


def add(connection, name):
    connection.execute(text(f"{NEW} {VALUES}"), {"name": name})


def test_every_transaction_raises_it_and_one_that_is_undone_does_not(engine, version):
    with engine.connect() as connection:
        for name in ("one", "two"):  # the second must not be taken for a part of the first
            add(connection, name)
            connection.execute(text("UPDATE providers SET kind = 'azure'"))
            connection.commit()
            assert version() >= 1
        add(connection, "three")
        connection.rollback()
        assert version() == 0
        connection.execute(text("UPDATE users SET spent_nanousd = spent_nanousd + 1"))
        connection.commit()
        assert version() == 0, "calls change this all the time"


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_many_rows_of_one_transaction_raise_it_once(engine, version):
    with engine.begin() as connection:
        for number in range(50):
            add(connection, f"p{number}")
        connection.execute(text("UPDATE providers SET kind = 'azure'"))
    assert version() == 1


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_two_who_take_the_same_name_do_not_wait_for_each_other_for_ever(engine):
    """The first one has changed something else before, the second one has the name and changes more after it."""
    outcome = []
    with engine.connect() as first, engine.connect() as second:
        first.execute(text("UPDATE providers SET kind = 'openai' WHERE id < 0"))
        add(second, "wanted")

        def take():
            try:
                add(first, "wanted")
            except IntegrityError as exc:
                outcome.append(type(exc.orig).__name__)

        waiting = threading.Thread(target=take)
        waiting.start()
        second.execute(text("UPDATE providers SET kind = 'azure' WHERE name = 'wanted'"))
        second.commit()
        waiting.join(30)
    assert outcome == ["UniqueViolation"]
