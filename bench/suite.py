"""The measurements: each cell puts one kind of load on the gateway and returns its figures."""

import json
import secrets
import signal
import statistics
import string
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import procs
from servers import HERE, BenchError, Database, Gateway

Figures = dict[str, float | None]
Result = dict[str, Any]

CHUNKS = 50
EVERY_MS = 20
PATIENCE_S = 60
PACED_CALLS = 300  # a second
HOT_PROCESSES = 4
CACHED = 16  # connections
CACHED_TURNS = 4  # of two seconds each
# What the gateway puts off, such as writing usage, belongs to the cell that caused it.
SETTLE_S = 0.3
# 401 and 403 refuse the key; 429 is a gateway that slows down who guesses.
REFUSALS = ("401", "403", "429")
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
PAGE = 4096  # characters of a prompt
MANY_CHUNKS = 2000  # so that what a call costs besides is little


class Body(NamedTuple):
    """What a request asks for, and where."""

    chunks: int = 0  # 0 = not streamed
    every_ms: int = 0  # between chunks
    padding: int = 0  # characters
    path: str = CHAT
    model: str = "fast"

    def text(self) -> str:
        """The request's JSON."""
        tag = f"{{{{chunks={self.chunks} every_ms={self.every_ms}}}}}" if self.chunks else ""
        text = "word " * (self.padding // 5) + "Say something. " + tag
        body: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": text}]}
        body |= {"stream": True} if self.chunks else {}
        if self.path == MESSAGES:
            return json.dumps(body | {"max_tokens": MANY_CHUNKS})
        return json.dumps(body | ({"stream_options": {"include_usage": True}} if self.chunks else {}))


BODIES = {
    "plain": Body(),
    "cached": Body(model="cached"),
    "burst": Body(CHUNKS),
    "cached burst": Body(CHUNKS, model="cached"),
    "page": Body(padding=PAGE),
    "cached page": Body(padding=PAGE, model="cached"),
    "paced": Body(CHUNKS, EVERY_MS),
    "large": Body(padding=1_000_000),
    "many": Body(MANY_CHUNKS),
    "many translated": Body(MANY_CHUNKS, path=MESSAGES),
    "many paced": Body(MANY_CHUNKS, 1),
    "many paced translated": Body(MANY_CHUNKS, 1, path=MESSAGES),
}


class Cpu(NamedTuple):
    """CPU seconds that a load cost."""

    gateway: float
    database: float


@dataclass(frozen=True)
class Load:
    """One run of the load generator."""

    body: str = "plain"
    connections: int = 1
    requests: int | None = None
    seconds: int = PATIENCE_S
    ramp_ms: int = 0
    status: int = 200
    key: str = ""

    @property
    def chunks(self) -> int:
        """Content chunks that make an answer complete."""
        return BODIES[self.body].chunks


def write_bodies(folder: Path) -> None:
    """Writes the request bodies that the cells use."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in BODIES.items():
        (folder / name).write_text(body.text())


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None


def _percentiles(result: Result, what: str, prefix: str, *shares: str) -> Figures:
    return {f"{prefix}{share}_ms": result[what].get(share) for share in shares}


@dataclass
class Suite:
    """Runs the cells against one gateway."""

    gateway: Gateway
    database: Database
    upstream_port: int
    bodies: Path
    seconds: int
    single_streams: int
    errors: list[str] = field(default_factory=list)

    def cells(self) -> dict[str, Callable[[], Figures]]:
        """The cells in the order in which they run; what may upset the gateway comes last."""
        plain = {f"Non-streamed, connections: {n}": partial(self._plain, n) for n in (1, 16, 64, 256)}
        paced = {f"{n:,} paced streams": partial(self._paced, n) for n in (200, 1000)}
        own = {
            f"The same call, cached, connections: {CACHED}": self._cached,
            f"Hold and book, 4 budgets, 3 limits, {PACED_CALLS} calls/s": self._books,
            **({f"Hold and book, one hot key, {HOT_PROCESSES} processes": self._hot} if self.database.url else {}),
            "Wrong keys, connections: 64": self._wrong_keys,
        }
        return {
            "Direct to the fake provider, connections: 64": self._direct,
            **plain,
            f"Streamed burst of {CHUNKS} chunks, connections: 16": self._burst,
            "One chunk of a stream": self._chunks,
            "One paced stream alone": self._single,
            **paced,
            "50 paced streams beside 2 clients posting 1 MB": self._beside_large,
            **(own if self.gateway.token else {}),
            "Memory after load": self._memory,
        }

    def warm_up(self) -> Figures:
        """Sends the first request, reads the idle memory, then lets the gateway fill its caches."""
        first = self._run(Load(requests=1), "the first request")
        if not first["ok"]:
            raise BenchError(f"the first request failed: {first['first_error']}")
        time.sleep(1)
        idle = procs.pss_mib(self.gateway.pid)
        self._run(Load(connections=16, seconds=1), "the warm-up")
        self._run(Load("burst", connections=4, seconds=1), "the warm-up")
        return {"pss_mib": idle}

    def _start(self, load: Load, *, direct: bool = False) -> subprocess.Popen[str]:
        port = self.upstream_port if direct else self.gateway.port
        options: dict[str, object] = {"-p": port, "-b": self.bodies / load.body, "-c": load.connections}
        options |= {"-t": load.seconds, "-T": PATIENCE_S, "-r": load.ramp_ms}
        options |= {"-e": load.chunks, "-s": load.status, "-u": BODIES[load.body].path}
        options |= {"-H": f"Authorization: Bearer {load.key or self.gateway.token}"}
        options |= {"-n": load.requests} if load.requests else {}
        command = [str(HERE / "bin" / "load"), *(str(part) for pair in options.items() for part in pair)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _finish(self, process: subprocess.Popen[str], cell: str, limit: int) -> Result:
        try:
            out, err = process.communicate(timeout=limit)
        finally:
            process.kill()
        if process.returncode:
            raise BenchError(f"the load generator failed in '{cell}': {err}")
        result: Result = json.loads(out)
        return result

    def _run(self, load: Load, cell: str, *, direct: bool = False) -> Result:
        return self._finish(self._start(load, direct=direct), cell, load.seconds + 2 * PATIENCE_S)

    def _run_measured(self, load: Load, cell: str) -> tuple[Result, Cpu]:
        before = self._cpu_now()
        result = self._run(load, cell)
        time.sleep(SETTLE_S)
        after = self._cpu_now()
        return result, Cpu(after.gateway - before.gateway, after.database - before.database)

    def _cpu_now(self) -> Cpu:
        database = procs.cpu_seconds(self.database.pid) if self.database.pid else 0.0
        return Cpu(procs.cpu_seconds(self.gateway.pid), database)

    def _cpu_each(self, cpu: Cpu, count: int, unit: str) -> Figures:
        figures = {f"cpu_ms_per_{unit}": _ratio(cpu.gateway * 1000, count)}
        if self.database.pid:
            figures[f"database_cpu_ms_per_{unit}"] = _ratio(cpu.database * 1000, count)
        return figures

    def _failures(self, cell: str, result: Result) -> Figures:
        count = sum(result["failures"].values())
        if count:
            first = " ".join(result["first_error"].split())
            self.errors.append(f"{cell}: {count} failures, the first: {first}")
        return {"failures": count}

    def _direct(self) -> Figures:
        result = self._run(Load(connections=64, seconds=self.seconds), "direct", direct=True)
        figures: Figures = {"requests_per_s": result["rps"]}
        return figures | _percentiles(result, "total", "", "p50", "p99") | self._failures("Direct", result)

    def _plain(self, connections: int) -> Figures:
        cell = f"Non-streamed, connections: {connections}"
        result, cpu = self._run_measured(Load(connections=connections, seconds=self.seconds), cell)
        figures: Figures = {"requests_per_s": result["rps"]}
        figures |= _percentiles(result, "total", "", "p50", "p95", "p99")
        figures |= {"p99_to_p50": _ratio(figures["p99_ms"], figures["p50_ms"])} if connections == 64 else {}
        return figures | self._cpu_each(cpu, result["ok"], "request") | self._failures(cell, result)

    def _cached(self) -> Figures:
        """Calls that the cache answers, in turn with those that it does not; the median second of each."""
        figures: Figures = {}
        failures = 0.0
        for kind, made, cached in (
            ("", "plain", "cached"),
            ("page_", "page", "cached page"),
            ("streamed_", "burst", "cached burst"),
        ):
            spent: dict[str, list[float]] = {made: [], cached: []}
            for body in (made, cached, cached, made) * CACHED_TURNS:
                result, cpu = self._run_measured(Load(body, connections=CACHED, seconds=1), "Cached")
                spent[body].append((cpu.gateway + cpu.database) * 1000 / max(1, result["ok"]))
                figures |= {f"{kind}{'made' if body == made else 'cached'}_p50_ms": result["total"].get("p50")}
                failures += self._failures(f"The same call, {body}", result)["failures"] or 0
            each = {body: statistics.median(ms) for body, ms in spent.items()}
            figures |= {f"{kind}made_cpu_ms_per_request": each[made], f"{kind}cached_cpu_ms_per_request": each[cached]}
            figures[f"{kind}cached_to_made"] = _ratio(each[cached], each[made])
        return figures | {"failures": failures}

    def _burst(self) -> Figures:
        cell = "Streamed burst"
        result, cpu = self._run_measured(Load("burst", connections=16, seconds=self.seconds), cell)
        figures: Figures = {"streams_per_s": result["rps"]}
        figures |= _percentiles(result, "total", "", "p50", "p95")
        return figures | self._cpu_each(cpu, result["ok"], "stream") | self._failures(cell, result)

    def _chunks(self) -> Figures:
        """All at once, and one by one; to a caller who speaks the provider's dialect, and to one who does not."""
        figures: Figures = {}
        failures = 0.0
        for name in [name for name, body in BODIES.items() if body.chunks == MANY_CHUNKS]:
            title = f"{name.replace(' ', '_')}_cpu_us"
            if BODIES[name].path != CHAT and not self.gateway.token:
                figures[title] = None  # the bare relay knows one dialect
                continue
            result, cpu = self._run_measured(Load(name, connections=8, seconds=self.seconds), "Chunks")
            figures[title] = _ratio(cpu.gateway * 1e6, result["ok"] * MANY_CHUNKS)
            failures += self._failures(f"Chunks, {name}", result)["failures"] or 0
        return figures | {"failures": failures}

    def _single(self) -> Figures:
        cell, load = "One paced stream", Load("paced", requests=self.single_streams)
        direct = self._run(load, cell, direct=True)
        result = self._run(load, cell)
        first, reference = result["first_token"].get("p50"), direct["first_token"].get("p50")
        added = first - reference if first is not None and reference is not None else None
        figures: Figures = {"first_token_ms": first, "added_first_token_ms": added}
        figures |= _percentiles(result, "token_lag", "token_lag_", "p50", "p99")
        return figures | self._failures(cell, result)

    def _paced(self, streams: int) -> Figures:
        cell = f"{streams:,} paced streams"
        load = Load("paced", connections=streams, requests=streams, ramp_ms=1000)
        result, cpu = self._run_measured(load, cell)
        figures = _percentiles(result, "first_token", "first_token_", "p50", "p95")
        figures |= _percentiles(result, "total", "total_", "p50", "p95")
        figures |= _percentiles(result, "token_lag", "token_lag_", "p50", "p99")
        figures |= {"most_open_streams": result["max_open_streams"]}
        return figures | self._cpu_each(cpu, result["ok"], "stream") | self._failures(cell, result)

    def _beside_large(self) -> Figures:
        cell = "50 paced streams beside 1 MB posts"
        large = self._start(Load("large", connections=2))
        try:
            result = self._run(Load("paced", connections=50, seconds=self.seconds, ramp_ms=1000), cell)
        finally:
            large.send_signal(signal.SIGTERM)
        posts = self._finish(large, cell, PATIENCE_S)
        figures = _percentiles(result, "token_lag", "token_lag_", "p50", "p99")
        figures |= {"large_posts_per_s": posts["rps"]} | self._failures(cell, result)
        return figures | {"large_post_failures": self._failures(f"{cell}, the posts", posts)["failures"]}

    def _wrong_keys(self) -> Figures:
        key = "sk-th-" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(49))
        load = Load(connections=64, seconds=self.seconds, status=401, key=key)
        result, cpu = self._run_measured(load, "Wrong keys")
        refused = sum(result["status"].get(status, 0) for status in REFUSALS)
        if refused < result["requests"]:
            self._failures("Wrong keys", result)
        figures: Figures = {"refusals_per_s": _ratio(refused, result["elapsed_s"])}
        figures |= _percentiles(result, "headers", "", "p50", "p99")
        figures |= self._cpu_each(cpu, refused, "refusal")
        return figures | {"failures": result["requests"] - refused}

    def _books(self) -> Figures:
        """Never by leases, which such a rate would bring about: they are measured apart."""
        ms, _calls_per_s = self._book(1, PACED_CALLS, LEASE_CALLS_PER_S="0")
        return {f"p{share}_ms": ms[len(ms) * share // 100] for share in (50, 95, 99)}

    def _hot(self) -> Figures:
        """With leases from the first moments on, which a busy machine might not get to otherwise."""
        ms, calls_per_s = self._book(HOT_PROCESSES, 0, WEB_CONCURRENCY=str(HOT_PROCESSES), LEASE_CALLS_PER_S="20")
        _ms, exact = self._book(HOT_PROCESSES, 0, LEASE_CALLS_PER_S="0")
        figures: Figures = {"calls_per_s": calls_per_s, "calls_without_leases_per_s": exact}
        return figures | {f"p{share}_ms": ms[len(ms) * share // 100] for share in (50, 99)}

    def _book(self, processes: int, calls_per_s: int, **environ: str) -> tuple[list[float], float]:
        """Hold and book in so many processes: what each call took, and how many there were a second."""
        key = self._run_beside("govern.py").wait_for().strip()
        running = [
            self._run_beside("books.py", key, str(self.seconds), str(calls_per_s), **environ) for _ in range(processes)
        ]
        found = [json.loads(process.wait_for()) for process in running]
        ms = sorted(each for result in found for each in result["ms"])
        return ms, sum(len(result["ms"]) / result["seconds"] for result in found)

    def _run_beside(self, program: str, *arguments: str, **environ: str) -> "_Beside":
        command = [str(self.gateway.repo / ".venv/bin/python"), str(HERE / program), *arguments]
        env = {**self.gateway.env, "PYTHONPATH": str(self.gateway.repo), "LOG_LEVEL": "WARNING", **environ}
        return _Beside(program, command, self.gateway.repo, env)

    def _memory(self) -> Figures:
        return {"pss_mib": procs.pss_mib(self.gateway.pid)}


class _Beside:
    """A program of the project that runs beside the gateway."""

    def __init__(self, name: str, command: list[str], where: Path, env: dict[str, str]) -> None:
        self._name = name
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=where, env=env, stdout=pipe, stderr=pipe, text=True)

    def wait_for(self) -> str:
        """What it printed."""
        out, errors = self._process.communicate()
        if self._process.returncode:
            raise BenchError(f"{self._name} failed:\n{errors}")
        return out
