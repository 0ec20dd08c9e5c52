"""What the key management API refuses, in which words, and that hostile bodies get an answer."""

import json
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services import keys
from tests.management import KEYS, SEARCH, SECRET, USERS, ask, call, change, make, refused
from tests.races.conftest import crowd

LATE = "9" * 4999
REQUIRED = {"name": "one", "key": "another-secret-of-tests"}


def invalid(answer):
    """The fields that a refusal names, and why."""
    detail = refused(answer, 400, "/errors/validation")
    assert answer.json["title"] in ("key validation failed", "create user validation failed")
    assert detail == f"fields [{', '.join(answer.json['errors'])}] are invalid"
    return answer.json["errors"]


def test_all_bad_fields_are_named_at_once(lite):
    answer = ask(lite, "PUT", KEYS, {})
    assert refused(answer, 400, "/errors/validation") == "fields [name, key] are invalid"
    assert answer.json["title"] == "key validation failed"
    body = {"name": "", "key": "ä", "tags": [""], "costLimitInUsd": -1, "rateLimitOverTime": "-1", "ttl": "x"}
    answer = ask(lite, "PUT", KEYS, body)
    assert refused(answer, 400, "/errors/validation") == (
        "fields [name, key, tags, costLimitInUsd, rateLimitOverTime, ttl] are invalid"
    )


BAD = [
    ("name", 5),
    ("name", ["x"]),
    ("name", " "),
    ("name", "x" * 256),
    ("name", "two\nlines"),
    ("name", "nul\u0000"),
    ("tags", "t"),
    ("tags", [1]),
    ("tags", [" "]),
    ("tags", ["\u0000"]),
    ("tags", ["x" * 256]),
    ("tags", [str(number) for number in range(201)]),
    ("revoked", "yes"),
    ("revoked", 1),
    ("revokedReason", 1),
    ("revokedReason", "without a revocation"),
    *[
        (name, value)
        for name in ("costLimitInUsd", "costLimitInUsdOverTime", "rateLimitOverTime")
        for value in (-1, "-1", "", " ", "x", "NaN", "Infinity", "1e5", "1_0", "\u0661", True, [], {}, 10**19, "9" * 41)
    ],
    ("costLimitInUsd", "0.0000000001"),
    ("costLimitInUsd", 0.1234567891),
    ("costLimitInUsd", 1e300),
    ("costLimitInUsd", 5e9),
    ("rateLimitOverTime", 0.5),
    ("rateLimitOverTime", "2.5"),
    ("rateLimitOverTime", 10**12 + 1),
    ("costLimitInUsdUnit", 1),
    ("rateLimitUnit", ["m"]),
    ("ttl", 5),
    *[("ttl", text) for text in ("x", "5", "-1h", "2w", "1 h", "0", "0s", "9" * 39 + "d", "36501d", "1h" * 21)],
    ("expiresAt", -1),
    ("expiresAt", 1.5),
    ("expiresAt", "1"),
    ("expiresAt", True),
    ("expiresAt", 10**15),
    ("expiresAt", 1),
    ("allowedModels", "echo"),
    ("allowedModels", [""]),
    ("allowedModels", [None]),
    ("allowedModels", ["x" * 201]),
    ("allowedPaths", {"path": "/v1"}),
    ("allowedPaths", ["/v1"]),
    *[("allowedIps", [text]) for text in ("", "x", "10.0.0.0/33", "300.1.1.1", "fe80::1%eth0", 1, None, "1")],
    ("shouldLogRequest", "true"),
    ("shouldLogResponse", 0),
    ("rotationEnabled", "no"),
    ("timeouts", 60),
    ("timeouts", [60]),
    ("settingId", "98daa3ae-961d-4253-bf6a-322a32fdca3d"),
    ("settingIds", ["98daa3ae-961d-4253-bf6a-322a32fdca3d"]),
    ("settingIds", [""]),
    ("settingIds", [" "]),
    ("policyId", 5),
    ("isKeyNotHashed", True),
    ("userId", ""),
    ("userId", 1.5),
    ("userId", True),
    ("userId", -1),
    ("userId", 10**30),
    *[("key", text) for text in (5, "", "with space", "ümlaut", "x" * 4097, "eyJhbGciOi.eyJzdWIi.sig", "sk-th-x")],
    ("key", keys.PREFIX + "a" * 49),
]


def test_a_bad_value_is_refused_by_name_and_stores_nothing(lite):
    for name, value in BAD:
        assert list(invalid(ask(lite, "PUT", KEYS, REQUIRED | {name: value}))) == [name], (name, value)
    assert ask(lite, "POST", SEARCH, {"userId": "key-management"}).json["keys"] == []


def test_a_bad_timeout_is_named(lite):
    path = f"{KEYS}/{make(lite, timeouts={'total_s': 9})['keyId']}"
    for wait in (0, 0.09, 86_401, -1, "60", True, []):
        found = invalid(ask(lite, "PATCH", path, {"timeouts": {"total_s": wait}}))
        assert found == {"timeouts.total_s": "must be seconds from 0.1 to 86400"}, wait
    found = invalid(ask(lite, "PATCH", path, {"timeouts": {"total": 60}}))
    assert found == {"timeouts.total": "is none of first_byte_s, silence_s, total_s"}
    assert ask(lite, "GET", path).json["timeouts"] == {"total_s": 9}


def test_a_change_to_a_bad_value_is_refused_and_changes_nothing(lite):
    made = make(lite, key=SECRET, costLimitInUsd=1)
    for name, value in BAD:
        if name not in ("expiresAt",) or value != 1:
            answer = ask(lite, "PATCH", f"{KEYS}/{made['keyId']}", {name: value})
            assert refused(answer, 400, "/errors/validation") == f"fields [{name}] are invalid", (name, value)
    after = ask(lite, "GET", f"{KEYS}/{made['keyId']}").json
    assert after == made | {"key": "my…"}


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ({}, "allowedPaths.1.path"),
        ({"path": ""}, "allowedPaths.1.path"),
        ({"path": "v1"}, "allowedPaths.1.path"),
        ({"path": "/v1", "method": "FETCH"}, "allowedPaths.1.method"),
        ({"path": "/v1", "method": 1}, "allowedPaths.1.method"),
        ({"path": "/" + "x" * 500}, "allowedPaths.1.path"),
    ],
)
def test_a_bad_path_is_named_to_the_member(lite, path, named):
    assert list(invalid(ask(lite, "POST", KEYS, {"name": "x", "allowedPaths": [{"path": "/ok"}, path]}))) == [named]


def test_what_is_not_there_is_said_by_name(lite):
    for member, value, name in (
        ("settingId", "s-1", "s-1"),
        ("settingIds", ["s-2"], "s-2"),
        ("policyId", "p-1", "p-1"),
    ):
        found = invalid(ask(lite, "POST", KEYS, {"name": "x", member: value}))
        assert found[member].startswith(f"`{name}` does not exist")


RATE, COST = "rateLimitOverTime", "costLimitInUsdOverTime"
RATE_UNIT, COST_UNIT = "rateLimitUnit", "costLimitInUsdUnit"
UNITS = [
    ({RATE_UNIT: "m"}, "rate limit over time can not be empty if rate limit unit is specified"),
    ({RATE_UNIT: "m", RATE: 0}, "rate limit over time can not be empty if rate limit unit is specified"),
    ({COST_UNIT: "d"}, "cost limit over time can not be empty if cost limit unit is specified"),
    ({COST_UNIT: "d", COST: "0"}, "cost limit over time can not be empty if cost limit unit is specified"),
    ({RATE: 5}, "rate limit unit can not be empty if rate limit over time is specified"),
    ({RATE: 5, RATE_UNIT: ""}, "rate limit unit can not be empty if rate limit over time is specified"),
    ({COST: 5}, "cost limit unit can not be empty if cost limit over time is specified"),
    ({COST: 5, COST_UNIT: ""}, "cost limit unit can not be empty if cost limit over time is specified"),
    ({RATE: 5, RATE_UNIT: "w"}, "rate limit unit can not be identified"),
    ({RATE: 5, RATE_UNIT: "M"}, "rate limit unit can not be identified"),
    ({COST: 5, COST_UNIT: "y"}, "cost limit unit can not be identified"),
]


def test_amounts_and_units_go_together(lite):
    key = f"{KEYS}/{make(lite)['keyId']}"
    for body, said in UNITS:
        for method, path, more in (("PUT", KEYS, REQUIRED), ("PATCH", key, {}), ("PUT", USERS, {"name": "x"})):
            assert refused(ask(lite, method, path, more | body), 400, "/errors/validation") == said


def test_a_bad_unit_is_named_beside_other_mistakes(lite):
    key = f"{KEYS}/{make(lite)['keyId']}"
    for method, path, more in (("PUT", KEYS, REQUIRED), ("PATCH", key, {}), ("PUT", USERS, {"name": "x"})):
        body = more | {"tags": [""], RATE: 5, RATE_UNIT: "fortnight", COST: 1}
        found = invalid(ask(lite, method, path, body)) if path != key else ask(lite, method, path, body).json["errors"]
        assert found == {
            "tags": "must not be empty",
            RATE_UNIT: "rate limit unit can not be identified",
            COST_UNIT: "cost limit unit can not be empty if cost limit over time is specified",
        }
    found = invalid(ask(lite, "PUT", KEYS, REQUIRED | {RATE: -1, RATE_UNIT: "m"}))
    assert list(found) == [RATE], "a unit whose amount is the mistake is none itself"


# Duplicates


def test_a_secret_belongs_to_one_key(app):
    make(app, key=SECRET)
    for taken in (SECRET, "test-token-of-the-tests"):
        answer = ask(app, "PUT", KEYS, {"name": "again", "key": taken})
        assert refused(answer, 409, "/errors/duplicate-key") == "A key with this secret exists already."
        assert taken not in answer.text


def test_of_many_at_once_one_gets_the_secret(app):
    def put(number):
        wanted = {"name": f"n{number}", "key": SECRET, "costLimitInUsd": 1}
        while (status := ask(app, "PUT", KEYS, wanted).status_code) == 503:  # the others hold the file for seconds
            pass
        return status

    assert sorted(crowd(8, range(8), put)) == [200] + [409] * 7
    assert call(app, SECRET).status_code in (200, 402)


def test_a_secret_in_its_grace_is_still_taken(app):
    made = make(app, key=SECRET)
    ask(app, "POST", f"{KEYS}/{made['keyId']}/rotate", {"grace": "1h"})
    refused(ask(app, "PUT", KEYS, {"name": "again", "key": SECRET}), 409, "/errors/duplicate-key")
    ask(app, "POST", f"{KEYS}/{made['keyId']}/rotate")
    again = make(app, key=SECRET)
    assert call(app, SECRET).status_code == 200
    assert again["keyId"] != made["keyId"]


def test_rotating_away_and_taking_at_once_never_opens_two_keys(app):
    for turn in range(5):
        secret = f"{SECRET}-{turn}"
        made, start, statuses = make(app, key=secret), threading.Barrier(2), {}

        def rotate(made=made, start=start):
            start.wait()
            ask(app, "POST", f"{KEYS}/{made['keyId']}/rotate", {"grace": "1h"})

        def take(secret=secret, start=start, statuses=statuses):
            start.wait()
            statuses["take"] = ask(app, "PUT", KEYS, {"name": "taker", "key": secret}).status_code

        threads = [threading.Thread(target=rotate), threading.Thread(target=take)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses["take"] == 409


# Bodies


NO_OBJECTS = (
    b"",
    b"{",
    b"[]",
    b'"text"',
    b"null",
    b'{"name": NaN}',
    b'{"name": "\xff"}',
    b'{"name": "\\ud800"}',
    b"\xef\xbb\xbf{}",
    b'{"name": "x", "name": "y"}',
    b'{"name": "x", "tags": [{"a": 1, "a": 2}]}',
    b'{"costLimitInUsd": 1e999}',
    b'{"costLimitInUsd": 1e-99999999999999999999}',
    b'{"costLimitInUsd": ' + LATE.encode() + b"}",
    b"[" * 60_000,
    b'{"a":' * 150 + b"1" + b"}" * 150,
)


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH"])
def test_what_is_no_object_is_refused(lite, method):
    path = KEYS if method != "PATCH" else f"{KEYS}/{make(lite)['keyId']}"
    for raw in NO_OBJECTS:
        answer = ask(lite, method, path, data=raw, content_type="application/json")
        refused(answer, 400, "/errors/json-unmarshal")
        assert answer.json["title"] == "json unmarshaller error"


def test_a_member_given_twice_in_different_cases_is_refused(lite):
    body = {"name": "x", "costLimitInUsd": 1, "CostLimitInUSD": 2}
    assert invalid(ask(lite, "POST", KEYS, body)) == {"costLimitInUsd": "is given twice"}


def test_names_are_matched_without_case_and_unknown_ones_are_told(lite):
    body = {"Name": "x", "costlimitinusd": 1, "futureField": {"a": 1}, "é\r\n": None}
    answer = ask(lite, "POST", KEYS, body)
    assert (answer.status_code, answer.json["name"], answer.json["costLimitInUsd"]) == (200, "x", 1)
    assert answer.headers["x-gateway-ignored-members"] == "futureField,%C3%A9%0D%0A"


def test_a_null_is_as_good_as_nothing(lite):
    made = make(lite, key=SECRET, costLimitInUsd=1, ttl="1h", tags=["t"], userId=None, settingIds=None)
    after = change(lite, made["keyId"], costLimitInUsd=None, ttl=None, tags=None, name=None)
    assert after == made | {"key": "my…", "updatedAt": after["updatedAt"]}


@pytest.mark.parametrize("path", [KEYS, SEARCH, USERS])
def test_a_large_body_is_refused(lite, path):
    answer = ask(lite, "POST", path, data=b'{"name": "' + b"x" * 65_536 + b'"}')
    refused(answer, 413, "/errors/request-body-read")
    assert answer.json["title"] == "request body reader error"


def test_pages_are_bounded(lite):
    for name, value in (("limit", 1001), ("limit", -1), ("offset", -1), ("offset", 10**30), ("limit", "5")):
        answer = ask(lite, "POST", SEARCH, {name: value})
        assert refused(answer, 400, "/errors/validation") == f"fields [{name}] are invalid"
        assert answer.json["title"] == "get keys request validation failed"


def test_bad_filters_are_refused(app):
    for name, value in (("order", "up"), ("tags", "a"), ("tags", ["\u0000"]), ("revoked", "no"), ("name", "\u0000")):
        refused(ask(app, "POST", SEARCH, {name: value}), 400, "/errors/validation")


def test_bad_numbers_in_the_address(lite):
    for query in ("limit=x", "limit=-1", "offset=1.5", "limit=%D9%A1", "limit="):
        refused(ask(lite, "GET", f"{KEYS}?tag=a&{query}"), 400, "/errors/bad-filters")
        refused(ask(lite, "GET", f"{USERS}?{query}"), 400, "/errors/bad-filters")


def test_bad_filters_in_the_address(app):
    for query in ("tag=%00", "tag=a&keyIds=%00", "tag=a&limit=1001"):
        refused(ask(app, "GET", f"{KEYS}?{query}"), 400, "/errors/validation")


def test_unknown_keys(app):
    for key_id in ("nope", "%00", "'", "1", "98daa3ae-961d-4253-bf6a-322a32fdca3d", "x" * 2000):
        for method in ("GET", "PATCH", "DELETE"):
            refused(ask(app, method, f"{KEYS}/{key_id}", {}), 404, "/errors/key-not-found")
        refused(ask(app, "POST", f"{KEYS}/{key_id}/rotate"), 404, "/errors/key-not-found")


# Any json at all


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
MEMBERS = sorted({name for name, _value in BAD} | {"grace", "graceInSeconds", "keyIds", "limit", "futureField"})
BODIES = st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES)
def test_no_body_breaks_anything(lite, body):
    key_id = make(lite)["keyId"]
    targets = [("PUT", KEYS), ("POST", KEYS), ("PATCH", f"{KEYS}/{key_id}"), ("POST", f"{KEYS}/{key_id}/rotate")]
    for method, path in [*targets, ("POST", SEARCH), ("PUT", USERS)]:
        answer = ask(lite, method, path, data=json.dumps(body))
        assert answer.status_code in (200, 400, 409), (method, path, body, answer.text)
