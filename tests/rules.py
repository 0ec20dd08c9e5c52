"""The rules of the house as functions over a source tree: each gives the places where it is broken, one a line."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

MAX_FILE, MAX_FUNCTION = 400, 40  # lines

PARTS = (
    *("alerts", "batches", "books", "kept", "people", "policies", "portal", "prompts"),
    *("refusals", "responses", "rollups", "routes"),
)
TABLES = tuple(f"models_{name}" for name in PARTS)  # parts of models.py
# Who may import whom. The longest matching name counts; nobody imports `app`.
WIRE = ("services.types", "services.errors", "utils")
KNOWN = ("alerts", "batches", "books", "kept", "policies", "prompts", "rollups")  # named by their file
MODELS = ("models", *(f"models_{name}" for name in KNOWN))
LAYERS = {
    "utils": ("utils",),
    "config": ("config_alerts", "config_checks", "config_control", "config_fields", "utils"),
    "config_alerts": ("config_fields", "utils"),
    "config_control": ("config_fields", "utils"),
    "config_checks": ("utils",),
    "config_fields": ("utils",),
    "models": (*TABLES, "utils"),
    **dict.fromkeys(TABLES, ("utils",)),
    "services": ("services", *MODELS, "config", "config_checks", "utils"),
    "services.providers": ("services.providers", *WIRE),
    "services.dialects": ("services.dialects", *WIRE),
    "services.policies": ("services.policies", *WIRE),
    "services.books": ("services.books", "services.bookings", "services.pricing", *WIRE),
    "routes": ("routes", "services", *MODELS, "config", "utils"),
    "app": ("routes", "services", "config", "utils"),
    "migrations": ("models", "services.migrating", "utils"),
}
SETTINGS = ("config", "config_alerts", "config_checks", "config_control", "config_fields")
OURS = ("app", *SETTINGS, "models", *TABLES, "routes", "services", "utils")
FRAMEWORK = ("flask", "werkzeug", "gunicorn", "utils.decorators")
REQUEST_STATE = ("request", "g", "session", "current_app", "has_request_context")
SEES_REQUESTS = ("routes/", "utils/decorators.py", "utils/extensions.py", "migrations/env.py")
READS_ENVIRONMENT = ("config.py", "tests/")
CLIENTS = ("requests", "urllib3", "http.client", "urllib.request", "httpx", "aiohttp", "ftplib", "smtplib")
SPEAKS = (("services/mail.py", "smtplib"),)
SOCKETS = (
    "services/transport.py",
    "services/exchange.py",
    "services/fetch.py",
    "services/mail.py",  # it opens none; smtplib speaks on those of transport.py
    "services/watch.py",  # it opens none; it hangs up on callers
    "utils/idle.py",  # the same
    "services/statsd.py",
)
OPEN_SOCKETS = ("services/transport.py", "services/statsd.py")  # to providers and the like; datagrams to an agent
OPENERS = ("socket.socket", "socket.create_connection", "socket.create_server", "socket.socketpair", "socket.fromfd")
DRIVERS = ("psycopg", "sqlite3")
SQL = (  # who may speak to the database through SQLAlchemy
    "models.py",
    *(f"{name}.py" for name in TABLES),
    "migrations/",
    "utils/columns.py",
    "utils/extensions.py",
    "routes/admin/",  # Flask-Admin's lists and forms
    "services/__init__.py",  # hands the engine on
    "services/control.py",  # the same
    "services/books/",
    *(
        f"services/{name}.py"
        for name in (
            *("accounts", "activity", "agents", "alerting", "alertpost", "alerts", "alerttargets"),
            *("alertwatch", "audit", "auditlog", "backups", "balances", "bindings", "batches", "batchfiles"),
            *("batchlines", "batchends", "bodies", "bootstrap", "budgets", "callevents", "callroutes", "catalog"),
            *("ceilings", "chain", "changing", "checks", "components", "configapply", "configexport", "configmodels"),
            *("configrows", "configsections", "control", "costmaps", "datapoints", "dialogfiles", "dialogs"),
            *("discovery", "doctor_alerts", "doctor_books", "eventrows", "erasure", "firststeps", "gauges"),
            *("identities", "invitations", "keymanagement", "keys", "keyviews", "ledger", "limits", "managed"),
            *("matching", "members", "migrating", "modelbook", "modelnames", "outsiders", "owners", "ownkeys"),
            *("ownsessions", "ownuse", "pages", "people", "peppers", "periodusage", "policybook", "policynames"),
            *(
                "portalpolicy",
                "pricebook",
                "promptbook",
                "promptrows",
                "promptuse",
                "promptviews",
                "providersettings",
                "raises",
                "reconcile",
                "refusals",
                "removal",
            ),
            *("reporting", "reports", "responses", "restoring", "retention", "rollupproof", "rollups", "rotation"),
            *("savedviews", "search", "secondfactors", "singly", "standing", "systemconfig", "takeout", "teams"),
            *("throttle", "topups", "turns", "usermanagement", "walks"),
        )
    ),
)
# What may be longer than the limits; this list may only become shorter.
LONG = {
    "migrations/versions/": "tables are written out once and never changed again",
    "services/__init__.py:build": "the wiring of all collaborators, without a branch",
}


class Import(NamedTuple):
    """One imported module or name; `names` are those taken from it."""

    module: str
    names: tuple[str, ...]
    line: int
    is_for_types: bool


def layers(root: Path) -> list[str]:
    """Imports point down."""
    found = []
    for path, tree in _modules(root):
        allowed = LAYERS[_longest(_dotted(path), LAYERS)]
        found += [
            f"{path}:{entry.line} imports {target}"
            for entry in _imports(tree)
            for target in _targets(root, entry)
            if target.split(".")[0] in OURS and not entry.is_for_types and not _under(target, allowed)
        ]
    return found


def framework(root: Path) -> list[str]:
    """Services and the leaves below them know no web framework; of the extensions they take the hash function only."""
    found = []
    for path, tree in _modules(root):
        if path.startswith("services/"):
            found += [
                f"{path}:{entry.line} imports {entry.module}"
                for entry in _imports(tree)
                if _under(entry.module, FRAMEWORK)
                or entry.module.startswith("flask_")
                or (entry.module == "utils.extensions" and set(entry.names) - {"bcrypt"})
            ]
    return found


def request_state(root: Path) -> list[str]:
    """Only routes and two leaves know that there is a request."""
    return [
        f"{path}:{entry.line} imports {name} of flask"
        for path, tree in _modules(root)
        if not path.startswith(SEES_REQUESTS)
        for entry in _imports(tree)
        if entry.module == "flask" or entry.module.startswith("flask.")
        for name in (*entry.names, entry.module.rpartition(".")[2])
        if name in (*REQUEST_STATE, "globals")
    ] + [
        f"{path}:{node.lineno} reads {name}"
        for path, tree in _modules(root)
        if not path.startswith(SEES_REQUESTS)
        for node, name in _attributes(tree)
        if name in {f"flask.{state}" for state in REQUEST_STATE}
    ]


def environment(root: Path) -> list[str]:
    """Settings are read in one place."""
    found = []
    for path, tree in _modules(root, everything=True):
        if path.startswith(READS_ENVIRONMENT):
            continue
        found += [f"{path}:{node.lineno} reads {name}" for node, name in _attributes(tree) if _is_environment(name)]
        found += [
            f"{path}:{entry.line} imports {name} of os"
            for entry in _imports(tree)
            if entry.module == "os"
            for name in entry.names
            if _is_environment(f"os.{name}")
        ]
    return found


def sockets(root: Path) -> list[str]:
    """One module opens sockets, one other datagrams; one uses `requests` on those, one SMTP; one speaks to Valkey."""
    found = []
    for path, tree in _modules(root):
        found += [
            f"{path}:{entry.line} imports {entry.module}"
            for entry in _imports(tree)
            if (_under(entry.module, CLIENTS) and (path, entry.module) not in SPEAKS and path != "services/fetch.py")
            or (_under(entry.module, ("socket", "ssl", "httptools")) and path not in SOCKETS)
            or (_under(entry.module, ("redis",)) and path != "services/remote.py")
        ]
        if path not in OPEN_SOCKETS:
            found += [
                f"{path}:{call.lineno} calls {name}"
                for call in ast.walk(tree)
                if isinstance(call, ast.Call) and (name := _name(call.func)) in OPENERS
            ]
    return found


def sql(root: Path) -> list[str]:
    """The database's drivers belong to the books; SQLAlchemy to the modules that own tables."""
    return [
        f"{path}:{entry.line} imports {entry.module}"
        for path, tree in _modules(root)
        for entry in _imports(tree)
        if (_under(entry.module, ("sqlalchemy", "alembic", *DRIVERS)) and not path.startswith(SQL))
        or (_under(entry.module, DRIVERS) and not path.startswith("services/books/"))
    ]


def sizes(root: Path) -> list[str]:
    """A file has a screenful of screens, a function one."""
    found = []
    for path, tree in _modules(root):
        if (lines := len((root / path).read_text(encoding="utf-8").splitlines())) > MAX_FILE and not _is_long(path):
            found.append(f"{path} has {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION and not _is_long(f"{path}:{node.name}"):
                    found.append(f"{path}:{node.lineno} {node.name} has {lines} lines")
    return found


def import_effects(root: Path) -> list[str]:
    """Loading a module opens nothing and starts nothing. What others' packages do when loaded is not ours to say."""
    modules = [_dotted(path) for path, _tree in _modules(root) if not path.startswith("migrations/")]
    theirs = {
        entry.module
        for path, tree in _modules(root)
        if not path.startswith("migrations/")
        for entry in _imports(tree)
        if entry.module.split(".")[0] not in OURS and not entry.is_for_types
    }
    done = subprocess.run(
        [sys.executable, "-c", LOADER, ",".join(sorted(theirs)), ",".join(modules)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


LOADER = """
import _thread, importlib, sys, threading
for name in sys.argv[1].split(","):
    importlib.import_module(name) if name else None
sys.path.insert(0, "")
EFFECTS = ("socket.connect", "socket.bind", "socket.__new__", "socket.getaddrinfo", "sqlite3.connect",
           "subprocess.Popen", "os.fork", "os.putenv", "os.remove", "os.mkdir")
loading = ""
def hook(event, arguments):
    if event in EFFECTS or (event == "open" and arguments[1] and set(str(arguments[1])) & set("wax+")):
        if "__pycache__" not in str(arguments[0]):
            print(loading, "causes", event, flush=True)
def thread(*arguments, **more):
    print(loading, "causes a thread", flush=True)
_thread.start_new_thread = threading.Thread.start = thread
sys.dont_write_bytecode = True
sys.addaudithook(hook)
for loading in sys.argv[2].split(","):
    importlib.import_module(loading)
loading = "the end"
"""

RULES: tuple[Callable[[Path], list[str]], ...] = (
    layers,
    framework,
    request_state,
    environment,
    sockets,
    sql,
    sizes,
    import_effects,
)


def _modules(root: Path, *, everything: bool = False) -> Iterator[tuple[str, ast.Module]]:
    """The product's source files; with `everything` those of bench and tests too."""
    tops = [*OURS, "migrations", *(("bench", "tests", "gunicorn.conf") if everything else ())]
    for top in tops:
        for path in sorted([*root.glob(f"{top}.py"), *(root / top).rglob("*.py")]):
            yield path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> Iterator[Import]:
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and _name(block.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), node.lineno, id(node) in for_types)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield Import(module, tuple(alias.name for alias in node.names), node.lineno, id(node) in for_types)


def _targets(root: Path, entry: Import) -> Iterator[str]:
    """The modules that an import loads: `from services import keys` is about services.keys."""
    folder = root / entry.module.replace(".", "/")
    for name in entry.names:
        is_module = (folder / f"{name}.py").exists() or (folder / name).is_dir()
        yield f"{entry.module}.{name}" if is_module else entry.module
    if not entry.names:
        yield entry.module


def _attributes(tree: ast.Module) -> Iterator[tuple[ast.Attribute, str]]:
    return ((node, _name(node)) for node in ast.walk(tree) if isinstance(node, ast.Attribute))


def _name(node: ast.expr) -> str:
    """`a.b.c` of an expression that is a plain dotted name, else nothing."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _is_environment(name: str) -> bool:
    return name in ("os.environ", "os.environb", "os.getenv", "os.putenv", "os.unsetenv")


def _dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _under(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _longest(name: str, packages: dict[str, tuple[str, ...]]) -> str:
    return max((package for package in packages if _under(name, (package,))), key=len)


def _is_long(place: str) -> bool:
    return place.startswith(tuple(LONG))
