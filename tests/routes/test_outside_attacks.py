"""Every way to forge, stretch or misdirect a token of others, and an issuer that is away or says something odd."""

import time

import pytest
from cryptography.hazmat.primitives import serialization

from tests.callers import bearer
from tests.fakes.outsider import CURVE_KEY, ISSUER, KEY, OTHER_KEY, SHARED, Outsider, public, silence, status, token
from tests.outside import OWN, REFUSED, assert_refused, b64, claims, forged, me, now_s, users
from tests.people import ask
from tests.people import token as signed_in


@pytest.fixture
def outsider():
    server = Outsider()
    yield server
    server.stop()


@pytest.fixture
def open_app(sqlite_database, make_app, outsider):
    """An app that makes a user of whoever comes with a token of the issuer."""
    return make_app(sqlite_database, **OWN, JWT_JWKS_URL=f"{outsider.url}/keys")


BAD = {
    "no algorithm": lambda: forged({"alg": "none", "typ": "JWT"}, claims()),
    "None with a signature": lambda: forged({"alg": "None"}, claims(), b"x"),
    "no algorithm named": lambda: forged({"typ": "JWT", "kid": "one"}, claims()),
    "an algorithm that is a list": lambda: forged({"alg": ["RS256"], "kid": "one"}, claims()),
    "the public key as a secret": lambda: forged({"alg": "HS256", "kid": "one"}, claims(), PEM),
    "the public key as a secret, DER": lambda: forged({"alg": "HS256", "kid": "one"}, claims(), DER),
    "the document's modulus as a secret": lambda: forged({"alg": "HS256"}, claims(), public(KEY)["n"].encode()),
    "the shared secret called RS256": lambda: forged({"alg": "RS256", "kid": "one"}, claims(), SHARED.encode()),
    "an empty secret": lambda: forged({"alg": "HS256", "kid": "../../dev/null"}, claims(), b"\0"),
    "RS512": lambda: token(KEY, "RS512"),
    "PS256": lambda: token(KEY, "PS256"),
    "ES256 by the name of an RSA key": lambda: token(CURVE_KEY, "ES256"),
    "another key": lambda: token(OTHER_KEY),
    "another key that it brings along": lambda: token(OTHER_KEY, header={"jwk": public(OTHER_KEY)}),
    "another key at an address": lambda: token(OTHER_KEY, header={"jku": "http://127.0.0.1:9/k", "kid": "new"}),
    "another key in a certificate": lambda: token(OTHER_KEY, header={"x5u": "http://127.0.0.1:9/c", "x5c": ["MIIB"]}),
    "a name that is a path": lambda: token(OTHER_KEY, kid="../../../../etc/passwd"),
    "a name that is an address": lambda: token(OTHER_KEY, kid="http://127.0.0.1:9/one"),
    "a name that is a statement": lambda: token(OTHER_KEY, kid="x' UNION SELECT 'secret' --"),
    "a name that is a number": lambda: forged({"alg": "RS256", "kid": 1}, claims()),
    "a name that is empty": lambda: token(OTHER_KEY, kid=""),
    "something critical": lambda: token(header={"crit": ["exp"], "exp": 1}),
    "nothing critical": lambda: token(header={"crit": []}),
    "a payload that is not in it": lambda: token(header={"b64": False, "crit": ["b64"]}),
    "a token for logging out": lambda: token(header={"typ": "logout+jwt"}),
    "a token for new tokens": lambda: token(token_type="refresh"),
    "no end": lambda: token(exp=None),
    "no beginning": lambda: token(iat=None),
    "an end that is past": lambda: token(exp=now_s() - 60),
    "an end that is a text": lambda: token(exp="tomorrow"),
    "an end that is a list": lambda: forged({"alg": "HS256"}, claims(exp=[]), SHARED.encode()),
    "an end beyond all numbers": lambda: forged({"alg": "HS256"}, claims(exp=float("inf")), SHARED.encode()),
    "a beginning that is no number": lambda: forged({"alg": "HS256"}, claims(iat=float("nan")), SHARED.encode()),
    "not yet": lambda: token(nbf=now_s() + 60),
    "made tomorrow": lambda: token(iat=now_s() + 86_400),
    "another audience": lambda: token(aud="another"),
    "other audiences": lambda: token(aud=["another", "others"]),
    "no audience": lambda: token(aud=None),
    "another issuer": lambda: token(iss="https://evil.test"),
    "no issuer": lambda: token(iss=None),
    "an issuer with a slash more": lambda: token(iss=f"{ISSUER}/"),
    "nobody": lambda: token(sub=None),
    "an empty name": lambda: token(sub=""),
    "a truth for a name": lambda: token(sub=None, user_id=True),
    "a fraction for a name": lambda: token(sub=None, user_id=5.5),
    "an object for a name": lambda: token(sub=None, user_id={"$ne": 0}),
    "a name with a NUL": lambda: token(sub="5\0"),
    "a name that is too long": lambda: token(sub="5" * 256),
    "one that says it is ours": lambda: token(tv=0, uid=1),
    "an ours with the shared secret": lambda: token(SHARED, "HS256", None, tv=0, uid=1, sub="admin", jti="x"),
    "a payload that is no object": lambda: forged({"alg": "HS256"}, [1], SHARED.encode()),
    "nesting": lambda: forged({"alg": "HS256"}, b'{"a":' + b"[" * 900 + b"]" * 900 + b"}", SHARED.encode()),
    "no base64": lambda: "eyJhbGciOi!.e30.AA",
    "a header that is no object": lambda: forged([1], claims(), SHARED.encode()),
    "too long": lambda: token(much="x" * 7000),
    "much too long": lambda: token(much="x" * 100_000),
}
PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
DER = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_what_is_refused_alike(open_app, outsider):
    before, answers = users(open_app), {}
    for name, make in BAD.items():
        answer = ask(open_app, "GET", "/users/me", bearer(make()))
        answers[name] = answer.status_code, answer.json["detail"], answer.headers.get("www-authenticate")
    assert {name for name, found in answers.items() if found != (401, REFUSED, "Bearer")} == set()
    assert len(BAD) > 50
    assert users(open_app) == before
    assert outsider.count("/keys") <= 1
    assert {path for path, _headers, _body in outsider.asked} <= {"/keys"}


def test_every_byte_of_the_signature_and_of_what_it_signs_counts(open_app):
    good = token()
    assert me(open_app, good)[0] == 200
    head, body, signature = good.split(".")
    for cut in (f"{head}.{body}.", f"{head}.{body}", f"{head}.{body}.{signature[:-4]}", f"{good}.{signature}"):
        assert me(open_app, cut)[0] == 401
    swapped = b64(claims(sub="1", is_admin=True))
    assert_refused(open_app, f"{head}.{swapped}.{signature}")


def test_junk_keys_make_nobody_ask_the_issuer_again(open_app, outsider):
    for number in range(20):
        assert_refused(open_app, token(OTHER_KEY, kid=f"junk-{number}"))
    assert outsider.count("/keys") == 1


def test_the_issuer_may_be_away(open_app, outsider):
    outsider.answers["/keys"] = silence(30)
    begun_s = time.monotonic()
    assert_refused(open_app, token())
    assert_refused(open_app, token())
    assert time.monotonic() - begun_s < 25
    assert ask(open_app, "GET", "/users/me", signed_in(open_app)).status_code == 200


@pytest.mark.parametrize(
    "answer",
    [
        status(500, b"oh"),
        status(200, b"<html>sign in</html>"),
        status(302, b"", location="http://127.0.0.1:9/keys"),
        status(200, b'{"keys": [' + b" " * 9_000_000 + b"]}"),
        {"keys": "none"},
        {"keys": []},
    ],
)
def test_an_odd_document_opens_nothing(open_app, outsider, answer):
    outsider.answers["/keys"] = answer
    assert_refused(open_app, token())
    assert {path for path, _headers, _body in outsider.asked} == {"/keys"}
