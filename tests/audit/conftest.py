"""What the tests of the audit log and the admin API share."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEntry
from tests.callers import bearer
from tests.conftest import PASSWORD


def signed_in(app, name="admin", password=PASSWORD):
    """The headers of somebody who has signed in."""
    answer = app.test_client().post("/login", json={"username": name, "password": password})
    return bearer(answer.json["access_token"])


def engine(app):
    return app.extensions["gateway"].engine


def noted(app, **wanted):
    """The entries of the audit log that are like this, oldest first."""
    with Session(engine(app)) as session:
        return session.scalars(select(AuditEntry).filter_by(**wanted).order_by(AuditEntry.id)).all()


@pytest.fixture
def admin(app):
    return signed_in(app)
