"""Alerts in words of the panel: what each event is called, what happened, and why a target did not take it.

What services say of a failure is kept as they said it; the texts below let routes/wording.py say it in another
language.
"""

from collections.abc import Mapping
from typing import Any, Final

from routes import wording
from routes.admin.texts import N_, gettext, lazy_gettext

_ = lazy_gettext

EVENT_NAMES: Final = {
    "budget.warning": _("Budget nearly spent"),
    "budget.exhausted": _("Budget used up"),
    "balance.low": _("Balance low"),
    "balance.exhausted": _("Balance used up"),
    "key.expiring": _("Key expires soon"),
    "provider.down": _("Provider down"),
    "errors.high": _("Many calls fail"),
    "spool.stuck": _("Calls wait to be booked"),
    "test": _("Test"),
}
EVENT_TONES: Final = {
    "budget.warning": "warn",
    "balance.low": "warn",
    "key.expiring": "warn",
    "test": "quiet",
}  # all others are bad
STATE_NAMES: Final = {"waiting": _("Waiting"), "sent": _("Sent"), "failed": _("Failed")}
STATE_TONES: Final = {"waiting": "warn", "sent": "good", "failed": "bad"}
KIND_NAMES: Final = {"webhook": _("Webhook"), "email": _("E-mail")}
SENTENCES: Final[Mapping[str, str]] = {
    "budget.warning": N_("%(owner)s: %(spent)s of %(limit)s is spent, %(percent)s %% of this budget."),
    "budget.exhausted": N_("%(owner)s: the budget of %(limit)s is used up, calls are refused."),
    "balance.low": N_("%(owner)s: %(left)s tokens of the balance are left."),
    "balance.exhausted": N_("%(owner)s: the balance is used up, calls are refused."),
    "key.expiring": N_("Key %(name)s of %(user)s expires at %(expires_at)s."),
    "provider.down": N_("Provider %(provider)s fails (%(what)s): %(error)s"),
    "errors.high": N_("Model %(model)s: %(failed)s of the last %(calls)s calls failed, %(percent)s %%."),
    "spool.stuck": N_("%(waiting)s calls wait to be booked on %(place)s, the oldest for %(seconds)s s."),
    "test": N_("A test of target %(target)s, sent by %(by)s."),
}
SAID: Final = ("what", "error")  # facts that are texts of services
OF_FAILURES: Final = (
    N_("all its models"),
    N_("the answer was %(status)s: %(why)s"),
    N_("the receiver does not understand it: see the form of alerts in docs/alerts.md"),
    N_("the receiver wants to know who sends: check the secret, or what the address carries"),
    N_("the receiver does not let it in: check the secret, or what the address carries"),
    N_("there is nothing at this address: check its path"),
    N_("this address takes no POST: check its path"),
    N_("the receiver is gone for good: enter another address, or disable the target"),
    N_("the receiver takes no such bodies; those of alerts are below 4 KB"),
    N_("the receiver is asked too often"),
    N_("the receiver failed"),
    N_("the receiver refused it"),
    N_("it leads on to %(host)s, and redirects are not followed: enter the address where it ends"),
    N_("it leads on, and redirects are not followed: enter the address where it ends"),
    N_("no answer within %(seconds)s s: the receiver should answer at once and do its work afterwards"),
    N_("the address did not take it: %(why)s: check the address, and that this host may reach it"),
    N_("the address was sealed with a key that is not in ENCRYPTION_KEYS: add it, or enter the address anew"),
    N_("the target is gone"),
    N_("no mail server is set: set SMTP_HOST and SMTP_FROM, and start the gateway again"),
    N_("the mail server took it, but not for %(count)s of the addresses: check them"),
    N_("the mail server did not take it: %(why)s"),
    N_("it refused SMTP_USER and SMTP_PASSWORD: check both"),
    N_("it hung up: check SMTP_PORT and SMTP_SECURITY"),
    N_("no answer in time: check SMTP_HOST and SMTP_PORT, and the firewall between"),
)


class _Missing(dict[str, Any]):
    """A fact that an alert of another version lacks."""

    def __missing__(self, name: str) -> str:
        return "?"


def sentence(event: str, facts: Mapping[str, Any]) -> str:
    """What happened, in the language of the request."""
    said = {name: wording.say(value) if name in SAID else value for name, value in facts.items()}
    return gettext(SENTENCES[event]) % _Missing(said) if event in SENTENCES else event


def overall(states: Mapping[str, int]) -> str:
    """The state of an alert by how many of its deliveries are in each; empty = nobody is told of it."""
    return next((state for state in ("failed", "waiting", "sent") if states.get(state)), "")
