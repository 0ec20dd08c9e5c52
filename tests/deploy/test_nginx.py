"""deploy/nginx for real: TLS, HTTP/1.1 and HTTP/2, streams, who may do what how often, and what is not believed."""

import json
import subprocess
import time
from itertools import pairwise

import pytest

from tests.conftest import TOKEN
from tests.deploy.edge import NAME
from tests.helpers import rows

SOON_S = 10.0  # at most a second on a machine with time; who is not told hears of it after 25 s, or never
VERSIONS = ("1.1", "2")
PAUSE_S = 0.3
MAX_BODY = 20 * 1024 * 1024
TOO_MANY = (
    '{"error":{"message":"Too many attempts to sign in from this address.","type":"rate_limit_error","param":null,'
    '"code":"too_many_attempts"},"detail":"Too many attempts to sign in from this address."}'
)
BEARER = ("-H", f"authorization: Bearer {TOKEN}", "-H", "content-type: application/json")


@pytest.mark.parametrize("version", VERSIONS)
def test_events_come_one_by_one(site, upstream, version):
    here = site()
    call = here.chat(version, words=6, every_s=PAUSE_S)
    words = call.words()
    pauses = [after.at - before.at for before, after in pairwise(words)]
    assert call.end() == (0, version)
    assert len(words) == 6
    assert min(pauses) > PAUSE_S / 2, pauses
    assert words[-1].at - words[0].at > 5 * PAUSE_S * 0.9
    print(f"HTTP/{version}: pauses of {min(pauses):.3f} to {max(pauses):.3f} s, sent every {PAUSE_S} s")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("plan", [{"words": 500, "every_s": 0.05}, {"words": 500, "mute_after": 4}], ids=str)
def test_a_killed_caller_is_gone_for_the_provider(site, upstream, version, plan):
    here = site()
    call = here.chat(version, **plan)
    assert len(call.words(3)) == 3
    left_at = call.kill()
    seen, end = upstream.wait_for(1)[0], time.monotonic() + SOON_S
    while seen.peer_left_at is None and time.monotonic() < end:
        time.sleep(0.01)
    assert seen.peer_left_at is not None
    assert seen.peer_left_at - left_at < SOON_S
    print(f"HTTP/{version}: seen upstream after {seen.peer_left_at - left_at:.3f} s")
    while not rows(here.engine) and time.monotonic() < end:
        time.sleep(0.02)
    assert rows(here.engine)[0].outcome == "client_gone"


def serial(edge):
    """The number of the certificate that a new connection is shown."""
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.tls_port}", "-servername", NAME],
        input=b"",
        capture_output=True,
        timeout=20,
        check=False,
    ).stdout
    said = subprocess.run(
        ["openssl", "x509", "-noout", "-serial"], input=shown, capture_output=True, timeout=20, check=True
    )
    return int(said.stdout.decode().strip().partition("=")[2], 16)


def test_a_renewed_certificate_is_served_and_no_stream_is_cut(site):
    here = site()
    calls = [here.chat(version, words=50, every_s=0.1) for version in VERSIONS * 5]
    for call in calls:
        assert len(call.words(2)) == 2
    assert serial(here.edge) == 100
    here.edge.authority.issue(here.edge.lineage, 101)
    done = here.edge.hook()
    assert (done.returncode, done.stdout) == (0, f"certbot-hook: nginx serves the new certificate of {NAME}\n")
    end = time.monotonic() + 30
    while serial(here.edge) != 101 and time.monotonic() < end:
        time.sleep(0.05)
    assert serial(here.edge) == 101
    assert [call.process.poll() for call in calls] == [None] * len(calls), "they are still being read"
    assert [len(call.words()) for call in calls] == [48] * len(calls)
    assert [call.end() for call in calls] == [(0, version) for version in VERSIONS * 5]
    assert here.edge.ask()[0] == 200
    print(f"{len(calls)} streams over a renewal, 0 cut")


def test_reloads_cut_no_stream(site):
    """One after the other, so that workers of several generations have streams."""
    here, calls = site(), []
    for _reload in range(3):
        begun = [here.chat(version, words=40, every_s=0.1) for version in VERSIONS * 4]
        for call in begun:
            assert len(call.words(2)) == 2
        calls += begun
        here.edge.reload()
    assert [call.process.poll() for call in calls] == [None] * len(calls), "they are still being read"
    missing = sum(38 - len(call.words()) for call in calls)
    assert [call.end() for call in calls] == [(0, version) for version in VERSIONS * 4 * 3]
    assert missing == 0
    print(f"{len(calls)} streams over 3 reloads, 0 cut")


def test_a_renewal_that_went_wrong_changes_nothing(site):
    here = site()
    key = here.edge.lineage / "privkey.pem"
    before = key.read_bytes()
    here.edge.authority.issue(here.edge.lineage, 101)
    key.write_bytes(before)  # of the certificate before
    done = here.edge.hook()
    assert done.returncode == 1
    assert "key values mismatch" in done.stderr
    assert "it goes on with the certificate it has" in done.stderr
    assert serial(here.edge) == 100
    assert here.edge.ask()[0] == 200


def at_once(edge, path, *options, count=30, shown=()):
    """So many requests at the same moment; what curl says of them."""
    asked = edge.curl(*options, "--parallel", "--parallel-max", str(count), *shown, path=path)
    return subprocess.run([*asked, *asked[-1:] * (count - 1)], capture_output=True, text=True, check=True).stdout


def refused(edge, path, *options, count=30):
    """How many of so many come no further than nginx: the gateway's answers have a number."""
    shown = ["-w", "%{http_code} %header{x-request-id}\n", *["-o", "/dev/null"] * count]
    lines = at_once(edge, path, *options, count=count, shown=shown).splitlines()
    assert len(lines) == count
    return sum(line == "429 " for line in lines)


def test_signing_in_is_limited_by_address_and_nothing_else_is(site):
    here = site()
    spoofed = ("-H", "x-forwarded-for: 10.0.0.1")
    known = refused(here.edge, "/login", "-d", "username=nobody&password=x")
    assert 16 <= known <= 19, "one and ten more of thirty are let through, and one every two seconds"
    assert TOO_MANY in at_once(here.edge, "/login", "-d", "x=y")
    print(f"of 30 attempts to sign in at once from one address nginx refused {known}")
    for path in ("/register", "/admin/login", "/admin/login/code", "/login/"):
        assert refused(here.edge, path, *spoofed, "-d", "x=y") >= 10, path
    assert refused(here.edge, "/admin/login") == 0, "looking at the page is no attempt"
    assert refused(here.edge, "/users/password", "-d", "x=y") == 0
    assert refused(here.edge, "/login", "-d", "x=y", "--interface", "127.0.0.2", count=5) == 0, "others are others"


def test_addresses_that_callers_claim_have_no_effect(site):
    here = site(RATE_LIMIT_PER_MINUTE="4")
    spoofed = ("x-forwarded-for: 6.6.6.%d", "forwarded: for=6.6.6.%d", "x-real-ip: 6.6.6.%d")
    body = '{"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}'
    found = [
        here.edge.ask(
            *BEARER, *(word for name in spoofed for word in ("-H", name % n)), "-d", body, path="/v1/chat/completions"
        )[0]
        for n in range(6)
    ]
    assert found == [200, 200, 200, 200, 429, 429]
    print(f"limit 4, six claimed addresses: {found}")
    other = here.edge.ask(*BEARER, "--interface", "127.0.0.2", "-d", body, path="/v1/chat/completions")
    assert other[0] == 200, "the address of the connection counts"


def test_a_host_of_somebody_else_is_refused_and_the_scheme_is_known(site):
    here = site()
    assert here.edge.ask("-H", "host: evil.test")[0] == 400
    assert here.edge.ask("-H", "x-forwarded-host: evil.test")[0] == 200
    status, text = here.edge.ask("-D", "-", "-H", "x-forwarded-proto: http", "-H", "accept: text/html", path="/")
    assert status == 302
    assert "evil" not in text
    assert "strict-transport-security: max-age=31536000" in text


def test_port_80_serves_certbot_and_leads_to_tls(site):
    here = site()
    place = here.edge.webroot / ".well-known/acme-challenge"
    place.mkdir(parents=True)
    (place / "token").write_text("token.thumbprint", encoding="ascii")
    assert here.edge.ask(path="/.well-known/acme-challenge/token", scheme="http") == (200, "token.thumbprint")
    assert here.edge.ask(path="/.well-known/acme-challenge/other", scheme="http")[0] == 404
    assert here.edge.ask(path="/.well-known/acme-challenge/../../../ca.pem", scheme="http")[0] != 200
    status, text = here.edge.ask("-D", "-", "-H", "host: evil.test", path="/v1/models?a=b", scheme="http")
    assert status == 301
    assert f"Location: https://{NAME}/v1/models?a=b" in text


def test_bodies_are_taken_up_to_the_size_of_the_setting(site, tmp_path):
    here = site()
    body = tmp_path / "body.json"
    said = b'{"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}'
    body.write_bytes(said.ljust(MAX_BODY))
    given = (*BEARER, "-H", "expect:", "--data-binary", f"@{body}")
    assert here.edge.ask(*given, path="/v1/chat/completions")[0] == 200
    body.write_bytes(said.ljust(MAX_BODY + 1))
    status, text = here.edge.ask(*given, path="/v1/chat/completions")
    assert (status, json.loads(text)["error"]["code"]) == (413, "request_too_large")


def test_what_is_not_for_the_world_and_what_the_log_says(site):
    here = site()
    assert here.edge.ask(path="/metrics")[0] == 404
    assert here.edge.ask(*BEARER, path="/v1/models?code=secret-of-a-sign-on")[0] == 200
    here.served.stop()
    status, text = here.edge.ask()
    assert (status, json.loads(text)["error"]["code"]) == (502, "gateway_unreachable")
    log = (here.edge.folder / "tollhouse.log").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["path"] for line in lines] == ["/metrics", "/v1/models", "/health"]
    assert lines[1]["request_id"]
    assert lines[1]["address"] == "127.0.0.1"
    assert "secret-of" not in log
    assert TOKEN not in log
