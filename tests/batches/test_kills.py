"""Workers killed with SIGKILL while they make the calls of a batch: as many results and usage rows as lines."""

import json
import os
import random
import signal
import time
from collections import Counter

import openai
import pytest

from models_batches import Batch
from tests.batches.helpers import jsonl, line
from tests.conftest import TOKEN
from tests.helpers import assert_books_agree, rows, with_upstream
from tests.races.conftest import SOAK, wait_until_clean

LINES, KILLS = (10_000, 12) if SOAK else (240, 3)
WORKERS, AT_ONCE = 2, 8
END_S = 1800 if SOAK else 120
PLAN = '{{"words": 3, "first_s": 0.02}}'


@pytest.mark.timeout(END_S + 120)
@pytest.mark.parametrize("worker_class", ["gevent", "gthread"] if SOAK else ["gevent"])
def test_a_batch_survives_the_death_of_its_workers(app, database, serve, upstream, worker_class):
    engine = app.extensions["gateway"].engine
    with_upstream(app, upstream)
    served = serve(
        DATABASE_URL=database,
        WORKER_CLASS=worker_class,
        WEB_CONCURRENCY=str(WORKERS),
        BATCH_CONCURRENCY=str(AT_ONCE),
        LEASE_CALLS_PER_S="1",
    )
    with openai.OpenAI(base_url=served.base_url, api_key=TOKEN, max_retries=5) as client:
        content = jsonl(*(line(number, f"call {number} {PLAN}") for number in range(LINES)))
        file = client.files.create(file=("in.jsonl", content), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        chance, kills, end = random.Random(7), 0, time.monotonic() + END_S
        while batch.status not in ("completed", "failed") and time.monotonic() < end:
            if kills < KILLS and len(upstream.served) > (kills + 1) * LINES * 0.8 / KILLS:
                os.kill(chance.choice(served.workers()), signal.SIGKILL)
                kills += 1
            time.sleep(0.2)
            batch = client.batches.retrieve(batch.id)
        assert (batch.status, kills) == ("completed", KILLS)
        wait_until_clean(engine, 30)
        found = []
        for name in filter(None, (batch.output_file_id, batch.error_file_id)):
            found += client.files.content(name).text.splitlines()
    done = [json.loads(one) for one in found]
    names = Counter(one["custom_id"] for one in done)
    assert names == {f"line {number}": 1 for number in range(LINES)}, "each line has one result"
    counts = batch.request_counts
    assert (counts.total, counts.completed + counts.failed) == (LINES, LINES)
    booked = rows(engine)
    assert Counter(row.custom_id for row in booked) == names, "each line has one usage row"
    assert {row.batch_id for row in booked} == {1}
    lost = [one for one in done if one["error"]]
    assert {one["error"]["code"] for one in lost} <= {"worker_lost"}
    assert len(lost) <= KILLS * AT_ONCE
    recovered = {row.custom_id for row in booked if row.outcome == "recovered"}
    assert {one["custom_id"] for one in lost} <= recovered, "what is told as lost was booked by a sweeper"
    asked = Counter(request.body["messages"][0]["content"] for request in upstream.served)
    assert max(asked.values()) == 1, "no line went out twice"
    assert_books_agree(engine)
    with engine.connect() as connection:
        assert connection.execute(Batch.__table__.select()).first().completed == LINES - len(lost)
    print(f"{LINES} lines, {kills} kills, {len(lost)} answers lost, {dict(Counter(row.state for row in booked))}")
