"""Every way a request can fail, and what its sender sees. Messages are safe to show to anyone.

class                      status  type                    code                      retry elsewhere
GatewayError               500     server_error            internal_server_error     no
  InvalidRequest           400     invalid_request_error   validation_error          no
    ModelNotAvailable      400     invalid_request_error   model_not_found           no
    Unsupported            400     invalid_request_error   unsupported_content       no
    BodyTooLarge           413     invalid_request_error   request_too_large         no
    FieldsInvalid          400     invalid_request_error   validation_error          no
    VariablesInvalid       422     invalid_request_error   variables_invalid         no
    BodyUnreadable         400     invalid_request_error   validation_error          no
      BodyEmpty            400     invalid_request_error   validation_error          no
    RepeatDiffers          422     invalid_request_error   idempotency_mismatch      no
  NotFound                 404     invalid_request_error   not_found                 no
  Conflict                 409     invalid_request_error   conflict                  no
    RepeatRuns             409     invalid_request_error   idempotency_running       no
    RepeatLost             409     invalid_request_error   idempotency_lost          no
  NotCached                504     invalid_request_error   not_cached                no
  AuthenticationFailed     401     authentication_error    invalid_key               no
  PermissionDenied         403     permission_error        permission_denied         no
    ModelNotAllowed        403     permission_error        permission_denied         no
    PolicyViolation        403     permission_error        policy_violation          no
  BudgetExceeded           402/429 insufficient_quota      budget_exceeded           no
  ModelNotPriced           402     insufficient_quota      model_not_priced          no
  RateLimited              429     rate_limit_error        rate_limit_exceeded       no
  TooManyAttempts          429     rate_limit_error        too_many_attempts         no
  AccountingUnavailable    503     server_error            accounting_unavailable    no
  Draining                 503     server_error            shutting_down             no
  Overloaded               503     server_error            overloaded                no
  CallerGone               499     invalid_request_error   client_closed_request     no
  UpstreamError            502     upstream_error          upstream_error            yes
    UpstreamUnreachable    502     upstream_error          upstream_unreachable      yes
    CredentialRefused      502     upstream_error          upstream_credential       yes
    UpstreamTimeout        504     upstream_error          upstream_timeout          yes
    UpstreamRefused        as sent as sent                 as sent                   by status
"""

import logging
import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.counting import Room
    from services.refusals import Who


NOTHING: "Final[Mapping[str, str | None]]" = MappingProxyType({})


class GatewayError(Exception):
    """Base of all errors that may reach a caller.

    `param` names the offending part of the request; `retry_after_s` and `should_retry` become the headers
    `retry-after` and `x-should-retry` (None = not sent), which the official SDKs obey. `details` has the numbers
    of the message for programs.
    """

    status: int = 500
    type: str = "server_error"
    code: str | None = "internal_server_error"
    is_retryable: bool = False  # may another deployment be tried?
    level: int = logging.ERROR
    should_retry: bool | None = None
    rule: str = ""  # what refused, such as `budget 17`; not told to anyone but admins
    refused: "tuple[Who, str | None] | None" = None  # a known caller who was refused, and the model they asked for
    noted: "Mapping[str, str | None]" = NOTHING  # what is stored with the call, by column

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.param, self.retry_after_s = param, retry_after_s
        self.details: dict[str, Any] = {}
        if code is not None:
            self.code = code

    def refuse(
        self, who: "Who", model: str | None = None, *, rule: str = "", noted: "Mapping[str, str | None]" = NOTHING
    ) -> None:
        """Mark it as the refusal of a known caller, for whoever asks why: see services/refusals.py.

        `noted`: what is stored with a call that is booked and with one that is not, by column.
        """
        self.refused, self.rule = (who, model), rule or self.rule
        self.noted = noted

    def hide(self, secret: str) -> None:
        """Take a secret out of all that is told: an upstream may repeat the credential it was sent, anywhere."""
        if not secret:
            return
        if secret in str(self):
            self.args = (str(self).replace(secret, "***"),)
        for name in ("type", "code", "param"):
            if secret in (getattr(self, name) or ""):
                setattr(self, name, getattr(self, name).replace(secret, "***"))


class InvalidRequest(GatewayError):
    """The request itself is wrong; sending it again changes nothing."""

    status, type, code, level = 400, "invalid_request_error", "validation_error", logging.INFO


class ModelNotAvailable(InvalidRequest):
    """No enabled model of that name, or this caller may not use it."""

    code = "model_not_found"


class Unsupported(InvalidRequest):
    """Content that the chosen upstream cannot take; dropping it would change the meaning."""

    code = "unsupported_content"


class BodyTooLarge(InvalidRequest):
    """More bytes than MAX_BODY_BYTES."""

    status, code = 413, "request_too_large"


class TooMuch(InvalidRequest):
    """The request is well formed, and its answer would be more than one answer may be or read; a narrower one fits."""

    status, code = 422, "too_much"


class FieldsInvalid(InvalidRequest):
    """Members of a body that cannot be taken, all of them at once, each with its reason in `details`."""

    def __init__(self, reasons: "Mapping[str, str]") -> None:
        super().__init__(f"fields [{', '.join(reasons)}] are invalid", param=next(iter(reasons), None))
        self.details = dict(reasons)


class VariablesInvalid(InvalidRequest):
    """Values that a stored prompt cannot take, or has not got, all of them at once, each with its reason."""

    status, code = 422, "variables_invalid"

    def __init__(self, reasons: "Mapping[str, str]") -> None:
        said = "; ".join(f"`variables.{name}` {reason}" for name, reason in reasons.items())
        super().__init__(f"{said}.", param=f"variables.{next(iter(reasons))}")
        self.details = {f"variables.{name}": reason for name, reason in reasons.items()}


class BodyUnreadable(InvalidRequest):
    """The body is no JSON object."""


class BodyEmpty(BodyUnreadable):
    """There is no body."""


class NotFound(GatewayError):
    """The thing asked for does not exist, or is somebody else's."""

    status, type, code, level = 404, "invalid_request_error", "not_found", logging.INFO


class Conflict(GatewayError):
    """Something stands in the way that is there already, or somebody else changed the same thing."""

    status, type, code, level = 409, "invalid_request_error", "conflict", logging.INFO


class RepeatDiffers(InvalidRequest):
    """The `Idempotency-Key` came before, with another request."""

    status, code = 422, "idempotency_mismatch"


class RepeatRuns(Conflict):
    """The first call with this `Idempotency-Key` is still under way."""

    code, should_retry = "idempotency_running", True


class RepeatLost(Conflict):
    """The first call with this `Idempotency-Key` was made and booked, and its answer is not there any more."""

    code, should_retry = "idempotency_lost", False


class NotCached(GatewayError):
    """The caller wants an answer of the cache or none, and there is none."""

    status, type, code, level, should_retry = 504, "invalid_request_error", "not_cached", logging.INFO, False


class AuthenticationFailed(GatewayError):
    """No credential, a malformed one, or one that opens nothing; `code` says which."""

    # Not logged at the usual level: a flood of wrong keys would be a flood of lines. Sign-ins are audited.
    status, type, code, level = 401, "authentication_error", "invalid_key", logging.DEBUG


class PermissionDenied(GatewayError):
    """A known caller who may not do this."""

    status, type, code, level = 403, "permission_error", "permission_denied", logging.INFO


class ModelNotAllowed(PermissionDenied):
    """The key, its user or their team has a list of models, and this one is not on it."""


class PolicyViolation(PermissionDenied):
    """A policy lets something not go out or not come back; the message never says what was found."""

    code, should_retry = "policy_violation", False


class BudgetExceeded(GatewayError):
    """A budget cannot take the call. 402 when only people can help, 429 when a new period will."""

    status, type, code, level = 402, "insufficient_quota", "budget_exceeded", logging.INFO

    def __init__(
        self, message: str, *, resets_in_s: int | None, is_spent: bool, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, retry_after_s=resets_in_s if is_spent else 1)
        self.status = 402 if resets_in_s is None else 429
        self.should_retry = not is_spent  # held money may come back at once, spent money does not
        self.details = details or {}


class RateLimited(GatewayError):
    """A limit has no room for the call. `room` is the limit that refused, for the headers."""

    status, type, code, level = 429, "rate_limit_error", "rate_limit_exceeded", logging.INFO

    def __init__(self, message: str, *, wait_s: float, room: "Room", details: dict[str, Any]) -> None:
        super().__init__(message, retry_after_s=None if math.isinf(wait_s) else max(1, math.ceil(wait_s)))
        self.should_retry = wait_s <= LONGEST_WAIT_S
        self.room, self.details = room, {**details, "retry_after": self.retry_after_s}


class ModelNotPriced(GatewayError):
    """Nobody said what the model costs, and unknown is not free."""

    status, type, code, level, should_retry = 402, "insufficient_quota", "model_not_priced", logging.WARNING, False


class TooManyAttempts(GatewayError):
    """Sign-in or registration, too often."""

    status, type, code, level = 429, "rate_limit_error", "too_many_attempts", logging.WARNING


class AccountingUnavailable(GatewayError):
    """The books cannot be written, so nothing is admitted."""

    status, code, should_retry = 503, "accounting_unavailable", True


class Draining(GatewayError):
    """This worker is ending; another one will take the call."""

    status, code, level, should_retry = 503, "shutting_down", logging.INFO, True


class Overloaded(GatewayError):
    """This worker has no place for the request; `rule` is what it was refused as (services/shedding.py)."""

    status, code, level, should_retry = 503, "overloaded", logging.WARNING, True


class CallerGone(GatewayError):
    """The caller closed the connection; nobody reads this answer."""

    status, type, code, level = 499, "invalid_request_error", "client_closed_request", logging.INFO


class UpstreamError(GatewayError):
    """The provider failed or answered something unusable."""

    code: str | None = "upstream_error"
    status, type, is_retryable, level = 502, "upstream_error", True, logging.WARNING


class UpstreamUnreachable(UpstreamError):
    """No connection, no such host, no valid certificate, or an address that must not be reached."""

    code = "upstream_unreachable"


class CredentialRefused(UpstreamError):
    """The provider does not take the gateway's own credential or account; another one may have a better one."""

    code = "upstream_credential"


class UpstreamTimeout(UpstreamError):
    """The provider was silent for too long."""

    status, code = 504, "upstream_timeout"


class UpstreamRefused(UpstreamError):
    """The provider answered with an error of its own, which is handed on without secrets."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type_: str = "upstream_error",
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)
        self.status, self.type, self.code = status, type_, code
        self.is_retryable = status in RETRYABLE_STATUSES
        self.level = logging.WARNING if self.is_retryable else logging.INFO


LONGEST_WAIT_S: Final = 60  # no client should sleep longer for a limit without asking its people
RETRYABLE_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})
