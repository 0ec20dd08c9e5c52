"""Budgets as a caller meets them: what is held, what is refused and in which words, on both databases."""

import pytest
from sqlalchemy.orm import Session

from models import ApiKey, Budget, BudgetWindow, User
from services import budgets, periods
from services.audit import Actor
from services.errors import InvalidRequest, NotFound
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, chat, last, rows, with_upstream
from utils import clock

ME = Actor("tests")


@pytest.fixture
def fast(app, upstream):
    return with_upstream(app, upstream)


def engine(app):
    return app.extensions["gateway"].engine


def limit(app, amount, unit="usd", period="total", **scope):
    kind, owner = next(iter(scope.items()), ("user", "api-tokens"))
    budgets.put(engine(app), ME, scope=kind, owner=str(owner), unit=unit, limit=str(amount), period=period)
    app.extensions["gateway"].catalog.refresh()


def post(app, body=None, path="/v1/chat/completions"):
    return app.test_client().post(path, json=body or chat("one two three", max_tokens=100), headers=AUTH, buffered=True)


def windows(app):
    with Session(engine(app)) as session:
        return [
            (row.spent_amount, row.held_amount) for row in session.query(BudgetWindow).order_by(BudgetWindow.budget_id)
        ]


def test_a_call_within_its_budget_is_charged_what_it_cost(fast):
    limit(fast, "0.01")
    assert post(fast).status_code == 200
    assert windows(fast) == [(3 * 150 + 5 * 600, 0)]
    assert_books_agree(engine(fast))


def test_a_spent_total_is_402_with_all_numbers(fast, upstream):
    limit(fast, "0.00001")
    response = post(fast)
    error = response.json["error"]
    assert (response.status_code, error["type"], error["code"]) == (402, "insufficient_quota", "budget_exceeded")
    assert "user `api-tokens`" in error["message"]
    assert "limit $0.00001, spent $0.00, held by calls under way $0.00, needed $0.0000" in error["message"]
    assert "does not reset" in error["message"]
    assert response.headers["x-should-retry"] == "false"
    assert (rows(engine(fast)), upstream.served) == ([], [])


def test_a_spent_period_is_429_and_says_when_it_resets(fast, upstream):
    limit(fast, 400, "tokens", "day")
    upstream.will(usage={"prompt_tokens": 5, "completion_tokens": 385})
    assert post(fast).status_code == 200
    response = post(fast)
    assert response.status_code == 429
    assert "budget of this day" in response.json["error"]["message"]
    assert "resets at 20" in response.json["error"]["message"]
    assert 0 < int(response.headers["retry-after"]) <= 86_400
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(("unit", "amount"), [("tokens", 100), ("usd", "0.00001")])
@pytest.mark.parametrize("own", [{"max_tokens": 100}, {}], ids=["its own output limit", "none"])
def test_what_no_period_can_take_is_402_and_does_not_say_come_again(fast, unit, amount, own):
    limit(fast, amount, unit, "day")
    response = post(fast, chat("word " * 40, **own))
    assert (response.status_code, response.json["error"]["code"]) == (402, "budget_exceeded")
    message = response.json["error"]["message"]
    assert "The budget of this day of user `api-tokens`" in message
    assert message.endswith("It will never fit.")
    assert ("needed at least" in message) == (not own)
    assert "retry-after" not in response.headers
    assert response.headers["x-should-retry"] == "false"


def test_the_budget_that_can_never_take_the_call_is_the_one_that_is_named(fast, upstream):
    limit(fast, 400, "tokens", "hour")
    upstream.will(usage={"prompt_tokens": 5, "completion_tokens": 5_000})
    assert post(fast).status_code == 200
    limit(fast, 120, "tokens", "day")
    response = post(fast)
    assert response.status_code == 402
    assert "limit 120 tokens" in response.json["error"]["message"]


def test_a_call_without_an_output_limit_may_come_again_when_held_money_is_back(fast):
    """The most it could have been sent with is not what it needs."""
    limit(fast, 400, "tokens", "day")
    with Session(engine(fast)) as session, session.begin():
        budget = session.query(Budget).one()
        start = periods.start_s("day", "UTC", clock.now_s())
        session.add(BudgetWindow(budget_id=budget.id, period_start=start, held_amount=399))
    response = post(fast, chat("one two three"))
    assert (response.status_code, response.headers["x-should-retry"]) == (429, "true")
    assert response.headers["retry-after"] == "1"


def test_money_that_is_only_held_may_come_back_at_once(fast):
    limit(fast, 400, "tokens")
    with Session(engine(fast)) as session, session.begin():
        session.add(BudgetWindow(budget_id=session.query(Budget).one().id, period_start=0, held_amount=300))
    response = post(fast)
    assert (response.status_code, response.headers["x-should-retry"], response.headers["retry-after"]) == (
        402,
        "true",
        "1",
    )
    assert "held by calls under way 300 tokens" in response.json["error"]["message"]


def test_a_budget_of_a_key(fast):
    with Session(engine(fast)) as session:
        key = session.query(ApiKey).filter_by(kind="environment").one()
    limit(fast, 1, "tokens", key=key.id)
    assert f"key `{key.hint}` (#{key.id}) cannot" in post(fast).json["error"]["message"]


def test_both_budgets_must_fit(fast):
    limit(fast, 100, "usd")
    with Session(engine(fast)) as session:
        key_id = session.query(ApiKey).filter_by(kind="environment").one().id
    limit(fast, 100, "usd", key=key_id)
    limit(fast, 10_000, "tokens", "month")
    assert post(fast).status_code == 200
    assert windows(fast) == [(3450, 0), (3450, 0), (8, 0)]
    assert_books_agree(engine(fast))


def test_without_a_budget_no_limit_is_put_in(fast, upstream):
    response = post(fast, chat())
    assert "x-gateway-max-output-tokens" not in response.headers
    assert upstream.served[0].body.keys() == {"model", "messages"}


def test_with_a_budget_a_call_without_a_limit_gets_one_and_is_told(fast, upstream):
    limit(fast, 1)
    response = post(fast, chat())
    assert response.headers["x-gateway-max-output-tokens"] == "4096"
    assert upstream.served[0].body["max_tokens"] == 4096
    assert "x-gateway-max-output-tokens" not in post(fast, chat(max_completion_tokens=7)).headers
    assert upstream.served[1].body.get("max_tokens") is None


def test_the_limit_is_the_models_own(app, upstream):
    add_model(app, add_provider(app, upstream), max_output_tokens=123)
    limit(app, 1)
    assert post(app, chat()).headers["x-gateway-max-output-tokens"] == "123"


@pytest.mark.parametrize(("unit", "amount"), [("usd", "0.0003"), ("tokens", 1000)])
def test_the_limit_is_what_the_budget_still_affords(fast, upstream, unit, amount):
    limit(fast, amount, unit)
    response = post(fast, chat("one two three"))
    assert response.status_code == 200
    given = int(response.headers["x-gateway-max-output-tokens"])
    assert 0 < given < 1000
    assert upstream.served[0].body["max_tokens"] == given
    limit(fast, 20, unit="tokens", period="hour")
    assert post(fast, chat("one two three")).status_code == 402


def test_a_model_with_a_small_window_bounds_the_input(app, upstream):
    add_model(app, add_provider(app, upstream), context_window=50)
    limit(app, 100, "tokens")
    assert post(app, chat("x" * 5000, max_tokens=50)).status_code == 200


def test_another_time_zone_forgets_nothing_that_is_spent(fast, monkeypatch):
    now = 1_798_761_600 + 3_600.0  # an hour into 2027: in Sao Paulo it is still 2026
    monkeypatch.setattr(clock, "now_s", lambda: now)

    def move_to(timezone, limit=100):
        change = {"scope": "user", "owner": "api-tokens", "unit": "tokens", "limit": str(limit), "period": "day"}
        budgets.put(engine(fast), ME, **change, timezone=timezone)

    move_to("UTC")
    move_to("America/Sao_Paulo")
    move_to("UTC")  # nothing is spent yet
    with Session(engine(fast)) as session, session.begin():
        budget = session.query(Budget).one()
        session.add(BudgetWindow(budget_id=budget.id, period_start=1_798_761_600, spent_amount=99, held_amount=1))
    with pytest.raises(InvalidRequest, match="time zone stays"):
        move_to("America/Sao_Paulo")
    move_to("Africa/Abidjan", 50)  # its day began at the same moment
    move_to(None, 40)
    (state,) = budgets.states(engine(fast), [session.query(Budget).one()])
    assert (state.budget.timezone, state.budget.limit_amount, state.spent) == ("Africa/Abidjan", 40, 99)
    now += 86_400
    move_to("America/Sao_Paulo")


def test_free_models_count_tokens_but_not_money(app, upstream):
    add_model(app, add_provider(app, upstream), price={"input_rate": 0, "output_rate": 0})
    limit(app, 0, "usd")
    limit(app, 1000, "tokens")
    assert post(app).status_code == 200
    assert last(engine(app)).cost_nanousd == 0
    assert windows(app) == [(8, 0)]


def test_n_choices_are_held_n_times(fast):
    limit(fast, 1200, "tokens")
    assert post(fast, chat(max_tokens=1000)).status_code == 200
    assert post(fast, chat(max_tokens=1000, n=2)).status_code == 402
    assert post(fast, chat(max_tokens=2, n=128)).status_code == 200


def test_completions_default_to_sixteen_tokens(fast, upstream):
    limit(fast, 1200, "tokens")
    response = post(fast, {"model": "fast", "prompt": ["a", "b"]}, "/v1/completions")
    assert response.headers["x-gateway-max-output-tokens"] == "16"
    assert upstream.served[0].body["max_tokens"] == 16
    assert post(fast, {"model": "fast", "prompt": ["a"] * 10, "max_tokens": 200}, "/v1/completions").status_code == 402


def test_embeddings_are_bounded_by_their_input(fast):
    limit(fast, 100, "tokens")
    assert post(fast, {"model": "fast", "input": "one"}, "/v1/embeddings").status_code == 200
    assert post(fast, {"model": "fast", "input": "x" * 200}, "/v1/embeddings").status_code == 402


def image(**detail):
    return {
        "model": "fast",
        "max_tokens": 1,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 90_000, **detail}},
                ],
            }
        ],
    }


def test_pictures_are_bounded_by_their_kind_not_their_bytes(fast):
    limit(fast, 10_000, "tokens")
    assert post(fast, image(detail="low")).status_code == 200
    assert post(fast, image()).status_code == 402
    limit(fast, 60_000, "tokens")
    assert post(fast, image()).status_code == 200


def test_sounds_are_bounded_by_their_length(fast):
    limit(fast, 10_000, "tokens")
    body = {
        "model": "fast",
        "max_tokens": 1,
        "messages": [
            {
                "role": "user",
                "content": [{"type": "input_audio", "input_audio": {"data": "A" * 90_000, "format": "mp3"}}],
            }
        ],
    }
    assert post(fast, body).status_code == 200


def test_a_file_has_no_bound_but_the_models_window(app, upstream):
    provider = add_provider(app, upstream)
    add_model(app, provider)
    add_model(app, provider, "windowed", context_window=500)
    body = {
        "model": "fast",
        "max_tokens": 1,
        "messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}],
    }
    assert post(app, body).status_code == 200, "without a budget nothing needs a bound"
    limit(app, 1000, "tokens")
    assert post(app, body).json["error"]["code"] == "unsupported_content"
    assert post(app, body | {"model": "windowed"}).status_code == 200


def test_the_hold_is_taken_at_the_dearest_candidate(app, upstream):
    provider = add_provider(app, upstream)
    add_model(app, provider, "dear", price={"input_rate": 10**11, "output_rate": 10**11}, upstream_model="dear")
    add_model(app, provider, "fast", fallbacks=["dear"])
    limit(app, "0.009")
    assert post(app).status_code == 402, "a hundred tokens of the fallback would cost a cent"
    limit(app, "0.1")
    assert post(app).status_code == 200
    assert last(engine(app)).cost_nanousd == 3450


def test_a_lying_provider_is_booked_in_full_and_marked(fast, upstream):
    limit(fast, 500, "tokens")
    upstream.will(usage={"prompt_tokens": 5, "completion_tokens": 5000})
    assert post(fast).status_code == 200
    assert last(engine(fast)).is_overrun
    assert windows(fast) == [(5005, 0)]
    assert post(fast).status_code == 402
    assert_books_agree(engine(fast))


def test_a_new_period_starts_by_itself(fast, upstream, monkeypatch):
    limit(fast, 400, "tokens", "day")
    upstream.will(usage={"prompt_tokens": 5, "completion_tokens": 385})
    assert post(fast).status_code == 200
    assert post(fast, chat("x", max_tokens=100)).status_code == 429
    now = __import__("time").time()
    monkeypatch.setattr("utils.clock.now_s", lambda: now + 86_400)
    assert post(fast, chat("x", max_tokens=100)).status_code == 200
    assert len(windows(fast)) == 2


def test_a_budget_deleted_under_way_stands_in_nobodys_way(fast):
    limit(fast, 1, "tokens")
    assert post(fast).status_code == 402
    with Session(engine(fast)) as session, session.begin():
        session.query(Budget).delete()
    fast.extensions["gateway"].catalog._checked_s = float("inf")  # the snapshot has not noticed yet
    response = post(fast, chat())
    assert response.status_code == 200
    assert "x-gateway-max-output-tokens" not in response.headers


def test_prepaid_tokens_are_used_up_but_not_by_free_models(app, upstream):
    add_model(app, add_provider(app, upstream))
    with Session(engine(app)) as session, session.begin():
        user = session.query(User).filter_by(username="api-tokens").one()
        session.add(
            Budget(scope="user", scope_id=user.id, unit="tokens", period="total", limit_amount=300, is_prepaid=True)
        )
    app.extensions["gateway"].catalog.refresh()
    assert post(app, chat(model="echo")).status_code == 200
    assert windows(app) == []
    assert post(app).status_code == 200
    assert windows(app) == [(8, 0)]
    response = post(app, chat("x" * 400))
    assert response.status_code == 402
    assert "token balance of user `api-tokens`" in response.json["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"scope": "user", "owner": "nobody", "unit": "usd", "limit": "1"}, NotFound),
        ({"scope": "key", "owner": "99", "unit": "usd", "limit": "1"}, NotFound),
        ({"scope": "planet", "owner": "1", "unit": "usd", "limit": "1"}, InvalidRequest),
        ({"scope": "user", "owner": "admin", "unit": "usd", "limit": "-1"}, InvalidRequest),
        ({"scope": "user", "owner": "admin", "unit": "usd", "limit": "many"}, InvalidRequest),
        ({"scope": "user", "owner": "admin", "unit": "tokens", "limit": "1e40"}, InvalidRequest),
        ({"scope": "user", "owner": "admin", "unit": "tokens", "limit": "NaN"}, InvalidRequest),
        ({"scope": "user", "owner": "admin", "unit": "usd", "limit": "1", "timezone": "Mars/Base"}, InvalidRequest),
    ],
)
def test_budgets_that_cannot_be(lite, fields, kind):
    with pytest.raises(kind):
        budgets.put(engine(lite), ME, period="total", **fields)


def test_budgets_are_shown_with_their_numbers(lite):
    limit(lite, 1, "usd", "month", user="admin")
    limit(lite, 5000, "tokens", user="admin")
    shown = lite.test_cli_runner().invoke(args=["budgets", "show"]).output.splitlines()[1:]
    assert shown[0].split()[-3:] == ["$1.00", "$0.00", "$0.00"]
    assert [word for word in shown[1].split() if word != "tokens"][-3:] == ["5,000", "0", "0"]
    first, second = budgets.listed(engine(lite))
    assert (first["limit"], first["unit"], first["period"], first["spent"]) == (10**9, "usd", "month", 0)
    assert (second["limit"], second["unit"], second["period"], second["held"]) == (5000, "tokens", "total", 0)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/v1/chat/completions", chat("one", max_tokens=5000, max_completion_tokens=1), id="chat"),
        pytest.param(
            "/v1/completions",
            {"model": "fast", "prompt": "one", "max_tokens": 5000, "max_completion_tokens": 1},
            id="completions",
        ),
    ],
)
def test_of_two_output_limits_the_larger_one_is_held(fast, upstream, path, body):
    """A second limit, which the upstream does not know, must not make the hold smaller than what may be spent."""
    limit(fast, 1000, "tokens")
    response = post(fast, body, path)
    assert response.status_code == 402
    assert "needed 5," in response.json["error"]["message"]
    assert upstream.served == []
