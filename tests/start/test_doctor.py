"""`flask doctor`: every check in its states, in the order of the table in services/doctor.py."""

import json
import resource
import shutil
import socket
import ssl
import threading
from collections import namedtuple
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

import config as settings
from models import User
from services import doctor, doctor_books
from services.checkup import BAD, OK, WARN, Result
from services.spool import Spool
from tests.books.test_books import hold, settlement
from tests.conftest import PASSWORD, SECRETS, TOKEN, make_config
from tests.fakes.certificates import make_certificate
from tests.fakes.ports import free_port
from tests.helpers import add_provider
from utils import clock

EVERY = [name for name, _needs, _check in doctor.TABLE]
STRICT = {"ENVIRONMENT": "production", "PORT": "1", "LOG_LEVEL": "INFO", "RATE_LIMIT_PER_MINUTE": "1"}


def run(app, *arguments):
    """Exit status and text."""
    result = app.test_cli_runner().invoke(args=["doctor", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def looked(app, *arguments):
    """What each check found: [(state, found, mend), …] by its name."""
    status, output = run(app, "--json", *arguments)
    told = json.loads(output)
    assert (status, told["version"]) == (1 if told["state"] == BAD else 0, settings.project()[1])
    found = {}
    for one in told["checks"]:
        assert bool(one["mend"]) == (one["state"] != OK) or "not looked at" in one["found"], one
        found.setdefault(one["check"], []).append((one["state"], one["found"], one["mend"]))
    assert list(found) == EVERY
    return found


def states(found, check):
    return [state for state, _found, _mend in found[check]]


def change(app, *statements, **values):
    with Session(app.extensions["gateway"].engine) as session, session.begin():
        for statement in statements:
            session.execute(text(statement), values)


def test_all_is_well_with_what_a_start_makes(app, tmp_path):
    found = looked(app)
    unsafe = {"database"} if app.extensions["gateway"].engine.dialect.name == "postgresql" else set()
    # Postgres runs without fsync in the tests, and the tests have one password for all.
    assert {check for check in EVERY if states(found, check) != [OK]} == unsafe | {"admin"}
    status, output = run(app)
    assert status == 0
    assert "ok    migrations   up to date at " in output


def test_settings_that_cannot_be_used_are_all_named(flask):
    done = flask("doctor", ENVIRONMENT="production", SECRET_KEY="changeme", PORT="0")
    assert done.returncode == settings.EXIT_BAD_CONFIG
    assert {"  - SECRET_KEY", "  - PORT", "  - HOST"} <= {line.split(":")[0] for line in done.stderr.splitlines()}
    assert "changeme" not in done.stderr


def test_what_the_start_warns_of_and_development_that_others_reach(make_app, sqlite_database):
    found = looked(make_app(sqlite_database, VERSION="7", HOST="0.0.0.0"))["settings"]
    assert [state for state, *_ in found] == [WARN, WARN]
    assert found[0][1].startswith("VERSION is ignored")
    assert "Set ENVIRONMENT=production" in found[1][2]


@pytest.mark.parametrize(("host", "state"), [("127.0.0.1", WARN), ("192.0.2.7", BAD)])
def test_weak_secrets_are_worse_where_others_reach_the_gateway(make_app, sqlite_database, host, state):
    same = "x1" * 10
    app = make_app(
        sqlite_database, HOST=host, SECRET_KEY=same, KEY_PEPPER=same, API_AUTH_TOKENS="short", ADMIN_PASS="a"
    )
    found = looked(app)["secrets"]
    assert [line[0] for line in found] == [state] * 4 + [WARN]
    named = [said.split(":")[0].split(" ")[0] for _state, said, _mend in found]
    assert named == ["SECRET_KEY", "KEY_PEPPER", "API_AUTH_TOKENS", "ADMIN_PASS", "SECRET_KEY"]
    assert same not in str(found)


@pytest.mark.parametrize(
    ("state", "words", "environ"),
    [
        (OK, "fits", {"TRUSTED_PROXIES": "1", "PUBLIC_URL": "https://a.test"}),
        (OK, "fits", {"TRUSTED_PROXIES": "1", "PUBLIC_URL": "https://a.test", "TRUSTED_HOSTS": "b.test,a.test"}),
        (OK, "fits", {"TRUSTED_PROXIES": "1", "PUBLIC_URL": "https://x.a.test", "TRUSTED_HOSTS": ".a.test"}),
        (WARN, "past the proxy", {"TRUSTED_PROXIES": "1", "HOST": "0.0.0.0"}),
        (WARN, "TRUSTED_PROXIES=0", {"PUBLIC_URL": "https://a.test"}),
        (WARN, "without TLS", {"HOST": "192.0.2.7"}),
        (BAD, "refused with 400", {"PUBLIC_URL": "http://a.test", "TRUSTED_HOSTS": "b.test"}),
    ],
)
def test_headers_of_proxies(make_app, sqlite_database, state, words, environ):
    ((found, said, _mend),) = looked(make_app(sqlite_database, **environ))["proxy"]
    assert (found, words in said) == (state, True), said


@pytest.mark.parametrize(("days", "state"), [(60, OK), (13, WARN), (-2, BAD)])
def test_certificates_in_a_file(make_app, sqlite_database, tmp_path, days, state):
    app = make_app(sqlite_database)
    path = make_certificate(tmp_path, days=days, host="a.test")
    assert states(looked(app, "--tls-file", str(path)), "certificate") == [state]


def test_a_certificate_must_be_for_the_host_and_there(make_app, sqlite_database, tmp_path):
    app = make_app(sqlite_database, PUBLIC_URL="https://x.a.test", TRUSTED_PROXIES="1")
    for host, state in (("x.a.test", OK), ("*.a.test", OK), ("a.test", BAD), ("127.0.0.1", BAD)):
        path = make_certificate(tmp_path, days=60, host=host)
        assert states(looked(app, "--tls-file", str(path)), "certificate") == [state], host
    path.write_text("nothing", encoding="ascii")
    for name in (path, tmp_path / "gone.pem"):
        ((state, said, _mend),) = looked(app, "--tls-file", str(name))["certificate"]
        assert (state, "cannot be read" in said) == (BAD, True)


@pytest.fixture
def secure(tmp_path) -> Iterator[int]:
    """The port of a server that speaks TLS, with a certificate of 127.0.0.1 that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(make_certificate(tmp_path, days=60))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    peer, _address = listener.accept()
                    with context.wrap_socket(peer, server_side=True) as line:
                        line.recv(1)
                except OSError:
                    if listener.fileno() < 0:
                        return

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_certificates_of_a_server(make_app, sqlite_database, secure):
    app = make_app(sqlite_database)
    assert states(looked(app, "--tls", f"127.0.0.1:{secure}"), "certificate") == [OK]
    assert states(looked(app, "--tls", f"127.0.0.1:{free_port()}"), "certificate") == [BAD]
    assert run(app, "--tls", "nowhere")[0] == settings.EXIT_BAD_CONFIG


def test_without_a_word_the_proxy_of_this_machine_is_asked(make_app, sqlite_database, secure):
    for port, state in ((secure, OK), (free_port(), WARN)):
        app = make_app(sqlite_database, PUBLIC_URL=f"https://127.0.0.1:{port}", TRUSTED_PROXIES="1")
        assert states(looked(app), "certificate") == [state]


def test_what_others_on_the_machine_may_do(lite, tmp_path):
    (tmp_path / "secrets.env").write_text("", encoding="ascii")
    (tmp_path / "secrets.env").chmod(0o640)
    tmp_path.chmod(0o700)
    assert states(looked(lite), "folder") == [OK], "nobody gets into the folder"
    tmp_path.chmod(0o755)
    named = {said.rpartition("/")[2] for _state, said, _mend in looked(lite)["folder"]}
    assert "secrets.env" in named
    tmp_path.chmod(0o722)
    assert "others may write" in looked(lite)["folder"][0][1]


def test_a_folder_of_somebody_else(lite, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    ((state, said, mend),) = looked(lite)["folder"]
    assert (state, "this is user 12345" in said, "the user that serves" in mend) == (WARN, True, True)


@pytest.mark.parametrize(("free", "state"), [(2**40, OK), (2**29, WARN), (2**20, BAD)])
def test_room_on_the_disk(lite, monkeypatch, free, state):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(2**41, 2**40, free))
    assert states(looked(lite), "disk") == [state]


def test_open_files(make_app, sqlite_database):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    app = make_app(sqlite_database, WORKER_CONNECTIONS="200")
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (563, hard))
        assert states(looked(app), "files") == [WARN]
        resource.setrlimit(resource.RLIMIT_NOFILE, (564, hard))
        assert states(looked(app), "files") == [OK]
        threaded = make_app(sqlite_database, WORKER_CLASS="gthread", THREADS="300")
        ((state, said, mend),) = looked(threaded)["files"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (state, "814" in said, "LimitNOFILE=814" in mend) == (WARN, True, True)


def test_a_database_that_is_away_hides_what_is_in_it(make_app):
    app = make_app(f"postgresql://tollhouse:pass-of-the-database@127.0.0.1:{free_port()}/gone")
    found = looked(app)
    assert states(found, "database") == [BAD]
    hidden = {check for check in EVERY if "not looked at" in found[check][0][1]}
    assert hidden == {"migrations", "clock", "admin", "providers", "spool", "holds", "audit", "alerts"}
    assert "pass-of-the-database" not in str(found) + run(app)[1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, []),
        ({"server_version_num": "130022"}, ["gets no corrections"]),
        ({"fsync": "off", "synchronous_commit": "off"}, ["fsync = off", "synchronous_commit = off"]),
        ({"max_connections": "24"}, ["Postgres allows 19 in all"]),
    ],
)
def test_settings_of_postgres(tmp_path, values, words):
    good = {"server_version_num": "180006", "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
    found = doctor_books.postgres(good | {"max_connections": "25"} | values, make_config(tmp_path))
    assert [one.state for one in found] == ([WARN] * len(words) or [OK])
    assert [word in one.found for word, one in zip(words, found, strict=False)] == [True] * len(words)


@pytest.mark.parametrize(
    ("revision", "mend"), [("0001", "`flask db upgrade`"), ("9999", "Install the version"), (None, "`flask prepare`")]
)
def test_tables_of_another_version(app, revision, mend):
    if revision is None:
        change(app, "DROP TABLE alembic_version")
    else:
        change(app, "UPDATE alembic_version SET version_num = :revision", revision=revision)
    found = looked(app)
    assert states(found, "migrations") == [BAD]
    assert found["migrations"][0][2].startswith(mend)
    assert "not looked at" in found["audit"][0][1]


def test_a_clock_that_went_back(app, gateway, session):
    user = session.query(User).filter_by(username="api-tokens").one().id
    gateway.books.settle(settlement("r1", user, created_ms=clock.now_ms() + 50_000))
    assert states(looked(app), "clock") == [OK]
    gateway.books.settle(settlement("r2", user, created_ms=clock.now_ms() + 3_600_000))
    ((state, said, _mend),) = looked(app)["clock"]
    assert (state, said.startswith("the newest call began")) == (BAD, True)


@pytest.mark.parametrize(("apart_s", "state"), [(0, OK), (-5, WARN), (3600, BAD)])
def test_a_clock_that_is_not_the_databases(app, gateway, monkeypatch, apart_s, state):
    here = clock.now_s
    monkeypatch.setattr(clock, "now_s", lambda: here() + apart_s)
    has_clock = gateway.engine.dialect.name == "postgresql"
    assert states(looked(app), "clock") == [state if has_clock else OK]


def test_the_first_password_and_no_admin(app, gateway):
    ((state, said, _mend),) = looked(app)["admin"]
    assert (state, said) == (WARN, "`admin` still has the password of DEFAULT_ADMIN_PASSWORD")
    changed = gateway.accounts._passwords.hash("another good password")
    change(app, "UPDATE users SET password_hash = :hash WHERE username = 'admin'", hash=changed)
    assert states(looked(app), "admin") == [OK]
    change(app, "UPDATE users SET must_change_password = true WHERE username = 'admin'")
    assert "has not changed" in looked(app)["admin"][0][1]
    change(app, "UPDATE users SET role = 'user' WHERE username = 'admin'")
    assert looked(app)["admin"] == [(WARN, "there is no admin with a password", "`flask create-admin NAME`")]


def test_a_weak_first_password_that_others_can_try_is_bad(make_app, sqlite_database):
    app = make_app(sqlite_database)
    weak = app.extensions["gateway"].accounts._passwords.hash("weak")
    change(app, "UPDATE users SET password_hash = :hash WHERE username = 'admin'", hash=weak)
    here = app.extensions["gateway"]
    config = here.config.model_copy(update={"host": "0.0.0.0", "default_admin_password": "weak"})
    object.__setattr__(here, "config", config)  # the start refuses this; a secret of later may not
    assert states(looked(app), "admin") == [BAD]


def test_providers_that_work_do_not_and_are_none(app, upstream):
    assert states(looked(app), "providers") == [OK]
    add_provider(app, upstream)
    add_provider(app, f"http://127.0.0.1:{free_port()}/v1", "down", credential="sk-a-secret-of-a-provider")
    found = looked(app)["providers"]
    assert [(state, said.split(":")[0]) for state, said, _mend in found] == [
        (BAD, "`down`"),
        (OK, "`echo`"),
        (OK, "`fake`"),
    ]
    assert "flask providers check down" in found[0][2]
    change(app, "UPDATE providers SET is_enabled = false")
    assert states(looked(app), "providers") == [WARN]


def test_calls_that_only_the_spool_has(app, gateway, session, tmp_path):
    user = session.query(User).filter_by(username="api-tokens").one().id
    booked, waiting = settlement("r1", user), settlement("r2", user)
    gateway.books.settle(booked)
    living, dead = Spool(tmp_path / "spool"), Spool(tmp_path / "spool")
    living.keep("r1", booked)
    dead.keep("r1", booked)
    assert states(looked(app), "spool") == [OK]
    living.keep("r2", waiting)
    assert looked(app)["spool"][0][1] == "1 calls wait for the database"
    living.close()  # with a call open, so its files stay
    dead.close()
    assert looked(app)["spool"][0][1] == "1 calls of workers that are gone wait to be booked"


def test_holds_whose_worker_is_gone(app, gateway, tmp_path):
    assert looked(app)["holds"][0][1] == "0 calls are under way, each with a worker"
    worker = Spool(tmp_path / "spool")
    worker.sent("r1", None)
    gateway.books.reserve(hold("r1", [], owner=worker.owner), [])
    change(app, "UPDATE holds SET deadline_at = :later", later=clock.now_ms() + 60_000)
    assert states(looked(app), "holds") == [OK]
    worker.close()
    assert looked(app)["holds"][0][1] == "1 of 1 holds are of calls whose worker is gone"
    change(app, "UPDATE holds SET owner = 'elsewhere.1.x'")
    assert states(looked(app), "holds") == [OK], "another host's worker may still have it"
    change(app, "UPDATE holds SET deadline_at = 1")
    assert states(looked(app), "holds") == [WARN]


def test_leases_whose_worker_is_gone(app, gateway, tmp_path):
    worker = Spool(tmp_path / "spool")
    worker.sent("r1", None)
    change(app, "INSERT INTO leases VALUES (:owner, 1, 0, 0, 0)", owner=worker.owner)
    assert states(looked(app), "holds") == [OK]
    worker.close()
    assert looked(app)["holds"][0][1] == "1 leases are of workers that are gone"


@pytest.mark.parametrize(
    "break_it",
    ["DELETE FROM audit_head", "UPDATE audit_head SET entry_id = entry_id + 1", "UPDATE audit_head SET digest = 'x'"],
)
def test_the_end_of_the_audit_chain(app, gateway, break_it):
    assert states(looked(app), "audit") == [OK]
    change(app, break_it)
    assert states(looked(app), "audit") == [BAD]


def test_valkey_that_answers_and_not(make_app, sqlite_database, valkey):
    url = f"redis://:a-secret-word@127.0.0.1:{free_port()}"
    assert states(looked(make_app(sqlite_database, REDIS_URL=valkey.url)), "valkey") == [OK]
    app = make_app(sqlite_database, REDIS_URL=url)
    assert states(looked(app), "valkey") == [BAD]
    assert "a-secret-word" not in run(app)[1]


def test_a_check_that_breaks_is_bad_and_the_others_go_on():
    def broken(_patient):
        raise OSError("no such thing\nwith a trace")

    table = (("one", "", broken), ("two", "one", broken), ("three", "", lambda _patient: [Result(OK, "fine")]))
    lines = list(doctor.examine(None, table))
    assert [(line.check, line.result.state) for line in lines] == [("one", BAD), ("two", WARN), ("three", OK)]
    assert lines[0].result.found == "this cannot be looked at: no such thing"
    assert doctor.worst(lines) == BAD


def test_no_secret_is_printed(app, upstream, gateway):
    add_provider(app, upstream, credential=TOKEN)
    secrets = {*gateway.config.secrets, PASSWORD}
    assert SECRETS["KEY_PEPPER"] in secrets
    for output in (run(app)[1], run(app, "--json")[1]):
        assert [secret for secret in secrets if secret in output] == []
