"""Calls to Azure, GigaChat and vendors with quirks, from the route to the ledger."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Model, Provider
from tests.fakes.gigachat import KEY, STATE, GigaChat
from tests.fakes.upstream import Upstream
from tests.helpers import AUTH, add_model, add_provider, assert_books_agree, chat, last, with_upstream

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def giga() -> Iterator[GigaChat]:
    server = GigaChat().start()
    yield server
    server.stop()


@pytest.fixture
def giga_client(lite: Flask, giga: GigaChat) -> FlaskClient:
    """A client of an app whose model `fast` is GigaChat's."""
    number = add_provider(lite, f"{giga.url}/api/v1", "giga", kind="gigachat", credential=KEY)
    with Session(lite.extensions["gateway"].engine) as session, session.begin():
        session.get_one(Provider, number).settings = giga.settings
    add_model(lite, number, upstream_model="GigaChat-2")
    return lite.test_client()


def complete(client: FlaskClient, **body: Any) -> Any:
    return client.post("/v1/chat/completions", json=chat(**body), headers=AUTH, buffered=True)


def test_a_chat_of_gigachat_is_answered_and_booked(giga_client: FlaskClient, giga: GigaChat, lite: Flask) -> None:
    answer = complete(giga_client, text="Привет")
    assert answer.status_code == 200
    body = answer.get_json()
    assert body["choices"][0]["message"]["content"] == "You said: Привет"
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    row = last(lite.extensions["gateway"].engine)
    assert (row.state, row.input_tokens, row.cache_read_input_tokens, row.output_tokens) == ("measured", 6, 2, 3)
    path, headers, sent = giga.asked[0]
    assert (path, sent["model"]) == ("/api/v1/chat/completions", "GigaChat-2")
    assert headers["authorization"].startswith("Bearer eyJ-token-0001")
    assert_books_agree(lite.extensions["gateway"].engine)


def test_a_stream_of_gigachat(giga_client: FlaskClient, lite: Flask) -> None:
    answer = complete(giga_client, stream=True, stream_options={"include_usage": True})
    text = answer.get_data(as_text=True)
    assert text.endswith("data: [DONE]\n\n")
    assert '"content":"You said: Hello there"' in text
    assert '"total_tokens":9' in text
    assert last(lite.extensions["gateway"].engine).state == "measured"


def test_a_tool_call_goes_there_and_back(giga_client: FlaskClient, giga: GigaChat) -> None:
    first = complete(giga_client, text="Rome", tools=[TOOL]).get_json()["choices"][0]
    assert first["finish_reason"] == "tool_calls"
    call = first["message"]["tool_calls"][0]
    assert call["function"] == {"name": "weather", "arguments": '{"city":"Rome"}'}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
    history = [{"role": "user", "content": "Rome"}, first["message"], result]
    answer = giga_client.post(
        "/v1/chat/completions", json={"model": "fast", "messages": history, "tools": [TOOL]}, headers=AUTH
    )
    assert answer.get_json()["choices"][0]["message"]["content"] == 'You said: {"result":"sunny"}'
    sent = giga.asked[-1][2]["messages"]
    assert sent[1]["functions_state_id"] == STATE
    assert sent[2] == {"role": "function", "name": "weather", "content": '{"result":"sunny"}'}


def test_a_token_that_ended_early_costs_its_caller_nothing(
    giga_client: FlaskClient, giga: GigaChat, lite: Flask
) -> None:
    assert complete(giga_client).status_code == 200
    giga.good.clear()
    assert complete(giga_client).status_code == 200
    assert len(giga.exchanges) == 2
    row = last(lite.extensions["gateway"].engine)
    assert (row.outcome, row.state) == ("ok", "measured")


def test_a_key_that_gets_no_token_is_the_gateways_fault_and_is_not_told(
    giga_client: FlaskClient, giga: GigaChat, lite: Flask
) -> None:
    giga.exchange_status = 401
    answer = complete(giga_client)
    assert answer.status_code == 502
    text = answer.get_data(as_text=True)
    assert "gave no token (401)" in text
    assert KEY not in text
    assert last(lite.extensions["gateway"].engine).state == "void"


def test_no_token_is_told_to_callers(giga_client: FlaskClient, giga: GigaChat) -> None:
    giga.refuses_all = True
    answer = complete(giga_client)
    assert answer.status_code == 502
    assert "eyJ" not in answer.get_data(as_text=True)


def test_embeddings_of_gigachat(giga_client: FlaskClient, lite: Flask) -> None:
    answer = giga_client.post("/v1/embeddings", json={"model": "fast", "input": ["a", "b"]}, headers=AUTH)
    assert [entry["embedding"] for entry in answer.get_json()["data"]] == [[0.5], [0.5]]
    assert last(lite.extensions["gateway"].engine).input_tokens == 4


def test_the_models_of_gigachat_are_found_with_a_token(giga_client: FlaskClient, giga: GigaChat, lite: Flask) -> None:
    here = lite.extensions["gateway"]
    with Session(here.engine) as session:
        number = session.scalars(select(Provider.id).where(Provider.name == "giga")).one()
    assert here.discovery.ask(number) is None
    with Session(here.engine) as session:
        names = set(session.scalars(select(Model.name).where(Model.managed_by == "discovery", Model.deployments.any())))
    assert names == {"GigaChat-2", "Em"}
    assert len(giga.exchanges) == 1


def test_a_deployment_of_azure_is_called_by_its_path_and_key(lite: Flask, upstream: Upstream) -> None:
    with_upstream(lite, upstream, kind="azure", credential="azure-key")
    answer = complete(lite.test_client(), text="Hello there {{}}", stream=True)
    assert "word4" in answer.get_data(as_text=True)
    served = upstream.served[-1]
    assert served.path == "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21"
    assert served.headers["api-key"] == "azure-key"
    assert "authorization" not in served.headers
    row = last(lite.extensions["gateway"].engine)
    assert (row.state, row.output_tokens) == ("measured", 5)


def test_why_azure_filtered_reaches_the_caller(lite: Flask, upstream: Upstream) -> None:
    with_upstream(lite, upstream, kind="azure")
    upstream.will(
        status=400,
        body='{"error":{"message":"filtered","type":null,"param":"prompt","code":"content_filter","status":400,'
        '"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true}}}}}',
    )
    answer = complete(lite.test_client())
    assert answer.status_code == 400
    error = answer.get_json()["error"]
    assert error["code"] == "content_filter"
    assert error["innererror"]["content_filter_result"] == {"hate": {"filtered": True}}


def test_azure_says_how_long_to_wait(lite: Flask, upstream: Upstream) -> None:
    with_upstream(lite, upstream, kind="azure")
    upstream.default.status, upstream.default.headers = 429, {"retry-after-ms": "1300"}
    answer = complete(lite.test_client())
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")


@pytest.fixture
def vendor(lite: Flask, upstream: Upstream) -> Callable[[str], FlaskClient]:
    """A client of an app whose model `fast` is at a server that speaks like this vendor."""

    def make(name: str) -> FlaskClient:
        number = add_provider(lite, upstream)
        with Session(lite.extensions["gateway"].engine) as session, session.begin():
            session.get_one(Provider, number).settings = {"vendor": name}
        add_model(lite, number)
        return lite.test_client()

    return make


def test_what_a_vendor_refuses_is_dropped_and_named(vendor: Callable[[str], FlaskClient], upstream: Upstream) -> None:
    answer = complete(vendor("mistral"), seed=7, logit_bias={"1": 1}, user="ana")
    assert answer.headers["x-gateway-dropped-params"] == "logit_bias,user"
    sent = upstream.served[-1].body
    assert sent["random_seed"] == 7
    assert not {"seed", "logit_bias", "user"} & sent.keys()


def test_thoughts_of_a_vendor_have_the_name_clients_know(
    vendor: Callable[[str], FlaskClient], upstream: Upstream
) -> None:
    upstream.will(raw_event='data: {"choices":[{"index":0,"delta":{"reasoning":"hm"},"finish_reason":null}]}\n\n')
    text = complete(vendor("groq"), stream=True).get_data(as_text=True)
    assert '"reasoning":"hm","reasoning_content":"hm"' in text
