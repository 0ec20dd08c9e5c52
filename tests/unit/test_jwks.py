"""The keys of an outside issuer: which of them count, when the document is read, and what happens while it is away."""

import json
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from services import jwks
from services.errors import UpstreamUnreachable
from services.jwks import KeySet, usable
from tests.fakes.outsider import CURVE_KEY, KEY, OTHER_KEY, public
from utils import clock

MODULUS = "nonsense"


def document(*rows):
    return json.dumps({"keys": list(rows)}).encode()


class Source:
    """A document, how often it was read, and a clock to move."""

    def __init__(self, monkeypatch, *rows):
        self.reads, self.now_s, self.rows, self.problem = 0, 1000.0, list(rows), None
        monkeypatch.setattr(clock, "monotonic_s", lambda: self.now_s)

    def read(self):
        self.reads += 1
        if self.problem is not None:
            raise self.problem
        return document(*self.rows)


@pytest.fixture
def source(monkeypatch):
    return Source(monkeypatch, public(KEY))


def test_keys_are_read_at_the_first_question_and_kept_for_an_hour(source):
    keys = KeySet(source.read)
    assert source.reads == 0
    for _ in range(3):
        assert keys.find("RS256", "one").key_size == 2048
        source.now_s += 1190
    assert source.reads == 1
    source.now_s += 60
    assert keys.find("RS256", "one") is not None
    assert source.reads == 2


def test_a_new_key_is_found_at_once_and_an_old_one_is_forgotten(source):
    keys = KeySet(source.read)
    keys.find("RS256", "one")
    source.rows, source.now_s = [public(OTHER_KEY, "two")], source.now_s + 61
    assert keys.find("RS256", "two") is not None
    assert keys.find("RS256", "one") is None
    assert source.reads == 2


def test_names_of_no_key_do_not_make_it_read_again_and_again(source):
    keys = KeySet(source.read)
    for number in range(500):
        assert keys.find("RS256", f"junk {number}") is None
    assert source.reads == 1
    source.now_s += jwks.AGAIN_S
    for number in range(500):
        assert keys.find("RS256", f"junk {number}") is None
    assert source.reads == 2


@pytest.mark.parametrize("problem", [UpstreamUnreachable("away"), ValueError("no key set")])
def test_while_the_issuer_is_away_keys_stay_good_for_a_day(source, problem):
    keys = KeySet(source.read)
    keys.find("RS256", "one")
    source.problem = problem
    source.now_s += jwks.STALE_S - 1
    assert keys.find("RS256", "one") is not None
    source.now_s += 2
    assert keys.find("RS256", "one") is None
    source.problem, source.now_s = None, source.now_s + jwks.FAILED_AGAIN_S
    assert keys.find("RS256", "one") is not None


def test_an_issuer_that_is_away_at_first_is_asked_again_soon_but_not_at_every_call(source):
    source.problem = UpstreamUnreachable("away")
    keys = KeySet(source.read)
    for _ in range(100):
        assert keys.find("RS256", "one") is None
    assert source.reads == 1
    source.problem, source.now_s = None, source.now_s + jwks.FAILED_AGAIN_S
    assert keys.find("RS256", "one") is not None


def test_of_many_at_once_one_reads_and_who_has_keys_does_not_wait():
    gate, reading, reads = threading.Event(), threading.Event(), []

    def read():
        reads.append(1)
        reading.set()
        assert gate.wait(60)
        return document(public(KEY))

    keys = KeySet(read)
    found = []
    threads = [threading.Thread(target=lambda: found.append(keys.find("RS256", "one"))) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert reading.wait(60)
    gate.set()
    for thread in threads:
        thread.join(60)
    assert len(reads) == 1
    assert [key is not None for key in found] == [True] * 5
    # Somebody is reading: a name that nobody knows is refused at once.
    gate.clear()
    reading.clear()
    keys._next_s = 0.0
    slow = threading.Thread(target=lambda: keys.find("RS256", "two"))
    slow.start()
    assert reading.wait(60)
    assert keys.find("RS256", "three") is None
    assert keys.find("RS256", "one") is not None
    gate.set()
    slow.join(60)


def test_a_key_is_for_the_algorithm_of_its_kind():
    keys = usable(document(public(KEY, "same"), public(CURVE_KEY, "same")))
    assert set(keys) == {("RS256", "same"), ("ES256", "same")}
    assert keys["RS256", "same"].key_size == 2048
    assert keys["ES256", "same"].curve.name == "secp256r1"


def test_a_token_without_a_name_needs_an_only_key():
    assert KeySet(lambda: document(public(KEY, None))).find("RS256", None) is not None
    assert KeySet(lambda: document(public(KEY), public(CURVE_KEY))).find("ES256", None) is not None
    assert KeySet(lambda: document(public(KEY), public(OTHER_KEY, "two"))).find("RS256", None) is None


def private(key):
    return json.loads(RSAAlgorithm.to_jwk(key)) | {"kid": "one"}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(public(KEY, use="enc"), id="for encryption"),
        pytest.param(public(KEY, alg="RS512"), id="another algorithm"),
        pytest.param(public(KEY, alg="HS256"), id="a secret's algorithm"),
        pytest.param(public(KEY, alg=None), id="no algorithm at all"),
        pytest.param(public(KEY, key_ops=["sign"]), id="for signing"),
        pytest.param(public(KEY, key_ops="verify"), id="operations as a text"),
        pytest.param(public(KEY, kid=7), id="a number for a name"),
        pytest.param(public(KEY, kid="k" * 256), id="a long name"),
        pytest.param({**public(KEY), "n": ""}, id="no modulus"),
        pytest.param({**public(KEY), "n": 5}, id="a number for a modulus"),
        pytest.param({**public(KEY), "n": "!!!"}, id="a modulus of nonsense"),
        pytest.param({**public(KEY), "e": "AQ"}, id="an exponent of one"),
        pytest.param({"kty": "RSA", "kid": "one"}, id="half a key"),
        pytest.param({"kty": "oct", "k": "c2VjcmV0", "kid": "one"}, id="a secret"),
        pytest.param({"kty": ["RSA"], "kid": "one"}, id="a list for a kind"),
        pytest.param(private(KEY), id="a private key"),
        pytest.param(public(rsa.generate_private_key(65537, 1024)), id="a short key"),
        pytest.param(public(ec.generate_private_key(ec.SECP384R1())), id="another curve"),
        pytest.param({**public(CURVE_KEY), "x": public(CURVE_KEY)["y"]}, id="a point that is on no curve"),
        pytest.param(
            json.loads(OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key())), id="another kind"
        ),
        "a text",
        None,
        [],
    ],
)
def test_what_must_not_check_signatures_is_left_out_and_others_stay(row):
    assert list(usable(document(row, public(OTHER_KEY, "good")))) == [("RS256", "good")]


@pytest.mark.parametrize(
    "found",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"keys": {}}',
        b'{"key": []}',
        b'{"keys": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        document(*[public(KEY, None)] * 101),
        document(public(KEY)) + b" " * jwks.MAX_BYTES,
    ],
)
def test_what_is_no_key_set_is_as_if_the_issuer_were_away(found):
    with pytest.raises(ValueError, match="document"):
        usable(found)
