"""`POST /v1/explain`: what would become of a call, by the code that decides."""

import pytest
from sqlalchemy.orm import Session

from models import LimitWindow, Model
from routes.media import PATHS
from services import budgets, limits
from services.audit import Actor
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, chat, open_holds, rows, with_upstream
from tests.routes.test_media import CALLS, IDS, post

ME = Actor("tests")


@pytest.fixture
def fast(app, upstream):
    return with_upstream(app, upstream)


def gateway(app):
    return app.extensions["gateway"]


def budget(app, amount, unit="usd", period="total", scope="user", owner="api-tokens"):
    here = gateway(app)
    budgets.put(here.engine, ME, scope=scope, owner=owner, unit=unit, limit=amount, period=period)
    here.catalog.refresh()


def limit(app, amount, unit="requests", period="minute"):
    here = gateway(app)
    limits.put(here.engine, ME, scope="user", owner="api-tokens", unit=unit, limit=amount, period=period)
    here.catalog.refresh()


def explain(app, body, status=200):
    answer = app.test_client().post("/v1/explain", json=body, headers=AUTH)
    assert answer.status_code == status, answer.text
    return answer.get_json()


def test_it_tells_route_price_hold_budgets_limits_and_the_decision(fast, upstream):
    budget(fast, "1.5", period="month")
    budget(fast, "1000", "tokens", scope="model", owner="fast")
    limit(fast, 10)
    told = explain(fast, chat("one two three", max_tokens=20))
    assert told["decision"] == {"is_admitted": True}
    (route,) = told["route"]
    assert (route["provider"], route["upstream_model"]) == ("fake", "gpt-4o-mini")
    assert (route["price"]["input_usd_per_million"], route["price"]["output_usd_per_million"]) == ("0.15", "0.6")
    hold = told["hold"]
    assert (hold["output_tokens"], hold["is_limit_of_caller"]) == (20, True)
    month, model = told["budgets"]
    assert (month["scope"], month["limit"], month["spent"], month["needed"]) == ("user", "1.5", "0", hold["cost_usd"])
    assert month["resets_at"].endswith("-01T00:00:00Z")
    assert (model["scope"], model["limit"]) == ("model", 1000)
    assert model["needed"] == hold["input_tokens"] + 20
    (requests,) = told["limits"]
    assert (requests["limit"], requests["used"], requests["left"], requests["period"]) == (10, 0, 10, "per minute")
    assert upstream.served == []
    assert (rows(gateway(fast).engine), open_holds(gateway(fast).engine)) == ([], 0)
    with Session(gateway(fast).engine) as session:
        assert session.query(LimitWindow).count() == 0


@pytest.mark.parametrize("is_stream", [False, True])
def test_it_says_what_the_call_then_meets(fast, is_stream):
    """The same decision, message and numbers, whatever refuses."""
    body = chat("one two three", max_tokens=20, stream=is_stream)

    def both():
        told = explain(fast, body)["decision"]
        real = fast.test_client().post("/v1/chat/completions", json=body, headers=AUTH)
        assert told["is_admitted"] == (real.status_code == 200)
        real.close()
        if not told["is_admitted"]:
            assert (told["status"], told["code"]) == (real.status_code, real.get_json()["error"]["code"])
            assert told["message"] == real.get_json()["error"]["message"]
        return told

    assert both()["is_admitted"]
    limit(fast, 1, period="day")
    assert both()["is_admitted"]
    assert both()["details"]["scope"] == "user"
    limit(fast, 100, period="day")
    budget(fast, "0.00001", period="total")
    assert both()["details"] == {
        "scope": "user",
        "unit": "usd",
        "period": "total",
        "is_prepaid": False,
        "limit": 10_000,
        "spent": 0,
        "held": 0,
        "needed": explain(fast, body)["decision"]["details"]["needed"],
        "least": explain(fast, body)["decision"]["details"]["least"],
        "resets_at": None,
    }
    assert_books_agree(gateway(fast).engine)


def test_it_shows_the_output_limit_that_a_budget_imposes(fast):
    budget(fast, "0.0001")
    told = explain(fast, chat("hello"))
    assert told["decision"]["is_admitted"]
    real = fast.test_client().post("/v1/chat/completions", json=chat("hello"), headers=AUTH)
    assert str(told["hold"]["max_output_tokens"]) == real.headers["x-gateway-max-output-tokens"]
    assert not told["hold"]["is_limit_of_caller"]


def test_a_fallback_whose_budget_is_gone_is_left_out(fast, upstream):
    add_model(fast, add_provider(fast, upstream, "other"), "spare")
    with Session(gateway(fast).engine) as session, session.begin():
        session.query(Model).filter_by(name="fast").update({"fallbacks": ["spare"]})
    gateway(fast).catalog.refresh()
    assert len(explain(fast, chat())["route"]) == 2
    budget(fast, "0", scope="model", owner="spare")
    told = explain(fast, chat(max_tokens=5))
    assert [route["provider"] for route in told["route"]] == ["fake"]
    assert told["decision"] == {"is_admitted": True}


@pytest.mark.parametrize(
    ("body", "code"),
    [(chat(model="nothing"), "model_not_found"), ({"model": "fast", "input": "x", "prompt": None}, None)],
)
def test_what_is_refused_earlier_is_told_too(fast, body, code):
    if code is None:
        explain(fast, body, 400)
        return
    told = explain(fast, body)
    assert (told["route"], told["hold"], told["decision"]["code"]) == ([], None, code)


@pytest.mark.parametrize(
    "body", [{}, [], {"model": "fast"}, {"model": "fast", "messages": [], "input": "x"}, chat(max_tokens=-1)]
)
def test_a_malformed_request_is_refused_as_the_call_would_be(fast, body):
    assert explain(fast, body, 400)["error"]["type"] == "invalid_request_error"


def test_it_needs_a_key(fast):
    assert fast.test_client().post("/v1/explain", json=chat()).status_code == 401


@pytest.mark.parametrize(("path", "body", "is_form"), CALLS, ids=IDS)
def test_the_other_endpoints_are_explained_by_name(lite, upstream, path, body, is_form):
    """Route, hold and decision of just that request, which is then admitted or refused alike."""
    with_upstream(lite, upstream)
    operation = PATHS[f"/{path}"]
    asked = f"explain?operation={operation}"
    told = post(lite, asked, body, is_form=is_form).json
    assert (told["operation"], told["model"], told["decision"]) == (operation, "fast", {"is_admitted": True})
    assert [one["provider"] for one in told["route"]] == ["fake"]
    assert told["hold"]["images"] == {"image": 2, "image_edit": 1, "image_variation": 2}.get(operation, 0)
    assert (upstream.served, rows(gateway(lite).engine)) == ([], [])
    limit(lite, 0)
    refused, real = post(lite, asked, body, is_form=is_form).json, post(lite, path, body, is_form=is_form)
    assert (refused["decision"]["status"], refused["decision"]["code"]) == (429, "rate_limit_exceeded")
    assert (real.status_code, real.json["error"]["message"]) == (429, refused["decision"]["message"])


def test_a_chat_may_be_named_too_and_nothing_else(fast):
    def told(operation, body):
        answer = fast.test_client().post(f"/v1/explain?operation={operation}", json=body, headers=AUTH)
        return answer.status_code, answer.get_json()

    assert told("chat", chat())[1]["operation"] == "chat"
    assert told("moderation", {"model": "fast", "input": "x"})[1]["operation"] == "moderation"
    for operation, body in (("fax", chat()), ("", chat())):
        status, answer = told(operation, body)
        assert (status, answer["error"]["param"]) == (400, "operation")
    assert told("chat", {"model": "fast", "prompt": "x"})[1]["error"]["param"] == "messages"
    assert told("transcription", {"model": "fast"})[1]["error"]["param"] == "body", "it takes a form"


def test_embeddings_and_completions_are_recognised(fast):
    assert explain(fast, {"model": "fast", "input": "x"})["operation"] == "embedding"
    assert explain(fast, {"model": "fast", "prompt": "x"})["operation"] == "completion"
