"""The prices of a model in the panel: every rate can be entered, and the past can be read."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEntry, Deployment, Model, Price
from tests.admin.conftest import Browser, add_model, add_provider, rows_of
from tests.admin.test_models import edit, form, make, named, prices_of

TIERS = "200000: input=5 output=20; 500000: input=6"
EVERY = {
    "input_rate": "2.50",
    "output_rate": "10",
    "cache_read_rate": "1.25",
    "cache_creation_rate": "3",
    "cache_creation_1h_rate": "4",
    "input_audio_rate": "40",
    "output_audio_rate": "80",
    "reasoning_rate": "12",
    "request_nanousd": "0.005",
    "image_nanousd": "0.04",
    "tiers": TIERS,
}


def text_of(browser: Browser, path: str) -> str:
    page = browser.get(path).text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("<main")[2]))


def test_every_rate_can_be_entered_and_is_shown(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    provider = add_provider(app)
    make(panel_anywhere_admin, (provider, "up"), **EVERY)
    row = named(app, "fast")
    assert row is not None
    (price,) = prices_of(app, row.id)
    assert [getattr(price, name) for name in list(EVERY)[:-1]] == [
        2_500_000_000, 10 * 10**9, 1_250_000_000, 3 * 10**9, 4 * 10**9, 40 * 10**9, 80 * 10**9, 12 * 10**9,
        5_000_000, 40_000_000,
    ]  # fmt: skip
    assert price.tiers == [
        {"above": 200_000, "input_rate": 5 * 10**9, "output_rate": 20 * 10**9},
        {"above": 500_000, "input_rate": 6 * 10**9},
    ]
    shown = text_of(panel_anywhere_admin, f"/admin/models/details/?id={row.id}")
    for line in (
        "Input, per million tokens $2.50",
        "Cache write for an hour, per million tokens $4.00",
        "Each request $0.005",
        "Above 200,000 input tokens Input $5.00 , Output $20.00",
        "in force",
    ):
        assert line in shown, line
    table = panel_anywhere_admin.get(f"/admin/models/details/?id={row.id}").text.partition('aria-label="Prices"')[2]
    assert '<table class="table stack">' in table.partition("</table>")[0]
    labels = ["Valid until", "USD per million tokens", "Price from"]
    assert re.findall(r'data-label="([^"]*)"', table.partition("</table>")[0]) == labels
    page = panel_anywhere_admin.get(f"/admin/models/edit/?id={row.id}").text
    assert f'value="{TIERS}"' in page
    entries = len(rows_of(app, AuditEntry))
    again = {"deployments-0-priority": "0", "deployments-0-weight": "2"}
    assert edit(panel_anywhere_admin, row.id, (provider, "up"), **EVERY, **again).status_code == 303
    assert (len(prices_of(app, row.id)), len(rows_of(app, AuditEntry))) == (1, entries), "it was that already"


def test_the_past_and_what_is_to_come_can_be_read(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    provider = add_provider(app)
    number = add_model(app, [provider])
    assert "No price was ever set" not in text_of(panel_anywhere_admin, f"/admin/models/details/?id={number}")
    edit(panel_anywhere_admin, number, (provider, "up-fast"), input_rate="9", output_rate="9")
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        deployment = session.scalars(select(Deployment.id).where(Deployment.model_id == number)).one()
        later = datetime.now(UTC) + timedelta(days=9)
        session.add(
            Price(
                model_id=number, deployment_id=deployment, input_rate=7, output_rate=7, source="x", valid_from_at=later
            )
        )
    shown = text_of(panel_anywhere_admin, f"/admin/models/details/?id={number}").partition("Prices")[2]
    assert re.search(r"to come . Input \$0\.000000007 , Output \$0\.000000007 up-fast x", shown)
    assert re.search(r"in force . Input \$9\.00 , Output \$9\.00 admin", shown)
    assert re.search(r"UTC 20[\d-]+ [\d:]+ UTC Input \$0\.15 , Output \$0\.60 test", shown)


def test_a_model_becomes_unpriced_and_its_past_stays(panel_anywhere_admin: Browser) -> None:
    app = panel_anywhere_admin.app
    provider = add_provider(app)
    number = add_model(app, [provider])
    assert ">fast</span></a>" not in panel_anywhere_admin.get("/admin/models/?state=unpriced").text
    edit(panel_anywhere_admin, number, (provider, "up-fast"), price_kind="none")
    (price,) = prices_of(app, number)
    assert price.valid_until_at is not None
    assert ">fast</span></a>" in panel_anywhere_admin.get("/admin/models/?state=unpriced").text
    assert app.extensions["gateway"].catalog.snapshot().models["fast"].deployments[0].price is None
    edit(panel_anywhere_admin, number, (provider, "up-fast"), price_kind="free")
    assert [row.is_free for row in prices_of(app, number)] == [False, True]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"input_rate": "0", "output_rate": "0"}, "A price of zero must be said: choose Free."),
        ({"input_rate": "1000001"}, "No price may be higher than 1,000,000 USD."),
        ({"request_nanousd": "1000001"}, "No price may be higher than 1,000,000 USD."),
        ({"tiers": "above much"}, "Write tiers as 200000: input=2.5 output=15"),
        ({"tiers": "5: input=1; 5: input=2"}, "Write tiers as"),
        ({"tiers": "5: input=-1"}, "Write tiers as"),
        ({"reasoning_rate": "-1"}, "This cannot be negative."),
        ({"image_nanousd": "dear"}, "This is not an amount in USD"),
        ({"cache_creation_1h_rate": "0.0000000001"}, "Nine decimals are the finest"),
    ],
)
def test_a_price_that_cannot_be_is_refused(panel_admin: Browser, data: dict[str, Any], said: str) -> None:
    answer = panel_admin.post("/admin/models/new/", form((add_provider(panel_admin.app), "up"), **data))
    assert answer.status_code == 422
    assert said in answer.text
    assert named(panel_admin.app, "fast") is None


def test_a_model_without_a_price_says_so(panel_admin: Browser) -> None:
    make(panel_admin, (add_provider(panel_admin.app), "up"), price_kind="none")
    row = named(panel_admin.app, "fast")
    assert isinstance(row, Model)
    assert "No price was ever set." in text_of(panel_admin, f"/admin/models/details/?id={row.id}")
