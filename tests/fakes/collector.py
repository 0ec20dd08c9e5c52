"""A collector of OpenTelemetry on loopback: reads OTLP/HTTP with its protobuf messages, and answers as it is told."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

MESSAGES = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}


class Collector:
    """Runs from `start` to `stop`. What it refused it does not keep."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, str], Any]] = []  # path, headers, message
        self.raw = b""
        self.status = 200
        self.refused = 0
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if collector.status == 200:
                    message = MESSAGES[self.path]()
                    message.ParseFromString(body)
                    collector.raw += body
                    collector.taken.append((self.path, {k.lower(): v for k, v in self.headers.items()}, message))
                else:
                    collector.refused += 1
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Nothing on the screen."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> "Collector":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def spans(self) -> list[Any]:
        return [
            span
            for path, _headers, message in self.taken
            if path == "/v1/traces"
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def metrics(self) -> dict[str, dict[str, Any]]:
        """The latest of each metric, by the instance that sent it."""
        found: dict[str, dict[str, Any]] = {}
        for path, _headers, message in self.taken:
            if path == "/v1/metrics":
                for resource in message.resource_metrics:
                    instance = of(resource.resource)["service.instance.id"]
                    for metric in resource.scope_metrics[0].metrics:
                        found.setdefault(metric.name, {})[instance] = metric
        return found

    def wait(self, until: Callable[[], bool], within_s: float = 20.0) -> None:
        end = time.monotonic() + within_s
        while not until():
            assert time.monotonic() < end, self.taken
            time.sleep(0.05)


def of(thing: Any) -> dict[str, Any]:
    """The attributes of a span, resource or point."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in thing.attributes}
