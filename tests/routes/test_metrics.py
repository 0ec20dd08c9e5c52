"""What Prometheus reads: the same figures as the books, of all workers, and nothing that a caller could plant."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from services import metrics as module
from services.metrics import FAMILIES, MOST_SERIES, Metrics
from tests.callers import bearer
from tests.helpers import AUTH
from tests.people import ask, number_of, token
from utils import jsonx

SECRET = "scraper-0123456789abcdef"
CHAT = {"model": "echo", "messages": [{"role": "user", "content": "count me"}]}


@pytest.fixture
def scraped(make_app, database):
    return make_app(database, METRICS_TOKEN=SECRET)


def scrape(app, **headers):
    return app.test_client().get("/metrics", headers=headers or {"authorization": f"Bearer {SECRET}"})


def samples(raw):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(raw.decode())
        for sample in family.samples
    }


def value(found, name, **labels):
    return found[name, *sorted(labels.items())]


def test_calls_are_counted_as_they_are_booked(scraped):
    client = scraped.test_client()
    for _ in range(3):
        assert client.post("/v1/chat/completions", headers=AUTH, buffered=True, json=CHAT).status_code == 200
    assert client.post("/v1/chat/completions", headers=AUTH, buffered=True, json=CHAT | {"stream": True}).data
    assert (
        client.post("/v1/chat/completions", headers=AUTH, buffered=True, json=CHAT | {"model": "no-such"}).status_code
        == 400
    )
    assert client.post("/v1/chat/completions", headers=bearer("wrong"), buffered=True, json=CHAT).status_code == 401
    found = samples(scrape(scraped).data)
    route = "/v1/chat/completions"
    assert value(found, "http_requests_total", method="POST", route=route, status="200") == 4
    assert value(found, "http_requests_total", method="POST", route=route, status="400") == 1
    assert value(found, "http_requests_total", method="POST", route=route, status="401") == 1
    assert value(found, "http_request_duration_seconds_count", route=route) == 6
    assert value(found, "errors_total", code="model_not_found") == 1
    assert value(found, "llm_requests_total", provider="echo", model="echo", status="ok") == 4
    assert value(found, "llm_request_duration_seconds_count", provider="echo", model="echo") == 4
    assert value(found, "llm_streaming_chunks_total", provider="echo", model="echo") >= 1
    prompt, made = (value(found, f"tokens_{kind}_total", model="echo") for kind in ("prompt", "completion"))
    in_books = sum(row["input_tokens"] + row["output_tokens"] for row in booked(scraped))
    assert value(found, "tokens_used_total", model="echo") == prompt + made == in_books
    named = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "echo", "gen_ai_request_model": "echo"}
    assert value(found, "gen_ai_client_token_usage_sum", **named, gen_ai_token_type="input") == prompt
    assert value(found, "gen_ai_client_operation_duration_seconds_count", **named, error_type="") == 4
    assert value(found, "gen_ai_server_time_to_first_token_seconds_count", **named) == 4


def booked(app):
    with app.extensions["gateway"].engine.connect() as connection:
        return connection.exec_driver_sql("SELECT input_tokens, output_tokens FROM usage").mappings().all()


def test_every_name_that_dashboards_know_is_there(scraped):
    admin = token(scraped)
    made = ask(scraped, "POST", "/api/v1/dialogs", admin, json={"title": "one", "model_name": "echo"})
    path = f"/api/v1/dialogs/{made.json['id']}/messages/sync"
    assert ask(scraped, "POST", path, admin, json={"content": "hello"}).status_code == 201
    scraped.test_client().get("/nowhere", buffered=True)
    found = {name for name, *_labels in samples(scrape(scraped).data)}
    for name in (
        *("http_requests_total", "http_request_duration_seconds_bucket", "tokens_used_total", "tokens_prompt_total"),
        *("tokens_completion_total", "llm_requests_total", "llm_request_duration_seconds_bucket", "errors_total"),
        *("dialogs_created_total", "messages_sent_total", "active_users"),
    ):
        assert name in found, name


def test_balances_and_active_users_come_from_the_database(scraped):
    admin = token(scraped)
    ask(scraped, "POST", "/users/create", admin, json={"username": "ana", "password": "correct horse battery"})
    user_id = number_of(scraped, "ana")
    given = ask(scraped, "POST", f"/api/v1/admin/users/{user_id}/tokens", admin, json={"amount": 700})
    assert given.status_code == 200, given.text
    scraped.extensions["gateway"].gauges._until_s = 0.0
    left = value(samples(scrape(scraped).data), "token_balance", user_id=str(user_id))
    assert left >= 700


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": f"Bearer {SECRET}"}, 200),
        ({"authorization": "Bearer wrong-wrong-wrong-wrong"}, 401),
        ({"authorization": f"Bearer {SECRET[:-1]}"}, 401),
        ({"authorization": "Bearer \xff\xfe"}, 401),
        (AUTH, 401),  # a key of the API
        ({"x-forwarded-for": "1.2.3.4"}, 401),
    ],
)
def test_only_the_scraper_and_admins_read_it(scraped, headers, status):
    assert scrape(scraped, **headers).status_code == status


def test_an_admin_reads_it_with_a_token(scraped):
    assert ask(scraped, "GET", "/metrics", token(scraped)).status_code == 200


def test_without_its_setting_no_empty_token_opens_it(make_app, sqlite_database):
    app = make_app(sqlite_database)
    for given in ("Bearer ", "Bearer", "Basic Og=="):
        assert scrape(app, authorization=given, **{"x-forwarded-for": "1.2.3.4"}).status_code == 401


def test_it_is_there_while_the_database_is_away(scraped, monkeypatch):
    here = scraped.extensions["gateway"]
    assert scraped.test_client().get("/health/live", buffered=True).data
    here.engine.dispose()
    monkeypatch.setattr(here.engine, "connect", _away)
    answer = scrape(scraped)
    assert answer.status_code == 200
    assert b"http_requests_total" in answer.data
    assert b"token_balance" not in answer.data


def _away(*_args, **_options):
    raise OperationalError("SELECT 1", {}, Exception("away"))


def test_what_a_caller_sends_is_in_no_label(scraped):
    client = scraped.test_client()
    planted = 'planted\n# HELP x\u202e{}"\\'
    client.post("/v1/chat/completions", headers=AUTH, buffered=True, json=CHAT | {"model": planted})
    client.get(f"/planted/{planted}".encode("unicode_escape").decode())
    client.open("/v1/models", method="PLANTED", headers=AUTH)
    assert b"planted" not in scrape(scraped).data.lower()


def test_many_workers_are_one(tmp_path):
    workers = [Metrics(tmp_path) for _ in range(4)]

    def work(metrics):
        for number in range(500):
            metrics.request("GET", "/", 200, number / 1000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, workers * 2))
    for metrics in workers[:3]:
        metrics.flush()
    raw = workers[3].text()
    found = samples(raw)
    assert value(found, "http_requests_total", method="GET", route="/", status="200") == 4000
    assert value(found, "http_request_duration_seconds_count", route="/") == 4000
    assert value(found, "http_request_duration_seconds_bucket", route="/", le="0.25") == 8 * 251
    assert value(found, "http_request_duration_seconds_sum", route="/") == pytest.approx(8 * 499 * 500 / 2 / 1000)


def test_scrapes_and_counts_at_once_lose_nothing(tmp_path):
    metrics, stop = Metrics(tmp_path), threading.Event()
    seen = []

    def scraper():
        while not stop.is_set():
            seen.append(value(samples(metrics.text()), "messages_sent_total"))

    metrics.count("messages_sent_total")
    thread = threading.Thread(target=scraper)
    thread.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: [metrics.count("messages_sent_total") for _ in range(2_000)], range(4)))
    stop.set()
    thread.join()
    assert seen == sorted(seen)
    assert value(samples(metrics.text()), "messages_sent_total") == 8_001


def test_a_full_disk_costs_no_count(tmp_path, monkeypatch):
    metrics = Metrics(tmp_path)
    metrics.count("messages_sent_total")
    with monkeypatch.context() as patched:
        patched.setattr(module.Path, "write_bytes", _full)
        with pytest.raises(OSError, match="No space"):
            metrics.flush()
        assert value(samples(metrics.text()), "messages_sent_total") == 1
    metrics.flush()
    assert value(samples(Metrics(tmp_path).text()), "messages_sent_total") == 1


def _full(_path, _data):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"messages_sent_total": 5}', b"\xff" * 100])
def test_a_broken_file_of_another_worker_is_passed_over(tmp_path, content, caplog):
    metrics = Metrics(tmp_path)
    metrics.count("messages_sent_total")
    metrics.flush()
    (metrics._folder / "1-broken.json").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert value(samples(metrics.text()), "messages_sent_total") == 1
    assert "cannot be read" in caplog.text


def test_servers_that_are_gone_leave_nothing(tmp_path):
    (tmp_path / "999999999").mkdir()
    (tmp_path / "999999999" / "1-old.json").write_bytes(jsonx.dumps({"messages_sent_total": [[[], 7]]}))
    metrics = Metrics(tmp_path)
    metrics.count("messages_sent_total")
    metrics.flush()
    assert [path.name for path in tmp_path.iterdir()] == [metrics._folder.name]


def test_one_series_too_many_is_counted_with_the_others(tmp_path):
    metrics = Metrics(tmp_path)
    for number in range(MOST_SERIES + 50):
        metrics.count("errors_total", f"code-{number}")
        metrics.request("GET", f"/{number}", 200, 0.1)
    found = samples(metrics.text())
    assert value(found, "errors_total", code="other") == 50
    assert value(found, "http_request_duration_seconds_count", route="other") == 50
    assert sum(key[0] == "errors_total" for key in found) == MOST_SERIES + 1


def test_families_are_what_their_names_say():
    for family in FAMILIES.values():
        assert family.name.endswith("_total") == (not family.bounds), family.name
        assert list(family.bounds) == sorted(family.bounds)
