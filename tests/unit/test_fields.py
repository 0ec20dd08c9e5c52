"""Members of bodies: read once, exact, and refused with a reason each."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import fields
from services.errors import FieldsInvalid
from services.fields import Unfit
from utils import jsonx, money


@given(st.integers(0, money.MAX_NANOUSD))
def test_every_amount_survives_the_way_there_and_back(amount):
    written = jsonx.dumps({"x": money.usd(amount)})
    assert fields.usd(jsonx.exact(written)["x"]) == amount
    assert fields.usd(f"{money.usd(amount):f}") == amount


def test_reasons_are_collected_in_the_order_of_the_table():
    parsers = {"a": fields.flag, "b": fields.count, "c": fields.flag}
    with pytest.raises(FieldsInvalid) as caught:
        fields.read(parsers, {"c": 1, "b": "x", "A": None}, ("a",))
    assert str(caught.value) == "fields [a, b, c] are invalid"
    assert caught.value.details == {"a": "is required", "b": "must be a number", "c": "must be true or false"}


def test_names_without_case_and_unknown_members():
    found = fields.read({"oneTwo": fields.count}, {"ONETWO": 5, "oneThree": 1})
    assert (found.values, found.ignored) == ({"oneTwo": 5}, ("oneThree",))


def test_entries_stand_once_and_in_order():
    assert fields.entries(fields.text(9))(["b", "a", "b"]) == ["b", "a"]
    assert fields.some(fields.network)(["10.0.0.1/8", "10.0.0.0/8", " ::1 "]) == ["10.0.0.0/8", "::1/128"]
    assert fields.some(fields.text(9))([]) is None


@pytest.mark.parametrize(("given_", "stored"), [("", None), ([], None), (["", ""], None), (False, None)])
def test_what_is_not_there_may_be_named_by_nothing(given_, stored):
    assert fields.absent("does not exist")(given_) is stored


def test_whole_numbers_are_whole():
    parse = fields.whole(0, 10)
    assert [parse(value) for value in (0, 10, Decimal("2.0"))] == [0, 10, 2]
    for value in (True, 1.5, "1", Decimal("1.5"), -1, 11, None):
        with pytest.raises(Unfit):
            parse(value)
