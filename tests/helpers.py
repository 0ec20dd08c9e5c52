"""Small words that tests use: bodies, rows, a provider on the fake upstream."""

import re
from typing import Any

from flask import Flask
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from models import Deployment, Model, Price, Provider, UsageRecord
from services import Gateway, ledger
from tests.conftest import TOKEN
from tests.fakes.upstream import Upstream

AUTH = {"Authorization": f"Bearer {TOKEN}"}
RATES = {"input_rate": 150_000_000, "output_rate": 600_000_000}  # 0.15 and 0.60 USD per million


def chat(text: str = "Hello there", model: str = "fast", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def add_provider(
    app: Flask,
    upstream: Upstream | str,
    name: str = "fake",
    *,
    kind: str = "openai",
    credential: str = "sk-upstream-secret",
    settings: dict[str, Any] | None = None,
    **columns: Any,
) -> int:
    """A provider row that leads to the fake upstream."""
    here: Gateway = app.extensions["gateway"]
    base_url = (
        upstream
        if isinstance(upstream, str)
        else upstream.base_url
        if kind == "openai"
        else f"http://127.0.0.1:{upstream.port}"
    )
    with Session(here.engine) as session, session.begin():
        sealed = here.sealer.seal(credential)
        row = Provider(name=name, kind=kind, base_url=base_url, credential=sealed, settings=settings or {}, **columns)
        session.add(row)
        session.flush()
        return row.id


def add_model(
    app: Flask,
    provider_id: int,
    name: str = "fast",
    *,
    price: dict[str, int] | None = RATES,
    upstream_model: str = "gpt-4o-mini",
    **columns: Any,
) -> int:
    """A public model with one deployment; `price` None = nobody said."""
    here: Gateway = app.extensions["gateway"]
    with Session(here.engine) as session, session.begin():
        row = Model(name=name, fallbacks=columns.pop("fallbacks", []), **columns)
        row.deployments.append(Deployment(provider_id=provider_id, upstream_model=upstream_model))
        if price is not None:
            row.prices.append(Price(source="test", is_free=price.get("input_rate") == 0, **price))
        session.add(row)
        session.flush()
        model_id = row.id
    here.catalog.refresh()
    return model_id


def with_upstream(app: Flask, upstream: Upstream, **provider: Any) -> Flask:
    """The app with model `fast` on the fake upstream."""
    add_model(app, add_provider(app, upstream, **provider))
    return app


def rows(engine: Engine) -> list[UsageRecord]:
    """All usage rows, oldest first."""
    with Session(engine) as session:
        return list(session.scalars(select(UsageRecord).order_by(UsageRecord.id)))


def last(engine: Engine) -> UsageRecord:
    return rows(engine)[-1]


def open_holds(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM holds")).scalar_one())


def assert_books_agree(engine: Engine) -> None:
    """No open hold, and every balance is what the ledger says."""
    report = ledger.verify(engine)
    assert report.differences == ()
    assert report.open_holds == 0


def squeezed(table: str) -> list[str]:
    """The lines of a table that a command printed, with two spaces between cells, however wide they are."""
    return [re.sub(r" {2,}", "  ", line) for line in table.splitlines()]
