"""`flask ledger reconcile`: our usage rows beside a provider's export, on both databases."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from services import invoices, reconcile
from services.types import Usage
from tests.books.test_books import settlement
from tests.helpers import add_provider

HEAD = "date,model,cost,input_tokens,output_tokens,requests\n"
RIGHT = (
    "2026-05-01,small,0.0003,20,40,2\n2026-05-01,large-2026-01-31,1.25,100,200,1\n2026-05-02,small,0.00015,10,20,1\n"
)


def moment(day, hour=12):
    return round(datetime(2026, 5, day, hour, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
def booked(app, gateway):
    """Three calls on one day and one on the next; one more at another provider, and one that was void."""
    add_provider(app, "http://127.0.0.1:1/v1", "fake")
    calls = [
        ("r1", moment(1, 0), "small", Usage(10, 20), 150_000, {}),
        ("r2", moment(1, 23) + 3_599_999, "small", Usage(10, 20), 150_000, {}),
        ("r3", moment(1), "large", Usage(100, 200), 1_250_000_000, {}),
        ("r4", moment(2, 0), "small", Usage(10, 20), 150_000, {}),
        ("r5", moment(1), "small", Usage(1000, 1000), 9_000_000_000, {"provider": "other"}),
        ("r6", moment(1), "small", Usage(), 0, {"state": "void"}),
        ("r7", moment(4), "small", Usage(10, 20), 150_000, {}),
    ]
    for request_id, created_ms, model, usage, cost, more in calls:
        gateway.books.settle(
            settlement(
                request_id, 1, created_ms=created_ms, upstream_model=model, usage=usage, cost_nanousd=cost, **more
            )
        )


@pytest.fixture
def run(app, booked, tmp_path):
    def reconcile_file(content, *options):
        path = tmp_path / "export.csv"
        path.write_text(content, encoding="utf-8")
        done = app.test_cli_runner().invoke(args=["ledger", "reconcile", str(path), *options])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output.splitlines()

    return reconcile_file


def rows(lines):
    """The table's lines as words."""
    return [line.split() for line in lines if line.startswith(("2026-", "total"))]


def test_what_agrees_ends_with_0(run):
    status, lines = run(HEAD + RIGHT, "--provider", "fake")
    assert status == 0, lines
    assert lines[0].split() == ["day", "model", "what", "ours", "theirs", "difference", "%"]
    assert rows(lines)[:5] == [
        ["2026-05-01", "large", "cost", "$1.25", "$1.25", "$0.00", "0.00"],
        ["2026-05-01", "large", "input_tokens", "100", "100", "0", "0.00"],
        ["2026-05-01", "large", "output_tokens", "200", "200", "0", "0.00"],
        ["2026-05-01", "large", "requests", "1", "1", "0", "0.00"],
        ["2026-05-01", "small", "cost", "$0.0003", "$0.0003", "$0.00", "0.00"],
    ]
    assert rows(lines)[-4:] == [
        ["total", "cost", "$1.25045", "$1.25045", "$0.00", "0.00"],
        ["total", "input_tokens", "130", "130", "0", "0.00"],
        ["total", "output_tokens", "260", "260", "0", "0.00"],
        ["total", "requests", "4", "4", "0", "0.00"],
    ]
    assert lines[-1] == "All 16 figures from 2026-05-01 to 2026-05-02 agree within 1%."


def test_what_differs_ends_with_1_and_is_marked(run):
    status, lines = run(HEAD + RIGHT.replace("1.25,", "1.30,"), "--provider", "fake")
    assert status == 1
    assert rows(lines)[0] == ["2026-05-01", "large", "cost", "$1.25", "$1.30", "-$0.05", "-3.85", "!"]
    assert lines[-1] == "2 of 16 figures from 2026-05-01 to 2026-05-02 differ by more than 1%; 0 lines cannot be used."
    assert run(HEAD + RIGHT.replace("1.25,", "1.30,"), "--provider", "fake", "--tolerance", "4%")[0] == 0
    assert run(HEAD + RIGHT.replace("1.25,", "1.250000001,"), "--provider", "fake", "--tolerance", "0")[0] == 1


def test_days_and_models_of_one_side_are_noted(run):
    theirs = "2026-05-01,small,0.0003\n2026-05-01,tiny,0.2\n2026-05-03,small,0.1\n"
    status, lines = run(f"date,model,cost\n{theirs}", "--provider", "fake")
    assert status == 1
    assert ["2026-05-01", "tiny", "cost", "$0.00", "$0.20", "-$0.20", "-100.00", "!"] in rows(lines)
    assert ["2026-05-02", "small", "cost", "$0.00015", "$0.00", "$0.00015", "-", "!"] in rows(lines)
    assert lines[-5:-1] == [
        "Only we have the day 2026-05-02.",
        "Only the provider has the day 2026-05-03.",
        "Only we have the model large.",
        "Only the provider has the model tiny.",
    ]


def test_a_long_note_is_cut(run):
    lines = "".join(f"2026-05-01,m{number},1\n" for number in range(25))
    assert "m20, m21, m22, m23, m24, m3, m4 and 5 more." in run(f"date,model,cost\n{lines}")[1][-2]


def test_without_models_only_days_are_compared(run):
    content = "date;cost\n2026-05-01;1.2503\n2026-05-02;0.00015\n"
    status, lines = run(content, "--provider", "fake", "--tolerance", "0")
    assert (status, len(rows(lines))) == (0, 3)


def test_without_a_provider_all_are_compared(run):
    content = "date,cost\n2026-05-01,10.2503\n2026-05-02,0.00015\n"
    assert run(content, "--tolerance", "0")[0] == 0


def test_days_may_be_chosen(run):
    content = "date,cost\n2026-05-01,999\n2026-05-02,0.00015\n2026-05-03,5\n"
    assert run(content, "--provider", "fake", "--from", "2026-05-02", "--to", "2026-05-02")[0] == 0
    status, lines = run(content, "--provider", "fake", "--from", "2026-05-04", "--to", "2026-05-04")
    assert (status, lines[-2]) == (1, "Only we have the day 2026-05-04.")
    for span in (("2026-05-03", "2026-05-02"), ("2026-04-01", "2026-04-02")):
        status, lines = run(content, "--provider", "fake", "--from", span[0], "--to", span[1])
        assert (status, len(lines)) == (78, 1)
    assert run(content, "--from", "yesterday")[0] == 2


def test_a_line_that_cannot_be_used_is_no_agreement(run):
    status, lines = run(HEAD + RIGHT + "total,,1,1,1,1\n" * 30, "--provider", "fake")
    assert status == 1
    assert "line 5: `total` is not a day" in lines
    assert "and 10 more lines that cannot be used" in lines
    assert lines[-1].startswith("0 of 16 figures")


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (HEAD + RIGHT, ("--provider", "nobody"), "There is no provider `nobody`."),
        ("", (), "it is empty"),
        (HEAD + RIGHT, ("--tolerance", "x"), "`x` is not a percentage"),
        (HEAD + RIGHT, ("--tolerance", "NaN"), "`NaN` is not a percentage"),
        (HEAD + RIGHT, ("--tolerance", "101"), "`101` is not a percentage"),
    ],
)
def test_what_cannot_be_compared_ends_with_78_and_one_line(run, content, options, said):
    status, lines = run(content, *options)
    assert (status, len(lines)) == (78, 1)
    assert said in lines[0]


def test_a_file_that_is_not_there_ends_with_78(app):
    done = app.test_cli_runner().invoke(args=["ledger", "reconcile", "/no/such/file.csv"])
    assert (done.exit_code, done.output.count("\n")) == (78, 1)


def test_the_provider_of_old_calls_need_not_be_there_any_more(run):
    assert run("date,cost\n2026-05-01,9\n", "--provider", "other")[0] == 0


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({"a"}, {"a"}, {"a": "a"}),
        ({"gpt-4o"}, {"gpt-4o-2024-08-06"}, {"gpt-4o": "gpt-4o", "gpt-4o-2024-08-06": "gpt-4o"}),
        ({"claude-20250514"}, {"claude"}, {"claude": "claude", "claude-20250514": "claude"}),
        ({"m"}, {"vendor/m"}, {"m": "m", "vendor/m": "m"}),
        ({"m", "m-2024-08-06"}, {"m", "m-2024-08-06"}, {"m": "m", "m-2024-08-06": "m-2024-08-06"}),
        ({"m", "m-2024-08-06"}, {"m-2024-08-06"}, {"m": "m", "m-2024-08-06": "m"}),
        ({"a"}, {"b"}, {"a": "a", "b": "b"}),
    ],
)
def test_models_that_differ_in_a_date_are_one(ours, theirs, expected):
    assert reconcile._called(ours, theirs) == expected


def test_sums_beyond_what_the_books_hold_are_no_trouble(gateway, booked):
    statement = invoices.Statement(("cost",), has_models=False)
    statement.sums[date(2026, 5, 1), ""] = invoices.Figures(Decimal("1e15"))
    found = reconcile.compare(gateway.engine, statement, tolerance=Decimal(1))
    assert found.lines[0].theirs == 10**24
    assert not found.agrees
    assert list(reconcile.table(found))
