"""`flask providers`: what is said of providers that work, and of every way in which they do not."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session

import config as settings
from models import Provider
from routes import providerwords
from services import checks
from services.checks import Finding
from tests.fakes.certificates import make_certificate
from tests.fakes.gigachat import KEY, GigaChat
from tests.fakes.upstream import Upstream
from tests.helpers import add_model, add_provider, squeezed

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def command(lite: Flask) -> Run:
    """A command within this process: gives exit status and text."""

    def run(*arguments: str) -> tuple[int, str]:
        result = lite.test_cli_runner().invoke(args=list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that answers nobody."""
    listener = socket.create_server(("127.0.0.1", 0))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    listener.close()


@pytest.fixture
def saying() -> Iterator[Callable[[bytes], str]]:
    """Servers that send these bytes to whoever connects; gives their address."""
    listeners = []

    def start(data: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            peer, _address = listener.accept()
            with peer:
                peer.recv(65_536)
                peer.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

    yield start
    for listener in listeners:
        listener.close()


def configure(app: Flask, number: int, **values: Any) -> None:
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        row = session.get_one(Provider, number)
        for name, value in values.items():
            setattr(row, name, value)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_list_has_every_provider_and_no_key(command: Run, lite: Flask, upstream: Upstream) -> None:
    number = add_provider(lite, upstream, "acme", credential="sk-hidden-1234567890")
    add_model(lite, number, "fast")
    configure(lite, add_provider(lite, upstream, "off"), is_enabled=False)
    status, text = command("providers", "list")
    assert status == 0
    lines = squeezed(text)
    assert f"acme  openai  {upstream.base_url}  enabled  yes  admin  1" in lines
    assert any(line.startswith(f"off  openai  {upstream.base_url}  disabled  ") for line in lines)
    assert any(line.startswith("echo  echo  echo:  enabled  no  environment  ") for line in lines)
    assert "sk-hidden" not in text


def test_what_works_is_said_with_its_models(command: Run, lite: Flask, upstream: Upstream) -> None:
    upstream.models = ["a", "b", "c", "d"]
    add_provider(lite, upstream, "acme")
    assert command("providers", "check", "acme") == (0, "acme  ok  It works and lists 4 models, such as a, b, c ….\n")


def test_all_that_are_enabled_are_asked_and_one_that_fails_fails_the_command(
    command: Run, lite: Flask, upstream: Upstream
) -> None:
    add_provider(lite, upstream, "acme")
    configure(lite, add_provider(lite, upstream, "off"), is_enabled=False)
    add_provider(lite, f"http://127.0.0.1:{closed_port()}/v1", "away")
    status, text = command("providers", "check")
    assert status == 1
    assert [line.split("  ")[:2] for line in text.splitlines()] == [["acme", "ok"], ["away", "FAILED"], ["echo", "ok"]]


def test_a_name_that_is_none(command: Run) -> None:
    assert command("providers", "check", "nobody") == (settings.EXIT_BAD_CONFIG, "There is no provider `nobody`.\n")


def test_without_any_provider(command: Run, lite: Flask) -> None:
    with Session(lite.extensions["gateway"].engine) as session, session.begin():
        session.query(Provider).update({"is_enabled": False})
    assert command("providers", "check") == (settings.EXIT_BAD_CONFIG, "No provider is enabled.\n")


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({"status": 401}, "It refuses the key (401): status 401"),
        ({"status": 403, "body": '{"message": "no sk-upstream-secret here"}'}, "It refuses the key (403): no *** here"),
        ({"status": 402, "body": ""}, "It takes the key, and the account has no credit (402): -"),
        ({"status": 404}, "It answers, but not at /models (404). Is the base URL complete? Many end in /v1."),
        ({"status": 429}, "It takes no more calls at the moment (429): status 429"),
        ({"status": 500}, "It fails by itself (500): status 500"),
        ({"status": 418}, "It answers with an error (418): status 418"),
        ({"status": 302}, "It answers with a redirect (302), which is not followed. Enter the address it leads to."),
        ({"body": "<html>Welcome</html>"}, "not as this API would: the upstream did not answer with JSON."),
        ({"body": '{"data": 7}'}, "not as this API would: the upstream's model list is not one."),
        ({"body": '{"data": []}'}, "It works, and lists no models."),
    ],
    ids=lambda value: str(value)[:40],
)
def test_every_answer_has_its_words(
    command: Run, lite: Flask, upstream: Upstream, plan: dict[str, Any], expected: str
) -> None:
    add_provider(lite, upstream, "acme")
    upstream.will(**plan)
    status, text = command("providers", "check", "acme")
    assert expected in text
    assert status == (0 if "works" in expected else 1)


def test_a_host_that_nobody_knows(command: Run, lite: Flask) -> None:
    add_provider(lite, "http://no-such-host.invalid/v1", "acme")
    assert "The host no-such-host.invalid is not known." in command("providers", "check", "acme")[1]


def test_a_port_where_nobody_listens(command: Run, lite: Flask) -> None:
    port = closed_port()
    add_provider(lite, f"http://127.0.0.1:{port}/v1", "acme")
    expected = f"Nobody answers at 127.0.0.1:{port} (Connection refused)."
    assert expected in command("providers", "check", "acme")[1]


def test_an_address_that_is_not_called(command: Run, lite: Flask) -> None:
    add_provider(lite, "http://169.254.169.254/v1", "acme")
    text = command("providers", "check", "acme")[1]
    assert "This address is not called: `169.254.169.254` is a link-local, metadata or reserved address." in text


def test_a_server_that_says_nothing(command: Run, lite: Flask, silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PATIENCE", checks.Patience(1.0, 0.1, 1.0))
    add_provider(lite, silent, "acme")
    assert "It was reached and did not answer in time" in command("providers", "check", "acme")[1]


def test_something_that_is_no_web_server(command: Run, lite: Flask, saying: Callable[[bytes], str]) -> None:
    add_provider(lite, saying(b"SSH-2.0-OpenSSH_9.6\r\n"), "acme")
    assert "Something answers, but not as this API would" in command("providers", "check", "acme")[1]


def test_plain_http_where_tls_is_wanted(command: Run, lite: Flask, saying: Callable[[bytes], str]) -> None:
    add_provider(lite, saying(b"HTTP/1.1 400 Bad Request\r\n\r\n").replace("http:", "https:"), "acme")
    assert "Does it speak plain http there?" in command("providers", "check", "acme")[1]


def test_a_certificate_that_nobody_vouches_for_and_the_file_that_helps(
    command: Run, lite: Flask, tmp_path: Any
) -> None:
    certificate = make_certificate(tmp_path)
    server = GigaChat(certificate).start()
    try:
        number = add_provider(lite, f"{server.url}/api/v1", "giga", kind="gigachat", credential=KEY)
        configure(lite, number, settings=server.settings)
        assert "No secure connection to 127.0.0.1: self" in command("providers", "check", "giga")[1]
        configure(lite, number, settings={**server.settings, "ca_file": "/no/such/file"})
        assert "The CA file /no/such/file cannot be read" in command("providers", "check", "giga")[1]
        configure(lite, number, settings={**server.settings, "ca_file": str(certificate)})
        status, text = command("providers", "check", "giga")
        assert (status, text) == (0, "giga  ok  It works and lists 2 models, such as GigaChat-2, Em.\n")
        server.exchange_status = 401
        configure(lite, number, credential=lite.extensions["gateway"].sealer.seal("b3RoZXI="))
        text = command("providers", "check", "giga")[1]
        assert "It gives no token for the key (401): credentials doesn't match db data" in text
    finally:
        server.stop()


def test_azure_lists_no_deployments(command: Run, lite: Flask, upstream: Upstream) -> None:
    add_provider(lite, upstream, "az", kind="azure")
    upstream.will(body='{"data": [{"id": "gpt-4o"}]}')
    assert "What it lists is not what can be called" in command("providers", "check", "az")[1]
    assert upstream.served[-1].path == "/openai/models?api-version=2024-10-21"


def test_a_vendor_without_a_list_is_only_reached(command: Run, lite: Flask, upstream: Upstream) -> None:
    number = add_provider(lite, upstream, "pp")
    configure(lite, number, settings={"vendor": "perplexity"})
    upstream.will(status=404)
    status, text = command("providers", "check", "pp")
    assert (status, "It can be reached." in text) == (0, True)
    assert "authorization" not in upstream.served[-1].headers


def test_a_kind_that_is_not_known_and_a_key_that_cannot_be_opened(
    command: Run, lite: Flask, upstream: Upstream
) -> None:
    configure(lite, add_provider(lite, upstream, "odd"), kind="fax")
    assert "Its kind is not known" in command("providers", "check", "odd")[1]
    configure(lite, add_provider(lite, upstream, "shut"), credential=b"broken")
    assert "sealed with an encryption key that is no longer known" in command("providers", "check", "shut")[1]


def test_every_finding_has_words_and_every_sentence_its_finding() -> None:
    codes = {*checks.GOOD, *checks.BY_STATUS.values(), *(code for _pattern, code in checks.TEXTS)}
    codes |= {"kind", "sealed", "ca_file", "failing", "status", "silent", "no_api"}
    assert codes == providerwords.SENTENCES.keys()
    assert not Finding("key").is_good
