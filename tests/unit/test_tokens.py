"""Tokens that end: fetched once for all, ahead of time, and again when a provider does not take one any more."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from services import tokens as under_test
from services.addresses import AddressRules
from services.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from services.exchange import Patience
from services.providers import WIRES
from services.providers.base import UpstreamRequest
from services.tokens import Tokens
from services.transport import Transport
from services.types import Upstream
from tests.fakes.certificates import make_certificate
from tests.fakes.gigachat import KEY, GigaChat
from utils import clock

WIRE = WIRES["gigachat"]
REQUEST = UpstreamRequest("GET", "/models", (), b"")


@pytest.fixture
def fake() -> Iterator[GigaChat]:
    server = GigaChat().start()
    yield server
    server.stop()


@pytest.fixture
def transport() -> Iterator[Transport]:
    made = Transport(AddressRules(allow_private=True), Patience(2.0, 5.0, 10.0), {})
    yield made
    made.close()


@pytest.fixture
def tokens(transport: Transport) -> Tokens:
    return Tokens(transport)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let so many milliseconds pass."""
    passed = 0
    now_ms = clock.now_ms

    def forward(ms: int) -> None:
        nonlocal passed
        passed += ms

    monkeypatch.setattr(under_test.clock, "now_ms", lambda: now_ms() + passed)
    return forward


def provider(fake: GigaChat, **settings: Any) -> Upstream:
    return Upstream(1, "giga", "gigachat", f"{fake.url}/api/v1", KEY, {**fake.settings, **settings})


def ask(tokens: Tokens, upstream: Upstream) -> int:
    answer = tokens.open(WIRE, upstream, REQUEST, lambda _opened: None)
    try:
        answer.read(10_000)
        return answer.status
    finally:
        answer.close()


def at_once(count: int, work: Callable[[], Any]) -> list[Any]:
    """The results of so many threads that begin together; an error is a result."""
    barrier = threading.Barrier(count)

    def run(_number: int) -> Any:
        barrier.wait()
        try:
            return work()
        except UpstreamError as exc:
            return exc

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_the_key_goes_to_the_token_service_and_the_token_to_the_api(fake: GigaChat, tokens: Tokens) -> None:
    assert ask(tokens, provider(fake, scope="GIGACHAT_API_CORP")) == 200
    exchange = fake.exchanges[0]
    assert exchange["form"] == {"scope": ["GIGACHAT_API_CORP"]}
    assert exchange["headers"]["authorization"] == f"Basic {KEY}"
    assert len(exchange["headers"]["rquid"]) == 36
    assert fake.asked[0][1]["authorization"].startswith("Bearer eyJ-token-0001")
    assert KEY not in repr(fake.asked)


def test_a_token_is_used_until_it_must_be_renewed(fake: GigaChat, tokens: Tokens, at: Callable[[int], None]) -> None:
    upstream = provider(fake)
    for passed, exchanges in ((0, 1), (1_700_000, 1), (60_000, 2), (10_000, 2)):
        at(passed)
        assert ask(tokens, upstream) == 200
        assert len(fake.exchanges) == exchanges


def test_of_many_that_need_the_first_token_one_asks(fake: GigaChat, tokens: Tokens) -> None:
    fake.exchange_s = 0.1
    upstream = provider(fake)
    assert at_once(16, lambda: ask(tokens, upstream)) == [200] * 16
    assert (len(fake.exchanges), fake.most_under_way) == (1, 1)


def test_while_one_renews_it_the_others_go_on_with_the_old_one(
    fake: GigaChat, tokens: Tokens, at: Callable[[int], None]
) -> None:
    upstream = provider(fake)
    first = tokens.credential(WIRE, upstream)
    at(1_760_000)
    fake.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(tokens.credential, WIRE, upstream)
        while fake.under_way == 0:
            threading.Event().wait(0.01)
        assert at_once(16, lambda: tokens.credential(WIRE, upstream)) == [first] * 16
        fake.gate.set()
        assert renewing.result() == tokens.credential(WIRE, upstream) != first
    assert (len(fake.exchanges), fake.most_under_way) == (2, 1)


def test_all_that_wait_share_a_failure(fake: GigaChat, tokens: Tokens) -> None:
    fake.exchange_s, fake.exchange_status = 1.0, 500
    upstream = provider(fake)
    failures = at_once(8, lambda: ask(tokens, upstream))
    assert len(fake.exchanges) == 1
    assert len({id(failure) for failure in failures}) == 8
    for failure in failures:
        assert str(failure) == "the provider `giga` gave no token (500): credentials doesn't match db data ***"
        assert failure.is_retryable
    fake.exchange_status = 200
    assert ask(tokens, upstream) == 200, "the next call asks again"


def test_a_failed_renewal_leaves_the_old_token_in_use(
    fake: GigaChat, tokens: Tokens, at: Callable[[int], None]
) -> None:
    upstream = provider(fake)
    first = tokens.credential(WIRE, upstream)
    at(1_760_000)
    fake.exchange_status = 503
    assert [tokens.credential(WIRE, upstream) for _ in range(3)] == [first] * 3
    assert len(fake.exchanges) == 2, "tried once, and again after a while"
    at(10_000)
    assert tokens.credential(WIRE, upstream) == first
    assert len(fake.exchanges) == 3
    at(30_000)
    with pytest.raises(UpstreamError, match="gave no token"):
        tokens.credential(WIRE, upstream)


def test_a_refused_token_is_replaced_once_for_all_that_had_it(fake: GigaChat, tokens: Tokens) -> None:
    upstream = provider(fake)
    assert ask(tokens, upstream) == 200
    fake.good.clear()
    fake.exchange_s = 0.05
    assert at_once(8, lambda: ask(tokens, upstream)) == [200] * 8
    assert (len(fake.exchanges), fake.most_under_way) == (2, 1)


def test_a_token_refused_while_its_renewal_fails_is_not_used_again(
    fake: GigaChat, tokens: Tokens, at: Callable[[int], None]
) -> None:
    upstream = provider(fake)
    first = tokens.credential(WIRE, upstream)
    at(1_760_000)
    fake.exchange_status = 503
    fake.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(tokens.credential, WIRE, upstream)
        while fake.under_way == 0:
            threading.Event().wait(0.01)
        tokens.forget(upstream, first)
        fake.gate.set()
        renewing.result()
    fake.exchange_status = 200
    assert tokens.credential(WIRE, upstream).startswith("eyJ-token-0003")


def test_a_call_is_tried_once_more_and_not_forever(fake: GigaChat, tokens: Tokens) -> None:
    fake.refuses_all = True
    assert ask(tokens, provider(fake)) == 401
    assert (len(fake.exchanges), len(fake.asked)) == (2, 2)


def test_another_key_gets_another_token(fake: GigaChat, tokens: Tokens) -> None:
    upstream = provider(fake)
    first = tokens.credential(WIRE, upstream)
    assert tokens.credential(WIRE, replace(upstream, credential="b3RoZXI=")) != first
    assert fake.exchanges[1]["headers"]["authorization"] == "Basic b3RoZXI="


def test_a_user_and_password_get_a_token_from_the_api_itself(fake: GigaChat, tokens: Tokens) -> None:
    """Such an installation says the end in seconds."""
    upstream = replace(provider(fake), credential="ana:secret")
    assert ask(tokens, upstream) == 200
    assert fake.exchanges[0]["headers"]["authorization"] == "Basic YW5hOnNlY3JldA=="
    assert ask(tokens, upstream) == 200
    assert len(fake.exchanges) == 1


def test_a_clock_that_is_wrong_does_not_mean_a_token_for_every_call(fake: GigaChat, tokens: Tokens) -> None:
    fake.life_ms = -3_600_000
    upstream = provider(fake)
    assert [ask(tokens, upstream) for _ in range(3)] == [200] * 3
    assert len(fake.exchanges) == 1


def test_nobody_waits_forever(fake: GigaChat, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "WAIT_S", 0.1)
    fake.exchange_s = 0.6
    upstream = provider(fake)
    results = at_once(2, lambda: ask(tokens, upstream))
    assert sorted(map(str, results)) == ["200", "the provider `giga` gave no token within 0.1 s"]
    assert any(isinstance(result, UpstreamTimeout) for result in results)


def test_a_wire_without_tokens_is_asked_with_its_own_credential(fake: GigaChat, tokens: Tokens) -> None:
    upstream = replace(provider(fake), kind="openai")
    assert tokens.credential(WIRES["openai"], upstream) == KEY
    answer = tokens.open(WIRES["openai"], upstream, REQUEST, lambda _opened: None)
    assert answer.status == 401
    answer.close()
    assert (fake.exchanges, "authorization" in fake.asked[0][1]) == ([], False)


def test_both_hosts_may_have_an_authority_of_their_own(tokens: Tokens, tmp_path: Any) -> None:
    certificate = make_certificate(tmp_path)
    server = GigaChat(certificate).start()
    try:
        with pytest.raises(UpstreamUnreachable, match=r"no TLS connection to `127\.0\.0\.1`: self.signed"):
            ask(tokens, provider(server))
        assert ask(tokens, provider(server, ca_file=str(certificate))) == 200
    finally:
        server.stop()
