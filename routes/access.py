"""The one event of each request that was answered: it is counted, and has a line in the log.

The line has the rule that answered and never the path, which may hold what its sender calls a secret; no query, no
header, no body, no address. Who it was stands there by number.
"""

import logging
from typing import TYPE_CHECKING, Final

from routes.render import REQUEST_ID
from utils.decorators import WHO
from utils.logs import ACCESS

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from services.metrics import Metrics

log = logging.getLogger(ACCESS)

QUIET: Final = ("/health", "/metrics")  # asked every few seconds by machines
FILES: Final = "/static/"  # of pages; a page has twenty
FAILED: Final = 400
NOBODY: Final = (None, None)


def answered(metrics: "Metrics", environ: "WSGIEnvironment", what: tuple[str, str, int], seconds: float) -> None:
    """A request was answered, up to the last byte. `what`: method, rule and status."""
    method, route, status = what
    metrics.request(method, route, status, seconds)
    is_quiet = status < FAILED and (route.startswith(QUIET) or FILES in route)
    if log.isEnabledFor(level := logging.DEBUG if is_quiet else logging.INFO):
        user_id, key_id = environ.get(WHO, NOBODY)
        log.log(
            level,
            "request method=%s route=%s status=%s duration_ms=%s user_id=%s key_id=%s request_id=%s",
            method,
            route,
            status,
            round(seconds * 1000, 1),
            user_id,
            key_id,
            environ.get(REQUEST_ID),
        )
