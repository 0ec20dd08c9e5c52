"""Tokens of others and sign-in by a back end under gunicorn, with tokens that another library signs."""

import threading
import time

import pytest
import requests
from joserfc import jwt as jose
from joserfc.jwk import ECKey, RSAKey

from tests.conftest import PASSWORD
from tests.fakes.outsider import AUDIENCE, ISSUER, Outsider, silence

PATIENCE_S = 30.0  # what is changed in one worker is so in all of them within two seconds, if the machine has time


@pytest.fixture
def outsider():
    server = Outsider()
    yield server
    server.stop()


def start(serve, outsider, **more):
    return serve(
        JWT_JWKS_URL=f"{outsider.url}/keys",
        JWT_AUDIENCE=AUDIENCE,
        JWT_ISSUER=ISSUER,
        OUTSIDE_CREATE_USERS="true",
        DEFAULT_ADMIN_PASSWORD=PASSWORD,
        WEB_CONCURRENCY="2",
        **more,
    )


def signed(key, algorithm, **claims):
    now = int(time.time())
    said = {"sub": "f4c1-77", "iat": now, "exp": now + 300, "aud": AUDIENCE, "iss": ISSUER} | claims
    return {"Authorization": f"Bearer {jose.encode({'alg': algorithm, 'kid': key.kid}, said, key)}"}


def ask(served, path, headers):
    return requests.get(served.url + path, headers={**headers, "Connection": "close"}, timeout=30)


def test_another_librarys_tokens_rotation_and_an_end_in_all_workers(serve, outsider):
    old = RSAKey.generate_key(2048, {"kid": "old", "use": "sig", "alg": "RS256"})
    new = ECKey.generate_key("P-256", {"kid": "new", "use": "sig", "alg": "ES256"})
    outsider.answers["/keys"] = {"keys": [old.as_dict(private=False), new.as_dict(private=False)]}
    served = start(serve, outsider)
    mine = signed(old, "RS256", preferred_username="maria")
    for headers in [mine, signed(new, "ES256")] * 5:
        assert ask(served, "/users/me", headers).json()["username"] == "maria"
    assert outsider.count("/keys") <= 2  # once a worker
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    streamed = requests.post(f"{served.base_url}/chat/completions", json=body, headers=mine, timeout=30)
    assert streamed.text.rstrip().endswith("data: [DONE]")
    given = requests.post(f"{served.url}/login", json={"username": "admin", "password": PASSWORD}, timeout=30).json()
    admin = {"Authorization": f"Bearer {given['access_token']}"}
    done = requests.patch(f"{served.url}/users/maria", json={"is_active": False}, headers=admin, timeout=30)
    assert done.status_code == 200
    end_s = time.monotonic() + PATIENCE_S
    while {ask(served, "/users/me", mine).status_code for _ in range(12)} != {401}:
        assert time.monotonic() < end_s, "a worker goes on with whom the admin switched off"


def test_a_mute_issuer_holds_nobody_up(serve, outsider):
    good = RSAKey.generate_key(2048, {"kid": "good"})
    outsider.answers["/keys"] = {"keys": [good.as_dict(private=False)]}
    served = start(serve, outsider)
    mine = signed(good, "RS256")
    for _ in range(8):  # both workers have the keys
        assert ask(served, "/users/me", mine).status_code == 200
    outsider.answers["/keys"] = silence(30)
    stranger = signed(RSAKey.generate_key(2048, {"kid": "strange"}), "RS256")
    threads = [threading.Thread(target=ask, args=(served, "/users/me", stranger)) for _ in range(8)]
    for thread in threads:
        thread.start()
    begun_s = time.monotonic()
    assert [ask(served, "/users/me", mine).status_code for _ in range(10)] == [200] * 10
    assert time.monotonic() - begun_s < 15
    for thread in threads:
        thread.join(60)
    assert "Traceback" not in served.output()


def test_a_back_end_that_is_slow_holds_nobody_up(serve, outsider):
    outsider.answers["/login/"] = {"access": "x", "is_staff": True, "user_id": 7}
    served = start(serve, outsider, AUTH_BACKEND="http", BACKEND_AUTH_URL=f"{outsider.url}/login/")
    given = {"username": "olga", "password": "a password of there"}
    answer = requests.post(f"{served.url}/login", data=given, timeout=30)
    assert answer.status_code == 200, answer.text
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert ask(served, "/users/me", headers).json()["is_admin"] is True
    outsider.answers["/login/"] = silence(30)
    found: list[int] = []
    slow = threading.Thread(
        target=lambda: found.append(requests.post(f"{served.url}/login", data=given, timeout=30).status_code)
    )
    slow.start()
    time.sleep(0.5)
    begun_s = time.monotonic()
    assert [ask(served, "/users/me", headers).status_code for _ in range(10)] == [200] * 10
    assert time.monotonic() - begun_s < 15
    slow.join(60)
    assert found == [502]
    assert given["password"] not in served.output()
