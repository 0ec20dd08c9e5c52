"""How gunicorn serves Tollhouse. Every value comes from the settings; the reasons stand beside them.

Run as `gunicorn -c gunicorn.conf.py "app:serving()"`, which is what `make run` does.
"""

import ctypes
import gc
import logging
import signal
import subprocess
import sys
from contextlib import suppress

import config as settings
from utils import idle, places
from utils.settings import GUNICORN_PORT

M_ARENA_MAX = -8  # of malloc.h

try:
    _config = settings.load_prepared()
except settings.ConfigError as exc:
    print(exc, file=sys.stderr)  # noqa: T201 - there is no log yet
    sys.exit(settings.EXIT_BAD_CONFIG)

# glibc gives every few threads a heap of their own and keeps what large bodies took of each; measured with 64 threads
# that is 90 MB. Elsewhere there is no mallopt, and no need of it.
with suppress(AttributeError):
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)

if _config.worker_class == "gevent":
    # Before anything else is imported, or sockets and locks made until then would block the whole worker.
    from gevent import monkey

    monkey.patch_all()

from utils import frugal, logs  # noqa: E402 - see above

logs.configure(
    _config.log_level, as_json=_config.logs_json, secrets=_config.secrets, with_access=_config.access_log
)  # the server has something to say before the app is loaded
frugal.install()

_wanted = places.wanted(_config.worker_class, _config.threads, _config.worker_connections)
_calls = places.make_room(_wanted)  # a worker that may open no more files ends at the next connection, with all streams
if _calls < 1:
    print(f"too few open files are allowed here: `ulimit -n {places.files(_wanted)}`", file=sys.stderr)  # noqa: T201 - as above
    sys.exit(settings.EXIT_BAD_CONFIG)
if _calls < _wanted:
    logging.getLogger("tollhouse").warning(
        "the limit of open files allows %d calls at once instead of %d; `ulimit -n %d` allows all",
        *(_calls, _wanted, places.files(_wanted)),
    )

# Migrations and first rows, in a process of its own: this one must open nothing before it forks.
_done = subprocess.run([sys.executable, "-m", "flask", "--app", "app", "prepare"], check=False, cwd=settings.ROOT)
if _done.returncode:
    sys.exit(_done.returncode)

_host = f"[{_config.host}]" if ":" in _config.host else _config.host
_ports = (_config.port or GUNICORN_PORT, _config.admin_port, _config.proxy_port)  # routes/ports.py tells them apart
bind = [f"{_host}:{port}" for port in _ports if port is not None]
workers = _config.web_concurrency
worker_class = _config.worker_class  # `sync` is no choice: it would serve one stream at a time
_all = _calls + places.beyond(_calls)  # the calls, and what services/shedding.py never refuses
_has_threads = _config.worker_class == "gthread"
threads = _all if _has_threads else 1
worker_connections = places.connections(_calls, _config.worker_connections) if _has_threads else _all
preload_app = True  # the workers share the memory of what they all load
timeout = 60  # of the worker's heartbeat; a stream may last longer
graceful_timeout = _config.graceful_timeout_s
keepalive = 75  # longer than the 60 s after which nginx and most clients close first
backlog = 2048
limit_request_line = 8190  # a search may have many words; longer lines are refused by gunicorn itself, as a page
max_requests = 0  # recycling would end streams; memory is watched by the soak test instead
control_socket_disable = True  # nobody uses it, and it needs a writable home
forwarded_allow_ips = "127.0.0.1" if _config.trusted_proxies else ""
logger_class = "utils.logs.GunicornLogger"
loglevel = _config.log_level.lower().replace("debug", "info")  # at DEBUG it writes the path of every request
accesslog = None  # routes/ops.py writes who asked for what; gunicorn knows neither, and would write queries


def post_worker_init(worker):
    """The worker serves from now on: begin its own jobs, and settle every stream before it is killed."""
    gateway = worker.wsgi.extensions["gateway"]
    gateway.start_worker()
    frugal.flatten(worker.cfg)
    if not _has_threads:
        idle.leave(worker)
    ends = signal.getsignal(signal.SIGTERM)

    def drain(number, frame):
        gateway.drain()
        ends(number, frame)

    def quit_now(number, frame):  # gunicorn's own way out of gevent ends in a traceback, and settles nothing
        gateway.drain(within_s=0)
        ends(number, frame)

    signal.signal(signal.SIGTERM, drain)
    signal.signal(signal.SIGQUIT, quit_now)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the master too, which sends SIGQUIT


def worker_exit(server, worker):
    """The worker's last act: what the database did not take yet goes there, files and connections are closed."""
    if hasattr(worker, "wsgi"):
        worker.wsgi.extensions["gateway"].close()


def when_ready(server):
    """What is loaded now stays for good: the collector need not touch it, so its memory stays shared."""
    gc.collect()
    gc.freeze()
