"""What kinds of personal data, their groups and the actions of policies are called in the panel."""

from typing import Any, Final

from routes.admin.texts import lazy_gettext
from services import marks
from services.policies.kinds import KINDS

_ = lazy_gettext

GROUPS: Final = {
    "secrets": _("Secrets"),
    "national": _("National numbers"),
    "payment": _("Payment cards"),
    "bank": _("Bank accounts"),
    "technical": _("Devices and vehicles"),
    "contact": _("Ways to reach somebody"),
    "personal": _("About a person"),
}
TITLES: Final = {
    "tollhouse_key": _("Key of this gateway"),
    "anthropic_key": _("API key of Anthropic"),
    "openrouter_key": _("API key of OpenRouter"),
    "openai_key": _("API key of OpenAI"),
    "aws_access_key": _("Access key of AWS"),
    "aws_secret_key": _("Secret key of AWS"),
    "github_token": _("Token of GitHub"),
    "gitlab_token": _("Token of GitLab"),
    "slack_token": _("Token of Slack"),
    "stripe_key": _("Key of Stripe"),
    "google_key": _("API key of Google"),
    "hugging_face_token": _("Token of Hugging Face"),
    "groq_key": _("API key of Groq"),
    "xai_key": _("API key of xAI"),
    "replicate_token": _("Token of Replicate"),
    "sendgrid_key": _("API key of SendGrid"),
    "npm_token": _("Token of npm"),
    "pypi_token": _("Token of PyPI"),
    "digitalocean_token": _("Token of DigitalOcean"),
    "telegram_token": _("Token of a Telegram bot"),
    "jwt": _("JSON Web Token"),
    "private_key": _("Private key"),
    "url_credentials": _("Address with a password"),
    "bearer_token": _("Token of an Authorization header"),
    "api_key": _("Other secret that is assigned"),
    "password": _("Password"),
    "ssn": _("Social security number (United States)"),
    "us_individual_tax_identification_number": _("Individual taxpayer number (United States)"),
    "ca_social_insurance_number": _("Social insurance number (Canada)"),
    "ca_health_number": _("Health number (Canada)"),
    "uk_national_health_service_number": _("NHS number (United Kingdom)"),
    "uk_national_insurance_number": _("National insurance number (United Kingdom)"),
    "uk_unique_taxpayer_reference_number": _("Taxpayer reference (United Kingdom)"),
    "in_aadhaar": _("Aadhaar (India)"),
    "in_permanent_account_number": _("Permanent account number (India)"),
    "in_voter_number": _("Voter number (India)"),
    "in_nrega": _("Job card of NREGA (India)"),
    "br_cpf": _("CPF (Brazil)"),
    "br_cnpj": _("CNPJ (Brazil)"),
    "br_rg": _("RG (Brazil)"),
    "es_national_identity": _("DNI or NIE (Spain)"),
    "it_fiscal_code": _("Codice fiscale (Italy)"),
    "mx_curp": _("CURP (Mexico)"),
    "ar_cuit": _("CUIT (Argentina)"),
    "cl_rut": _("RUT (Chile)"),
    "driver_id": _("Driving licence"),
    "passport_number": _("Passport"),
    "credit_debit_number": _("Number of a payment card"),
    "credit_debit_cvv": _("Security code of a payment card"),
    "credit_debit_expiry": _("Expiry of a payment card"),
    "pin": _("PIN"),
    "international_bank_account_number": _("IBAN"),
    "swift_code": _("SWIFT code (BIC)"),
    "bank_routing": _("Number of a bank or branch"),
    "bank_account_number": _("Number of a bank account"),
    "bitcoin_address": _("Bitcoin address"),
    "ip_address": _("IP address"),
    "mac_address": _("MAC address"),
    "imei": _("IMEI of a telephone"),
    "vehicle_identification_number": _("Vehicle identification number"),
    "license_plate": _("Licence plate"),
    "username": _("User name"),
    "email": _("E-mail address"),
    "phone": _("Telephone number"),
    "address": _("Postal address"),
    "url": _("Web address"),
    "birth_date": _("Date of birth"),
    "date_time": _("Date, with or without the time"),
    "age": _("Age"),
    "name": _("Name of a person"),
    "titled_name": _("Name of a person after a title"),
}
DECISIONS: Final = {  # what policies came to for a call
    marks.ALLOWED: _("Allowed"),
    marks.WARNED: _("Warned"),
    marks.REDACTED: _("Redacted"),
    marks.BLOCKED: _("Blocked"),
    marks.DRY[marks.WARNED]: _("Dry run: would warn"),
    marks.DRY[marks.REDACTED]: _("Dry run: would redact"),
    marks.DRY[marks.BLOCKED]: _("Dry run: would block"),
}


def title(kind: str) -> Any:
    """What people read for a kind."""
    return TITLES.get(kind) or KINDS[kind].title
