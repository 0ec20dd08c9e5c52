"""Sending e-mail, by the server of SMTP_HOST. The only code that speaks SMTP; its sockets are of services/transport.py.

The operator named the server, so it may be a private one; metadata addresses stay forbidden. Headers are made by
`email`, which refuses a line break in any of them.
"""

import smtplib
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any, Final

from services.addresses import AddressRules
from services.errors import UpstreamError
from services.settlement import clean
from services.transport import dial
from utils import clock

TIMEOUT_S: Final = 10.0  # of each step
TOTAL_S: Final = 30.0  # of a message in all
RULES: Final = AddressRules(allow_private=True)
FIXES: Final[dict[type[Exception], str]] = {  # the first that fits counts
    smtplib.SMTPAuthenticationError: "it refused SMTP_USER and SMTP_PASSWORD: check both",
    smtplib.SMTPNotSupportedError: "it offers no STARTTLS or no sign-in: see SMTP_SECURITY and SMTP_USER",
    smtplib.SMTPRecipientsRefused: "it takes none of the addresses: check them, and whether it relays for this host",
    smtplib.SMTPSenderRefused: "it does not take SMTP_FROM as the sender: check it",
    smtplib.SMTPResponseException: "it refused the message",
    smtplib.SMTPServerDisconnected: "it hung up: check SMTP_PORT and SMTP_SECURITY",
    ssl.SSLCertVerificationError: "its certificate does not fit: name it as its certificate does in SMTP_HOST",
    ssl.SSLError: "no TLS there: check SMTP_PORT and SMTP_SECURITY",
    TimeoutError: "no answer in time: check SMTP_HOST and SMTP_PORT, and the firewall between",
}


class MailFailed(Exception):
    """It was not sent; says why and what to do, without addresses or secrets."""


@dataclass(frozen=True, slots=True)
class Server:
    """How mail is sent; without a host it is not. `security`: `starttls`, `tls` or `none`."""

    host: str
    port: int
    user: str
    password: str
    security: str
    sender: str
    ca_file: str = ""  # who signs its certificate, if not the public authorities


def send(server: Server, to: str, subject: str, text: str, code: str) -> None:
    """Send a plain message to addresses with commas between them; `code` makes its Message-ID, the same for repeats.

    Raises:
        MailFailed: not sent, or not to all of them.
    """
    if not server.host:
        raise MailFailed("no mail server is set: set SMTP_HOST and SMTP_FROM, and start the gateway again")
    line = _Line(server)
    timer = threading.Timer(TOTAL_S, line.cut)
    timer.daemon = True
    timer.start()
    try:
        refused = line.deliver(_message(server, to, subject, text, code))
    except UpstreamError as exc:
        raise MailFailed(f"{exc}: check SMTP_HOST and SMTP_PORT") from exc
    except (smtplib.SMTPException, OSError, ValueError) as exc:
        raise MailFailed(_why(exc)) from exc
    finally:
        timer.cancel()
        line.cut()
    if refused:
        raise MailFailed(f"the mail server took it, but not for {len(refused)} of the addresses: check them")


class _Line:
    """One conversation with the server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._socket: socket.socket | None = None

    def deliver(self, message: EmailMessage) -> dict[str, Any]:
        """Say it; returns the addresses that were refused."""
        with _client(self._server, self._dialled) as client:
            if self._server.security == "starttls":
                client.starttls(context=ssl.create_default_context(cafile=self._server.ca_file or None))
                self._socket = client.sock
            if self._server.user:
                client.login(self._server.user, self._server.password)
            return client.send_message(message)

    def cut(self) -> None:
        """End it, whoever waits."""
        sock = self._socket
        if sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _dialled(self, host: str, port: int) -> socket.socket:
        is_tls = self._server.security == "tls"
        self._socket = dial(host, port, RULES, is_tls=is_tls, timeout_s=TIMEOUT_S)
        if is_tls:
            self._socket = ssl.create_default_context(cafile=self._server.ca_file or None).wrap_socket(
                self._socket, server_hostname=host
            )
        return self._socket


def _client(server: Server, dialled: Callable[[str, int], socket.socket]) -> smtplib.SMTP:
    """smtplib's, on our socket."""

    class Client(smtplib.SMTP):
        def _get_socket(self, host: str, port: int, timeout: object) -> socket.socket:
            return dialled(host, port)

    return Client(server.host, server.port, timeout=TIMEOUT_S)


def _message(server: Server, to: str, subject: str, text: str, code: str) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    host = server.sender.rpartition("@")[2].strip("<> ") or "tollhouse"
    message["From"], message["To"], message["Subject"] = server.sender, to, clean(subject)
    message["Date"], message["Message-ID"] = format_datetime(clock.now()), f"<{code}@{host}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence notice answers it
    message.set_content(text)
    return message


def _why(exc: Exception) -> str:
    """What went wrong and what to do; what the server said is in it, shortened."""
    fix = next((fix for kind, fix in FIXES.items() if isinstance(exc, kind)), type(exc).__name__)
    said = f" (it said {exc.smtp_code})" if isinstance(exc, smtplib.SMTPResponseException) else ""
    return f"the mail server did not take it: {fix}{said}"
