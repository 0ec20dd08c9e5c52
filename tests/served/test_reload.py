"""Models are read anew by one request, in every worker."""

import json
import time
import urllib.request

from sqlalchemy import text

from tests.conftest import PASSWORD, TOKEN
from tests.helpers import add_model, add_provider, chat
from tests.races.conftest import ask

WORKERS = 3
ROUNDS = 30  # new connections, which the workers share out among themselves
PROMISED_S = 2.0


def post(served, path, body, token=""):
    url = f"http://127.0.0.1:{served.port}{path}"
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
        return json.load(answer)


def test_every_worker_reads_anew(app, database, serve, upstream):
    """Whatever they had seen: here the number that tells them of changes was set back."""
    served = serve(DATABASE_URL=database, WORKER_CLASS="gthread", WEB_CONCURRENCY=str(WORKERS))
    here = app.extensions["gateway"]
    assert {ask(served, chat(model="echo"), TOKEN)[0] for _ in range(ROUNDS)} == {200}
    with here.engine.begin() as connection:
        before = connection.execute(text("SELECT version FROM catalog_version")).scalar_one()
    add_model(app, add_provider(app, upstream), "fresh")
    with here.engine.begin() as connection:  # as if nobody had been told
        connection.execute(text("UPDATE catalog_version SET version = :n"), {"n": before})
    token = post(served, "/login", {"username": "admin", "password": PASSWORD})["access_token"]
    answer = post(served, "/api/v1/admin/models/reload", {}, token)
    assert answer["status"] == "ok"
    assert "fresh" in answer["models"]
    assert answer["message"] == f"Reloaded {len(answer['models'])} models"
    time.sleep(PROMISED_S)
    assert {ask(served, chat(model="fresh"), TOKEN)[0] for _ in range(ROUNDS)} == {200}
