"""Schemas of what the gateway says about itself: explanations of calls, health of providers."""

from typing import Any, Final

from routes.openapi.shapes import (
    Schema,
    always,
    closed,
    either,
    flag,
    listed,
    number,
    one_of,
    opened,
    or_null,
    text,
    whole,
)

_price: Final = closed(
    {
        "is_free": flag(),
        "input_usd_per_million": text("USD, as a decimal number."),
        "output_usd_per_million": text("USD, as a decimal number."),
        "source": text(),
    }
)
_amount: Final = either(whole("Tokens."), text("USD, as a decimal number."))
_budget: Final = closed(
    {
        "scope": one_of("user", "key", "team", "model"),
        "unit": text(),
        "period": text(),
        "is_prepaid": flag(),
        **dict.fromkeys(("limit", "spent", "held", "needed", "left"), _amount),
        "resets_at": or_null(text(format="date-time")),
        "is_nearly_spent": flag(),
        "fits": flag("Whether the call fits in."),
    }
)
_limit: Final = closed(
    {
        "scope": text(),
        "unit": text(),
        "period": text(),
        **dict.fromkeys(("limit", "used", "needed", "left"), whole()),
        "wait_seconds": or_null(number("Until the call fits; null = never.")),
        "fits": flag(),
    }
)
_decision: Final = closed(
    {"is_admitted": flag()},
    {
        "status": whole(),
        "code": or_null(text()),
        "message": text(),
        "retry_after": or_null(number("Seconds.")),
        "details": {"type": "object"},
    },
)
_health: Final[dict[str, Schema]] = {
    "state": one_of("untried", "healthy", "half_open", "open", about="Of the circuit; open = left alone for now."),
    "failures_in_a_row": whole(),
    "retry_in_s": number(),
    "first_byte_ms": or_null(number()),
    "error": text(),
}
SCHEMAS: Final[dict[str, Any]] = {
    "Explanation": closed(
        {
            "object": always("explanation"),
            "operation": text(),
            "model": or_null(text()),
            "caller": closed({"user": text(), "key": or_null(text()), "team": or_null(text())}),
            "route": listed(
                closed(
                    {
                        "provider": text(),
                        "upstream_model": text(),
                        "priority": whole(),
                        "weight": whole(),
                        "price": or_null(_price),
                    }
                )
            ),
            "hold": or_null(
                closed(
                    {
                        "input_tokens": whole(),
                        "output_tokens": whole(),
                        "choices": whole(),
                        "images": whole(),
                        "max_output_tokens": or_null(whole()),
                        "is_limit_of_caller": flag(),
                        "cost_usd": text("USD, as a decimal number."),
                    }
                )
            ),
            "budgets": listed(_budget),
            "limits": listed(_limit),
            "decision": _decision,
        }
    ),
    "Health": closed(
        {
            "status": one_of("healthy", "degraded"),
            "worker": whole("The process that answered; each sees for itself."),
            "workers": whole("How many there are here."),
            "scope": text("The same in words."),
            "models": listed(
                closed(
                    {"model": text(), "deployments": listed(opened({"provider": text(), "model": text(), **_health}))}
                )
            ),
        }
    ),
}
