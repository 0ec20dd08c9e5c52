"""Exports of providers: what is read out of them, which lines are left out, which files are refused."""

import os
import threading
import tracemalloc
from contextlib import suppress
from datetime import date
from decimal import Decimal

import pytest

from services import invoices
from services.invoices import Figures, Unusable, count_of, day_of, usd_of

DAY = date(2026, 5, 1)


@pytest.fixture
def read(tmp_path):
    def write_and_read(content):
        path = tmp_path / "export.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return invoices.read(path)

    return write_and_read


def figures(cost="0", input_tokens=0, output_tokens=0, requests=0):
    return Figures(Decimal(cost), input_tokens, output_tokens, requests)


EXPORTS = {
    "plain": ("date,model,cost\n2026-05-01,m,1.5\n", ("cost",), {(DAY, "m"): figures("1.5")}),
    "usage by the bucket, in seconds": (
        "start_time,end_time,start_time_iso,num_model_requests,project_id,model,input_tokens,output_tokens,"
        "input_cached_tokens\n1777593600,1777680000,2026-05-01T00:00:00+00:00,3,proj,m,100,20,50\n",
        ("input_tokens", "output_tokens", "requests"),
        {(DAY, "m"): figures("0", 100, 20, 3)},
    ),
    "costs by line item": (
        "start_time,amount_value,amount_currency,line_item\n"
        '1777593600,0.25,usd,"m, input"\n1777593600,1e-05,usd,"m, output"\n',
        ("cost",),
        {(DAY, "m"): figures("0.25001")},
    ),
    "activity with context and generated tokens": (
        "usage_timestamp,n_requests,operation,snapshot_id,n_context_tokens_total,n_generated_tokens_total\n"
        "1777593600000,2,completion,m,7,9\n",
        ("input_tokens", "output_tokens", "requests"),
        {(DAY, "m"): figures("0", 7, 9, 2)},
    ),
    "input in parts": (
        "usage_date_utc,model_version,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,"
        "usage_input_tokens_cache_read,usage_output_tokens\n2026-05-01,m,10,20,30,5\n",
        ("input_tokens", "output_tokens"),
        {(DAY, "m"): figures("0", 60, 5)},
    ),
    "semicolons, capitals, a BOM, Windows lines, empty lines": (
        b"\xef\xbb\xbf\r\nDate;Model;Cost (USD);Requests\r\n\r\n2026-05-01;m;$1,234.50;1,000\r\n;;;\r\n",
        ("cost", "requests"),
        {(DAY, "m"): figures("1234.50", requests=1000)},
    ),
    "tabs, no models": ("day\tamount\n2026-05-01\t2 USD\n2026-05-01\t3\n", ("cost",), {(DAY, ""): figures("5")}),
    "quoted": ('"day","model","cost"\n"2026-05-01","a ""b"", x","USD 2"\n', ("cost",), {(DAY, 'a "b"'): figures("2")}),
    "a refund": ("day,cost\n2026-05-01,5\n2026-05-01,-$1.25\n", ("cost",), {(DAY, ""): figures("3.75")}),
    "nothing is zero": ("day,cost,requests\n2026-05-01,,\n", ("cost", "requests"), {(DAY, ""): figures()}),
    "other columns": ("x,day,y,cost,z\na,2026-05-01,b,4,c\n", ("cost",), {(DAY, ""): figures("4")}),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_are_summed_by_day_and_model(read, name):
    content, measures, sums = EXPORTS[name]
    found = read(content)
    assert (found.measures, found.sums, found.bad_lines) == (measures, sums, 0)


def test_lines_of_one_day_and_model_add_up_exactly(read):
    lines = "".join("2026-05-01,m,0.1,1\n2026-05-01,n,0.0000000001,2\n" for _ in range(1000))
    found = read(f"date,model,cost,requests\n{lines}")
    assert found.sums == {(DAY, "m"): figures("100", requests=1000), (DAY, "n"): figures("1E-7", requests=2000)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-05-01", "2026-05-01"),
        ("20260501", "2026-05-01"),
        (" 2026-05-01 ", "2026-05-01"),
        ("2026-05-01T23:59:59", "2026-05-01"),
        ("2026-05-01T23:59:59Z", "2026-05-01"),
        ("2026-05-01 23:59:59 UTC", "2026-05-01"),
        ("2026-05-01T23:00:00-03:00", "2026-05-02"),
        ("2026-05-01T01:00:00+02:00", "2026-04-30"),
        ("1777593600", "2026-05-01"),
        ("1777593600.0", "2026-05-01"),
        ("1777679999", "2026-05-01"),
        ("1777680000", "2026-05-02"),
        ("1777593600000", "2026-05-01"),
    ],
)
def test_days(text, expected):
    assert day_of(text).isoformat() == expected


@pytest.mark.parametrize(
    "text",
    ["", "total", "01/05/2026", "2026-13-01", "2026-02-30", "1", "99999999999999", "1999-12-31", "2100-01-01",
     "0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-14:00", "17775936000000000000", "١٧٧٧٥٩٣٦٠٠"],
)  # fmt: skip
def test_days_that_are_none(text):
    with pytest.raises((ValueError, OverflowError)):
        day_of(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", "1"), ("0.000000001", "1E-9"), ("$1.50", "1.5"), ("-$1.50", "-1.5"), ("$-1.50", "-1.5"), ("US$2", "2"),
     ("1,234.5", "1234.5"), ("1,234,567.00", "1234567"), ("1e-05", "0.00001"), ("3 USD", "3"), ("  ", "0")],
)  # fmt: skip
def test_amounts(text, expected):
    assert usd_of(text) == Decimal(expected)


@pytest.mark.parametrize(
    "text",
    ["1,234", "1,5", "1.234,5", "12,34.5", "€1", "1 €", "R$ 5", "£3", "--1", "-$-1", "(1.5)", "NaN", "inf", "1e10",
     "1e999999999", "0x10", "1 2", "٣", "US1", "9" * 100],
)  # fmt: skip
def test_amounts_that_are_none(text):
    with pytest.raises(ValueError, match=r"."):
        usd_of(text)


@pytest.mark.parametrize(("text", "expected"), [("7", 7), ("7.0", 7), ("1,234", 1234), ("", 0), ("1000000", 10**6)])
def test_whole_numbers(text, expected):
    assert count_of(text) == expected


@pytest.mark.parametrize("text", ["-1", "1.5", "1e3", "1,23", "x", "²", "9" * 30, "9" * 5000])
def test_numbers_that_are_not_whole(text):
    with pytest.raises(ValueError, match="whole"):
        count_of(text)


def test_bad_lines_are_named_and_left_out(read):
    found = read(
        "date,model,cost,currency,requests\n"
        "2026-05-01,m,1,usd,1\n"
        "total,,9,usd,9\n"
        "2026-05-01,m,1\n"
        '2026-05-01,"two\nlines",2,USD,1\n'
        "2026-05-01,m,1,EUR,1\n"
        "2026-05-01,m,\x1b[31mred,usd,1\n"
        "2026-05-01,m,1,usd,1.5\n"
    )
    assert found.complaints == [
        "line 3: `total` is not a day",
        "line 4: 3 fields instead of 5",
        "line 7: `EUR` is not USD",
        "line 8: ` [31mred` is not an amount in USD",
        "line 9: `1.5` is not a whole number",
    ]
    assert found.bad_lines == 5
    assert found.sums == {(DAY, "m"): figures("1", requests=1), (DAY, "two lines"): figures("2", requests=1)}


def test_only_the_first_bad_lines_are_named(read):
    found = read("date,cost\n2026-05-01,1\n" + "x,1\n" * 1000)
    assert (found.bad_lines, len(found.complaints)) == (1000, invoices.MAX_NOTED)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\n\n  \n", "it is empty"),
        (b"date,cost\n", "none of its 0 lines"),
        (b"date,cost\nx,1\ny,2\n", "none of its 2 lines can be used; line 2: `x` is not a day"),
        (b"model,cost\nm,1\n", "no column with the day"),
        (b"date,model\n2026-05-01,m\n", "no column with a cost"),
        (b"date,cost,cost\n2026-05-01,1,2\n", "two columns of the name cost"),
        (b"hello\n", "no column with the day"),
        (b"\x00\x01\x02" * 100, "line 1 is no text"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "line 1 is no text in UTF-8"),
        ("date,cost\n2026-05-01,1\n".encode("utf-16"), "line 1 is no text"),
        ("date,model,cost\n2026-05-01,café,1\n".encode("latin-1"), "line 2 is no text in UTF-8"),
        (b"date,cost\n" + b"x" * invoices.MAX_LINE + b"\n", "line 2 is longer than 64 KiB"),
        (b'date,cost\n2026-05-01,"1\n', "no CSV file"),
        (b'date,cost\n2026-05-01,"1"2\n', "no CSV file"),
        (b'date,cost\n2026-05-01,"1\n' + b"x" * 99 + b"\n" * 140_000, "no CSV file"),
        (b"date,cost\r2026-05-01,1\r", "no column|no CSV file"),
    ],
    ids=range(17),
)
def test_files_that_cannot_be_used_are_refused_in_one_line(read, content, said):
    with pytest.raises(Unusable, match=said) as caught:
        read(content)
    assert "\n" not in str(caught.value)
    assert "export.csv" in str(caught.value)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(Unusable, match="No such file"):
        invoices.read(tmp_path / "gone.csv")
    with pytest.raises(Unusable, match="directory"):
        invoices.read(tmp_path)


def test_more_days_and_models_than_anybody_has(read, monkeypatch):
    monkeypatch.setattr(invoices, "MAX_SUMS", 10)
    ten = "date,model,cost\n" + "".join(f"2026-05-01,m{number},1\n" for number in range(10))
    assert len(read(ten + "2026-05-01,m3,1\n").sums) == 10
    with pytest.raises(Unusable, match="more than 10 days and models"):
        read(ten + "2026-05-01,x,1\n")


def test_a_file_is_read_line_by_line(tmp_path):
    """Neither a long file nor an endless line is ever in memory."""
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write(content, times):
        with suppress(BrokenPipeError), path.open("wb") as pipe:  # the reader may have had enough
            pipe.write(b"date,model,cost\n")
            for _ in range(times):
                pipe.write(content)

    def read(content, times):
        writer = threading.Thread(target=write, args=(content, times))
        writer.start()
        try:
            return invoices.read(path)
        finally:
            writer.join()

    tracemalloc.start()
    found = read(b"2026-05-01,m,1\n" * 100, 300)
    with pytest.raises(Unusable, match="longer"):
        read(b"x" * 100_000, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.sums[DAY, "m"].cost == 30_000
    assert peak < 4 * 2**20
