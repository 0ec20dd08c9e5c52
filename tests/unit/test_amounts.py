"""Amounts as people type them: one reading, or refused."""

import pytest
from flask import Flask
from flask_babel import force_locale

from routes.admin import amounts


@pytest.mark.parametrize(
    ("language", "typed", "amount"),
    [
        ("en", "2.50", "2.50"),
        ("en", "$2.50", "2.50"),
        ("en", " 1,234.50 ", "1234.50"),
        ("en", "1,500", "1500"),
        ("en", "1 234 567", "1234567"),
        ("en", "1.234,50", "1234.50"),
        ("en", "0.125", "0.125"),
        ("pt_BR", "2,50", "2.50"),
        ("pt_BR", "2.50", "2.50"),
        ("pt_BR", "US$ 1.234,50", "1234.50"),
        ("pt_BR", "1,234.50", "1234.50"),
        ("pt_BR", "0,125", "0.125"),
    ],
)
def test_usd_are_read_as_the_language_writes_them(app: Flask, language: str, typed: str, amount: str) -> None:
    with app.test_request_context(), force_locale(language):
        assert amounts.plain("usd", typed) == amount
        assert amounts.problem("usd", typed) is None


@pytest.mark.parametrize(
    ("language", "typed"),
    [("en", "2,50"), ("en", "1,23.5"), ("en", "1,2,3"), ("en", "2.5.0"), ("pt_BR", "1,2,3"), ("pt_BR", "12.34,5.6")]
    + [
        (language, typed)
        for language in ("en", "pt_BR")
        for typed in ("", "two", "1e999", "-1", "nan", ",", ".", ",5,")
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(app: Flask, language: str, typed: str) -> None:
    with app.test_request_context(), force_locale(language):
        assert amounts.problem("usd", typed) is not None


@pytest.mark.parametrize("language", ["en", "pt_BR"])
def test_whole_numbers_may_have_either_sign_between_their_thousands(app: Flask, language: str) -> None:
    with app.test_request_context(), force_locale(language):
        assert [amounts.plain("tokens", typed) for typed in ("1.500", "1,500", "1 500", "1500")] == ["1500"] * 4
        assert all(amounts.problem("tokens", typed) for typed in ("1.5", "1,50", "15.00", "-3", "", "1.500,0"))
