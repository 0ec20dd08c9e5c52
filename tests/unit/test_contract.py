"""The judge of the contract runs: what is unexplained, explained in vain, or explained and mended fails them."""

import re

import pytest
import yaml

from tests.contract.__main__ import KNOWN, judge
from tests.contract.documents import gemini
from tests.contract.strict import complaints_of

ENTRY = {"run": "^one$", "test": "delete", "says": "no such path", "reason": "not served"}
NAMES = ("run", "test")
FAILED = ("one", "test_delete", ("404 no such path",))


@pytest.mark.parametrize(
    ("failed", "passed", "known", "said"),
    [
        pytest.param([FAILED], [], [ENTRY], [], id="explained"),
        pytest.param([FAILED], [], [], ["one test_delete: 404"], id="unexplained"),
        pytest.param([FAILED], [], [ENTRY | {"run": "two"}], ["one test_delete: 404", "nothing fails"], id="elsewhere"),
        pytest.param([("one", "test_delete", ("500",))], [], [ENTRY], ["delete: 500", "nothing"], id="worse"),
        pytest.param([FAILED], [("one", "test_delete_2")], [ENTRY], ["delete_2: passes, though"], id="mended"),
        pytest.param([], [], [ENTRY], ["nothing fails as known.yaml says: not served"], id="in vain"),
        pytest.param([("one", "delete", ("no such path", "x"))], [], [ENTRY], ["x", "nothing"], id="half explained"),
    ],
)
def test_what_a_run_fails_for(failed, passed, known, said, capsys):
    found = judge(failed, passed, known, NAMES)
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True))
    assert ("not served" in capsys.readouterr().out) == bool(known)


@pytest.mark.parametrize(("part", "names"), [("suite", NAMES), ("wires", ("target", "case"))])
def test_every_known_failure_has_a_reason_and_patterns_that_are_ones(part, names):
    for entry in yaml.safe_load(KNOWN.read_text(encoding="utf-8"))[part]:
        assert entry.keys() == {*names, "says", "reason"}
        assert entry["reason"].endswith(".")
        for name in (*names, "says"):
            re.compile(entry[name])


def test_a_complaint_has_its_code_its_place_and_what_was_sent():
    refused = b'{"steady": {"errors": [{"code": "E3011", "path": "body.role", "message": "wrong", "actual": "king"}]}}'
    assert complaints_of(400, {}, refused) == ('E3011 body.role wrong (sent "king")',)
    noted = {"x-steady-error-count": "1", "x-steady-error-1-code": "E4004", "x-steady-error-1-message": "too much"}
    assert complaints_of(200, noted, b"{}") == ("E4004 too much",)
    assert complaints_of(404, {}, b"no path") == ("404 no path",)
    assert complaints_of(200, {"x-steady-error-count": "0"}, b"[]") == ()


def test_googles_description_becomes_a_document_that_knows_no_other_member(tmp_path):
    document = yaml.safe_load(gemini(tmp_path).read_text(encoding="utf-8"))
    method = document["paths"]["/v1beta/models/{modelsId}:generateContent"]["post"]
    assert {"name": "modelsId", "in": "path", "required": True, "schema": {"type": "string"}} in method["parameters"]
    named = method["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    schema = document["components"]["schemas"][named]
    assert (named, schema["additionalProperties"]) == ("GenerateContentRequest", False)
    assert schema["properties"]["contents"]["items"] == {"$ref": "#/components/schemas/Content"}
