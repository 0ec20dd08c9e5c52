"""Measures the gateway on this machine: python3 bench/bench.py --help. See README.md beside this file."""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import postgres
import report
import servers
from suite import Figures, Suite, write_bodies

WORKERS = ("gevent", "gthread")
DATABASES = ("sqlite", "postgres")
FLOOR = "bare relay"


@dataclass
class Variant:
    """What was measured with one worker class and one database."""

    rounds: list[dict[str, Figures]] = field(default_factory=list)
    idle: Figures = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def cells(self) -> dict[str, Figures]:
        """The medians, with the idle memory in front of that after load."""
        cells = report.medians(self.rounds)
        return {"Memory after the first request": self.idle} | cells


def say(text: str) -> None:
    """Progress goes to standard error, so that standard output holds the result alone."""
    print(text, file=sys.stderr, flush=True)


def _names(allowed: tuple[str, ...], text: str) -> list[str]:
    chosen = list(dict.fromkeys(text.split(",")))
    if unknown := set(chosen) - set(allowed):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(allowed)}")
    return chosen


def worker_names(text: str) -> list[str]:
    """Worker classes, separated by commas."""
    return _names(WORKERS, text)


def database_names(text: str) -> list[str]:
    """Databases, separated by commas."""
    return _names(DATABASES, text)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measures Tollhouse on this machine.")
    parser.add_argument("--quick", action="store_true", help="one round, 2 s per cell")
    parser.add_argument("--rounds", type=int, help="rounds; the median counts (default 3)")
    parser.add_argument("--duration", type=int, help="seconds of load per cell (default 5)")
    parser.add_argument("--worker", type=worker_names, default=list(WORKERS), help="default gevent,gthread")
    parser.add_argument("--database", type=database_names, default=["sqlite"], help="default sqlite")
    parser.add_argument("--only", default="", help="only cells whose name contains this text")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--repo", type=Path, default=servers.HERE.parent, help="checkout to measure (its own)")
    options = parser.parse_args()
    options.repo = options.repo.resolve()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.duration = options.duration or (2 if options.quick else 5)
    if options.rounds < 1 or options.duration < 1:
        parser.error("--rounds and --duration start at 1")
    if options.json and not options.json.resolve().parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.resolve().parent}")
    return options


def start_database(name: str, repo: Path, folder: Path) -> AbstractContextManager[servers.Database]:
    """A fresh database server, or none: SQLite lives in the gateway's instance folder."""
    return postgres.postgres(repo, folder) if name == "postgres" else nullcontext(servers.Database())


def run_round(options: argparse.Namespace, suite: Suite, title: str) -> dict[str, Figures]:
    """Runs every chosen cell once."""
    figures = {}
    for name, cell in suite.cells().items():
        if options.only in name:
            say(f"{title}: {name}")
            figures[name] = cell()
    return figures


def measure(options: argparse.Namespace, work: Path, worker: str, database: str, port: int) -> Variant:
    """Measures the gateway with that worker class and database."""
    name = f"{worker}-{database}"
    with (
        start_database(database, options.repo, work / f"{name}-database") as running,
        servers.gateway(options.repo, work / name, worker, port, running) as gateway,
    ):
        return run_rounds(options, Suite(gateway, running, port, work / "bodies", **lengths(options)), name)


def measure_floor(options: argparse.Namespace, work: Path, port: int) -> Variant:
    """Measures the bare relay."""
    with servers.floor(options.repo, work / "floor", port) as relay:
        suite = Suite(relay, servers.Database(), port, work / "bodies", **lengths(options))
        return run_rounds(options, suite, FLOOR)


def lengths(options: argparse.Namespace) -> dict[str, int]:
    """How long the cells take: seconds of load, and streams that run alone."""
    return {"seconds": options.duration, "single_streams": 2 if options.quick else 5}


def run_rounds(options: argparse.Namespace, suite: Suite, name: str) -> Variant:
    """Runs all rounds against one server."""
    variant = Variant(errors=suite.errors, idle=suite.warm_up())
    for i in range(options.rounds):
        variant.rounds.append(run_round(options, suite, f"{name}, round {i + 1} of {options.rounds}"))
    return variant


def run(options: argparse.Namespace, work: Path) -> dict[str, Variant]:
    """Measures every wanted pair of worker class and database."""
    if not (options.repo / ".venv/bin/gunicorn").exists():
        raise servers.BenchError(f"{options.repo / '.venv'} has no gunicorn: set the project up first")
    refusal = postgres.why_not(options.repo) if "postgres" in options.database else None
    if refusal:
        say(f"Postgres is skipped: {refusal}")
    databases = [name for name in options.database if not (refusal and name == "postgres")]
    servers.build_tools()
    write_bodies(work / "bodies")
    variants = {}
    with servers.upstream() as port:
        variants[FLOOR] = measure_floor(options, work, port)
        for database in databases:
            for worker in options.worker:
                variants[f"{worker}, {database}"] = measure(options, work, worker, database, port)
    return variants


def show(options: argparse.Namespace, variants: dict[str, Variant]) -> None:
    """Prints the table and writes the file."""
    facts = report.facts(options.repo)
    facts |= {"rounds": str(options.rounds), "seconds_per_cell": str(options.duration)}
    cells = {name: variant.cells() for name, variant in variants.items()}
    print("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.items()), end="\n\n")
    print(report.table(cells))
    for name, variant in variants.items():
        for error in variant.errors:
            print(f"\n{name}: {error}")
    if options.json:
        full = {
            name: {"medians": cells[name], "rounds": variant.rounds, "errors": variant.errors}
            for name, variant in variants.items()
        }
        options.json.write_text(json.dumps({"facts": facts, "variants": full}, indent=1) + "\n")


def main() -> int:
    """Runs the measurement; what it started is stopped and removed whatever happens."""
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = Path(tempfile.mkdtemp(prefix="tollhouse-bench-"))
    # Postgres runs as another user when this runs as root, and must reach its own folder in here.
    work.chmod(0o711)
    try:
        variants = run(options, work)
        if variants:
            show(options, variants)
    except servers.BenchError as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0 if variants else 1


if __name__ == "__main__":
    sys.exit(main())
