"""Alerts reach their targets, signed and at least once, whatever a target or a worker does."""

import base64
import hashlib
import hmac
import threading
import time
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from models import AuditEntry
from models_alerts import AlertDelivery, AlertTarget
from services import alertpost, alerts, alerttargets
from services.addresses import AddressRules
from services.alertpost import PAUSES_S, AlertPost, pause_s
from tests.admin.conftest import rows_of
from tests.alerts.conftest import BY, change_target, deliveries, make_due
from tests.fakes.receiver import HANG, RESET, answer
from utils import clock


def verified(got, secret):
    """Whether a receiver that follows Standard Webhooks takes it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    is_now = abs(int(got.headers["webhook-timestamp"]) - got.at_s) < 5
    return is_now and wanted in got.headers["webhook-signature"].split(" ")


def test_an_alert_reaches_every_target_that_wants_it_signed(app, receiver, add_target, alerting, noticed):
    here = app.extensions["gateway"]
    _number, secret = add_target()
    add_target("keys only", events=["key.expiring"])
    add_target("off", is_enabled=False)
    assert alerts.tell(here.engine, noticed) is not None
    assert alerting.post.send_all() == 1
    (got,) = receiver.got
    assert verified(got, secret)
    assert not verified(got, alerttargets.new_secret())
    assert got.headers["content-type"] == "application/json"
    assert got.told["type"] == "provider.down"
    assert got.told["id"] == got.headers["webhook-id"]
    assert got.told["text"] == "provider acme fails (fast): it cannot be reached"
    assert got.told["data"] == dict(noticed.facts)
    assert [(row.state, row.attempts, row.status) for row in deliveries(app)] == [("sent", 1, 204)]
    assert alerting.post.send_all() == 0


FAULTS = [
    pytest.param((HANG, None, "no answer within", "answer at once"), id="it hangs"),
    pytest.param((RESET, None, "did not take it", "check the address"), id="it resets the connection"),
    pytest.param((answer(500, "oh no" * 100), 500, "the receiver failed", "oh no"), id="500"),
    pytest.param((answer(302, location="https://elsewhere.test/secret"), 302, "redirects are not followed",
        "leads on to elsewhere.test,"), id="it redirects"),
    pytest.param((answer(401), 401, "the answer was 401", "check the secret"), id="401"),
    pytest.param((answer(404), 404, "the answer was 404", "check its path"), id="404"),
    pytest.param((b"nonsense\r\n\r\n", None, "did not take it", "check the address"), id="no HTTP"),
]  # fmt: skip


@pytest.mark.parametrize("given", FAULTS)
def test_a_fault_says_what_to_mend_and_loses_nothing(app, receiver, add_target, alerting, noticed, given):
    fault, status, why, fix = given
    add_target()
    receiver.faults = [fault]
    alerts.tell(app.extensions["gateway"].engine, noticed)
    before = clock.now()
    assert alerting.post.send_all() == 1
    (row,) = deliveries(app)
    assert (row.state, row.attempts, row.status) == ("waiting", 1, status)
    assert why in row.error
    assert fix in row.error
    assert "s3cret" not in row.error
    assert len(row.error) <= 500
    assert timedelta(seconds=3) < row.next_at - before < timedelta(seconds=10)
    assert alerting.post.send_all() == 0, "it is not due yet"
    make_due(app)
    assert alerting.post.send_all() == 1
    (row,) = deliveries(app)
    assert (row.state, row.attempts, row.status, row.error) == ("sent", 2, 204, None)
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 1
    assert len({got.body for got in receiver.got}) == 1


def test_attempts_go_on_for_about_a_day_and_then_it_has_failed_until_it_is_sent_again(
    app, receiver, add_target, alerting, noticed
):
    add_target()
    engine = app.extensions["gateway"].engine
    tries = len(PAUSES_S) + 1
    receiver.faults = [answer(503)] * tries
    alerts.tell(engine, noticed)
    for _ in range(tries):
        make_due(app)
        assert alerting.post.send_all() == 1
    (row,) = deliveries(app)
    assert (row.state, row.attempts) == ("failed", tries)
    make_due(app)
    assert alerting.post.send_all() == 0
    with Session(engine) as session, session.begin():
        alerttargets.again(session, BY, session.get_one(AlertDelivery, row.id))
    assert alerting.post.send_all() == 1
    assert deliveries(app)[0].state == "sent"
    assert "alert_send_again" in {entry.action for entry in rows_of(app, AuditEntry)}


def test_pauses_grow_and_differ():
    assert 0.9 * 86_400 < sum(PAUSES_S) < 86_400
    assert list(PAUSES_S) == sorted(PAUSES_S)
    for attempts, wanted in enumerate(PAUSES_S, 1):
        drawn = {pause_s(attempts) for _ in range(20)}
        assert len(drawn) > 1
        assert all(wanted * 0.8 <= one <= wanted * 1.2 for one in drawn)


def test_a_target_that_hangs_keeps_nobody_else_waiting(app, receiver, add_target, alerting, noticed, monkeypatch):
    monkeypatch.setattr(alertpost, "ANSWER_S", 20.0)
    receiver.faults = [HANG]
    add_target("first")
    engine = app.extensions["gateway"].engine
    alerts.tell(engine, noticed)
    alerting.post.send_due()
    receiver.wait_for(1)
    add_target("second")
    alerts.tell(engine, alerts.Noticed("key.expiring", "key 1", "1", {"name": "a", "user": "b", "expires_at": "c"}))
    alerting.post.send_due()
    assert {told["type"] for told in receiver.wait_for(2, within_s=5)} == {"provider.down", "key.expiring"}
    receiver.stop()  # which ends what hangs
    end_s = time.monotonic() + 60
    while alerting.post._busy and time.monotonic() < end_s:
        time.sleep(0.02)
    assert not alerting.post._busy, "it has noted what became of it"


def test_workers_that_race_send_once(app, receiver, add_target, noticed):
    here = app.extensions["gateway"]
    for number in range(5):
        add_target(f"hook {number}")
    alerts.tell(here.engine, noticed)
    rules = AddressRules(allow_private=True)
    workers = [AlertPost(here.engine, here.sealer, rules, here.alerts.post.server) for _ in range(4)]
    start, counts = threading.Barrier(len(workers)), []

    def work(post: AlertPost) -> None:
        start.wait()
        counts.append(post.send_all())

    threads = [threading.Thread(target=work, args=(post,)) for post in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == len(receiver.got) == 5
    assert {row.state for row in deliveries(app)} == {"sent"}
    assert {row.attempts for row in deliveries(app)} == {1}


def test_what_a_dead_worker_had_claimed_is_sent_by_another(app, receiver, add_target, alerting, noticed, monkeypatch):
    class Died(BaseException):
        """The worker ends here."""

    def die(*_given):
        raise Died

    add_target()
    alerts.tell(app.extensions["gateway"].engine, noticed)
    monkeypatch.setattr(AlertPost, "_attempt", die)
    with pytest.raises(Died):
        alerting.post.send_all()
    monkeypatch.undo()
    assert alerting.post.send_all() == 0, "for a while it may still be under way"
    make_due(app)
    assert alerting.post.send_all() == 1
    assert len(receiver.got) == 1
    assert deliveries(app)[0].state == "sent"


def test_both_secrets_sign_for_a_day_after_a_change(app, receiver, add_target, alerting, noticed):
    here = app.extensions["gateway"]
    number, former = add_target()
    with Session(here.engine) as session, session.begin():
        fresh = alerttargets.rotate(session, here.sealer, BY, session.get_one(AlertTarget, number))
    alerts.tell(here.engine, noticed)
    alerting.post.send_all()
    assert verified(receiver.got[0], former)
    assert verified(receiver.got[0], fresh)
    change_target(app, number, former_until_at=clock.now() - timedelta(seconds=1))
    alerts.tell(here.engine, alerts.Noticed("provider.down", "account 2", "after 0", noticed.facts))
    alerting.post.send_all()
    assert not verified(receiver.got[1], former)
    assert verified(receiver.got[1], fresh)
    alerttargets.forget_former(here.engine)
    (row,) = rows_of(app, AlertTarget)
    assert (row.former_secret, row.former_until_at) == (None, None)


def test_a_private_address_is_refused_where_providers_may_not_be_private(app, receiver, add_target, noticed):
    here = app.extensions["gateway"]
    add_target()
    alerts.tell(here.engine, noticed)
    strict = AlertPost(here.engine, here.sealer, AddressRules(allow_private=False), here.alerts.post.server)
    assert strict.send_all() == 1
    assert receiver.got == []
    assert "add its network to ALLOW_PRIVATE_UPSTREAMS" in deliveries(app)[0].error


def test_a_test_is_tried_once_and_says_what_came_of_it(app, receiver, add_target, alerting):
    number, secret = add_target(is_enabled=False)
    assert alerting.post.test(number, "ana") == alertpost.Outcome(status=204)
    assert verified(receiver.got[0], secret)
    assert receiver.got[0].told["type"] == "test"
    receiver.faults = [answer(500)]
    outcome = alerting.post.test(number, "ana")
    assert outcome.status == 500
    assert [row.state for row in deliveries(app)] == ["sent", "failed"]


ADDRESSES = [
    pytest.param("webhook", "ftp://x.test/", id="no http"),
    pytest.param("webhook", "https://ana:pw@x.test/", id="user name"),
    pytest.param("webhook", "http://169.254.169.254/latest", id="metadata"),
    pytest.param("webhook", "https://x.test/#part", id="fragment"),
    pytest.param("webhook", "nothing", id="no address"),
    pytest.param("email", "ana", id="no @"),
    pytest.param("email", "ana@x.test\nBcc: eve@x.test", id="line break"),
    pytest.param("email", "", id="empty"),
    pytest.param("email", ",".join(f"a{n}@x.test" for n in range(21)), id="too many"),
]


@pytest.mark.parametrize(("kind", "address"), ADDRESSES)
def test_an_address_that_cannot_be_is_refused(kind, address):
    from services.errors import InvalidRequest

    with pytest.raises(InvalidRequest) as caught:
        alerttargets.checked(kind, address)
    assert caught.value.param == "address"
