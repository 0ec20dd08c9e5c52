"""The settings of alerts and of the mail server that sends some of them; config.py has all others."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from config_fields import Days, Port, Seconds, Share
from config_fields import setting as _


class AlertSettings(BaseModel):
    """See docs/alerts.md. A table, as in config.py."""

    # fmt: off
    smtp_host: str = _("SMTP_HOST", "", "Mail server that sends alerts to e-mail targets ([alerts.md](alerts.md)); empty: none are sent.", group="Alerts")
    smtp_port: Port = _("SMTP_PORT", 587, "Its port: mostly 587 with `starttls`, 465 with `tls`, 25 with `none`.")
    smtp_security: Literal["starttls", "tls", "none"] = _("SMTP_SECURITY", "starttls", "How it is spoken to: `starttls` begins plain and goes on encrypted, `tls` is encrypted from the start, `none` never.")
    smtp_user: str = _("SMTP_USER", "", "Whom to sign in as there; empty = nobody.")
    smtp_password: str = _("SMTP_PASSWORD", "", "The password for that.", secret=True)
    smtp_from: str = _("SMTP_FROM", "", "Sender of the messages, such as `alerts@example.com`; required with `SMTP_HOST`.")
    smtp_ca_file: str = _("SMTP_CA_FILE", "", "A file with the authorities that sign its certificate; empty = the public ones.")
    alert_key_days: Days = _("ALERT_KEY_DAYS", 7, "That many days before a key expires somebody is told, if it was made to live longer; 0 = never.")
    alert_error_rate: Share = _("ALERT_ERROR_RATE", 0.25, "Share of a model's calls that fail from which somebody is told, 0 to 1; 0 = never.")
    alert_error_calls: Annotated[int, Field(ge=1, le=5000)] = _("ALERT_ERROR_CALLS", 20, "Fewer calls of a model in the window tell nothing.")
    alert_error_window_s: Annotated[Seconds, Field(ge=10, le=86400)] = _("ALERT_ERROR_WINDOW", 300.0, "That window, as `300s` or `5m`.")
    alert_spool_s: Seconds = _("ALERT_SPOOL", 60.0, "Calls that wait to be booked for that long are told of; 0 = never.")
    alert_repeat_s: Annotated[Seconds, Field(ge=10)] = _("ALERT_REPEAT", 3600.0, "What lasts, such as a provider that is down, is told again after that.")
    alerts_retention_days: Annotated[int, Field(ge=35, le=3650)] = _("ALERTS_RETENTION_DAYS", 90, "Days that alerts are kept; those of budgets and balances without a period stay, since they say that they were told.")
    # fmt: on
