"""Admins who change each other at the same moment: one of them always remains."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from models import User
from services.audit import Actor
from services.errors import GatewayError
from tests.people import engine, number_of
from tests.races.conftest import crowd


def test_of_two_admins_who_depose_each_other_one_remains(app):
    with Session(engine(app)) as session, session.begin():
        session.add_all([User(username="second", role="admin"), User(username="third", role="admin")])
        session.flush()
        session.execute(update(User).where(User.username == "admin").values(role="user"))
    people = app.extensions["gateway"].people

    def depose(number):
        me, other = ("second", "third") if number else ("third", "second")
        try:
            people.change(Actor(me, number_of(app, me)), other, {"role": "user"})
        except GatewayError as exc:
            return exc.code
        return "done"

    assert sorted(crowd(2, range(2), depose)) == ["done", "last_admin"]
