"""The scripts an operator asks whether all is well."""

import http.server
import os
import shutil
import subprocess
import threading

import pytest

from tests.fakes.served import ROOT

GOOD = {"/health": '{"status":"healthy"}', "/health/live": '{"status":"ok"}', "/health/ready": '{"status":"ready"}'}


def run(script, *arguments, **environ):
    given = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run(
        [str(ROOT / "deploy" / script), *arguments], env=given, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def gateway():
    """A server whose answers by path a test may change; the value None is 503."""
    answers, hosts = dict(GOOD), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            hosts.append(self.headers["host"])
            text = answers.get(self.path)
            self.send_response(503 if text is None else 200)
            self.end_headers()
            self.wfile.write((text or '{"status":"unhealthy"}').encode())

        def log_message(self, *_words):
            """Nothing on the screen."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield answers, hosts, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_signs_of_life_are_looked_at_one_by_one(gateway):
    answers, hosts, url = gateway
    done = run("verify-healthcheck.sh", f"{url}/", HOST_HEADER="llm.example.com")
    assert (done.returncode, done.stdout.split()) == (0, ["ok", "/health", "ok", "/health/live", "ok", "/health/ready"])
    assert set(hosts) == {"llm.example.com"}
    answers["/health/ready"] = None
    done = run("verify-healthcheck.sh", url)
    assert done.returncode == 1
    assert 'FAILED  /health/ready: {"status":"unhealthy"} 503' in done.stdout
    assert f"{url} is not well" in done.stderr
    answers["/health"] = '{"status":"odd"}'
    assert "FAILED  /health: " in run("verify-healthcheck.sh", url).stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_gateway_that_is_not_there_is_said_to_be_so():
    done = run("verify-healthcheck.sh", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stdout.count("FAILED") == 3


def test_without_an_engine_nothing_about_the_image_is_claimed(tmp_path):
    done = run("verify-docker.sh", PATH=f"{tmp_path}:/usr/bin:/bin", DOCKER_HOST=f"unix://{tmp_path}/none")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no Docker engine answers" in done.stderr
