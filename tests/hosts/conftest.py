"""Two hosts with a gateway of several workers each, one Postgres, nginx in front: started once for all tests here."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session

from app import create_app
from services import Gateway
from services.keys import IssuedKey
from tests import quick
from tests.conftest import PASSWORD, SECRETS, make_config, pooled
from tests.deploy.edge import NAME, NGINX, Edge
from tests.fakes.network import Network, Place, network
from tests.fakes.pgbouncer import PROGRAM, pgbouncer
from tests.fakes.postgres import postgres
from tests.fakes.served import ROOT, Served
from tests.fakes.upstream import Upstream
from tests.helpers import with_upstream
from tests.races.conftest import SOAK

HOSTS, WORKERS = 2, 4 if SOAK else 2


class Host:
    """A gateway with a place and an instance folder of its own."""

    def __init__(self, place: Place, folder: Path, environ: dict[str, str]) -> None:
        self.place, self.environ = place, {**environ, "INSTANCE_PATH": str(folder)}
        self.name = f"{place.address}:{place.port}"
        folder.mkdir()

    def start(self, code: Path = ROOT) -> None:
        """Migrate and serve, with the code of that folder."""
        self.served = Served(self.environ, prefix=self.place.prefix, code=code)


class World:
    """What the tests have. `kind`: what the hosts are."""

    def __init__(self, app: Flask, upstream: Upstream, net: Network, hosts: list[Host]) -> None:
        self.app, self.upstream, self.kind, self.hosts = app, upstream, net.kind, hosts
        self.here: Gateway = app.extensions["gateway"]
        self.engine = self.here.engine
        self.model_id = 0

    def key(self, name: str) -> IssuedKey:
        """A new key of the built-in account."""
        with Session(self.engine) as session, session.begin():
            return self.here.keys.issue(session, 1, name)


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """Both begin at once on an empty database; the second one reaches it through pgbouncer, where there is one."""
    folder = Path(tempfile.mkdtemp(prefix="tollhouse-hosts-", dir=quick.folder()))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        net = stack.enter_context(network(HOSTS))
        url, _pid = stack.enter_context(postgres(folder / "postgres", net.center))
        there = url.replace("127.0.0.1", net.center)
        databases = [{"DATABASE_URL": there}] * HOSTS
        kind = "no pgbouncer"
        if PROGRAM is not None:
            pooler = stack.enter_context(pgbouncer(folder / "pgbouncer", url, host=net.center))
            databases[-1] = {"DATABASE_URL": pooled(pooler, url), "DB_POOLING": "transaction"}
            kind = "the second one through pgbouncer"
        hosts = [
            Host(place, folder / f"host{number}", _environ(place) | databases[number])
            for number, place in enumerate(net.places)
        ]
        _all_at_once([host.start for host in hosts])
        for host in hosts:
            stack.callback(lambda host=host: host.served.stop())
        upstream = Upstream(net.center).start()
        stack.callback(upstream.stop)
        app = create_app(make_config(folder, DATABASE_URL=url))
        stack.callback(app.extensions["gateway"].engine.dispose)
        stack.callback(app.extensions["gateway"].close)
        made = World(with_upstream(app, upstream), upstream, net, hosts)
        print(f"{net.kind}, {WORKERS} workers each, {kind}")
        time.sleep(2.0)  # until all workers know the model
        yield made


@pytest.fixture
def edge(world: World, tmp_path: Path) -> Iterator[Edge]:
    """nginx with the site of deploy/nginx in front of both."""
    if NGINX is None or shutil.which("curl") is None:
        pytest.skip("nginx or curl is not installed (Debian: apt-get install nginx-light curl)")
    made = Edge(tmp_path, [host.name for host in world.hosts])
    yield made
    made.stop()


def _environ(place: Place) -> dict[str, str]:
    return {
        "ENVIRONMENT": "test",
        "HOST": place.address,
        "PORT": str(place.port),
        "TRUSTED_PROXIES": "1",
        "PUBLIC_URL": f"https://{NAME}",
        "TRUSTED_HOSTS": f"{NAME},{place.address}",
        "DEFAULT_ADMIN_PASSWORD": PASSWORD,
        "WEB_CONCURRENCY": str(WORKERS),
        "GRACEFUL_TIMEOUT": "10",
        "LEASE_CALLS_PER_S": "20",
        **SECRETS,
    }


def _all_at_once(works: list[Callable[[], Any]]) -> None:
    """Do all of this at the same time, and tell of what failed."""
    failed: list[BaseException] = []

    def run(work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as exc:  # noqa: BLE001 - raised again below
            failed.append(exc)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
