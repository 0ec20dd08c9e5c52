"""Alerts by e-mail, through a real mail server; whatever it does, the reason says what to mend."""

import threading
import time
from email import message_from_string
from email.policy import default

import pytest

from services import mail
from services.mail import MailFailed, Server
from tests.fakes.certificates import make_certificate
from tests.fakes.receiver import MailServer

SENDER = "alerts@example.com"


@pytest.fixture
def mail_server(tmp_path):
    made = []

    def make(*, certificate=False, **faults) -> tuple[MailServer, Server]:
        path = make_certificate(tmp_path) if certificate else None
        server = MailServer(path, **faults)
        made.append(server)
        security = "starttls" if certificate else "none"
        ca_file = str(path) if path else ""
        return server, Server("127.0.0.1", server.port, "", "", security, SENDER, ca_file)

    yield make
    for server in made:
        server.stop()


def test_a_message_arrives_encrypted_and_signed_in(mail_server):
    from dataclasses import replace

    server, here = mail_server(certificate=True)
    known = replace(here, user="gateway", password="pass word")
    mail.send(known, "ana@example.com, bob@example.com", "Olá, budget", "Text of it\n.\nend\n", "alert_1")
    ((to, text),) = server.mails
    assert to == ["ana@example.com", "bob@example.com"]
    found = message_from_string(text, policy=default)
    assert (found["from"], found["subject"]) == (SENDER, "Olá, budget")
    assert found["message-id"] == "<alert_1@example.com>"
    assert found["auto-submitted"] == "auto-generated"
    assert found.get_content().replace("\r\n", "\n").startswith("Text of it\n")
    assert server.said.index("STARTTLS") < next(n for n, line in enumerate(server.said) if line.startswith("AUTH"))


def test_no_header_can_be_put_in(mail_server):
    server, here = mail_server()
    mail.send(here, "ana@example.com", "a\r\nBcc: eve@example.com\n\nmore", "x", "alert_1")
    ((to, text),) = server.mails
    assert to == ["ana@example.com"]
    assert message_from_string(text, policy=default)["bcc"] is None
    with pytest.raises(MailFailed):
        mail.send(here, "ana@example.com\nBcc: eve@example.com", "a", "x", "alert_1")
    assert len(server.mails) == 1


FAULTS = [
    pytest.param("MAIL", "SMTP_FROM as the sender", id="sender"),
    pytest.param("RCPT", "none of the addresses", id="recipients"),
    pytest.param("DATA", "it refused the message (it said 550)", id="message"),
]


@pytest.mark.parametrize(("refuses", "why"), FAULTS)
def test_what_the_server_refuses_says_what_to_mend(mail_server, refuses, why):
    _server, here = mail_server(refuses=refuses)
    with pytest.raises(MailFailed) as caught:
        mail.send(here, "ana@example.com", "a", "x", "alert_1")
    assert why in str(caught.value)
    assert "ana@" not in str(caught.value)


def test_a_wrong_password_a_strange_certificate_and_no_server_say_so(mail_server):
    from dataclasses import replace

    _server, here = mail_server(certificate=True, refuses="AUTH")
    wrong = [
        (replace(here, user="a", password="s3cret"), "SMTP_USER and SMTP_PASSWORD"),
        (replace(here, ca_file=""), "its certificate does not fit"),
        (replace(here, port=1), "check SMTP_HOST and SMTP_PORT"),
        (replace(here, host=""), "set SMTP_HOST"),
        (replace(here, host="169.254.169.254"), "metadata"),
    ]
    for server, why in wrong:
        with pytest.raises(MailFailed) as caught:
            mail.send(server, "ana@example.com", "a", "x", "alert_1")
        assert why in str(caught.value)
        assert "s3cret" not in str(caught.value)


def test_a_server_that_hangs_is_left(mail_server, monkeypatch):
    monkeypatch.setattr(mail, "TIMEOUT_S", 0.3)
    _server, here = mail_server(hangs=True)
    began = time.monotonic()
    with pytest.raises(MailFailed) as caught:
        mail.send(here, "ana@example.com", "a", "x", "alert_1")
    assert time.monotonic() - began < 10
    assert "check" in str(caught.value)
    assert [
        one for one in threading.enumerate() if isinstance(one, threading.Timer) and not one.finished.is_set()
    ] == []
