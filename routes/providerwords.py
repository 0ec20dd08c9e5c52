"""What a check of a provider found, in words: in English for the command line, in any language for the panel."""

from typing import Final

from routes.admin.texts import N_, gettext
from services.checks import Finding

SENTENCES: Final = {
    "works": N_("It works and lists %(count)s models, such as %(names)s."),
    "works_empty": N_("It works, and lists no models."),
    "works_unlisted": N_("It works. What it lists is not what can be called: add its models by name."),
    "reached": N_("It can be reached. It has no list of models, so its key could not be tried."),
    "kind": N_("Its kind is not known to this version."),
    "sealed": N_("Its key was sealed with an encryption key that is no longer known. Enter it again."),
    "ca_file": N_("The CA file %(path)s cannot be read, or holds no certificate."),
    "dns": N_("The host %(host)s is not known. Check how it is written, and whether this machine can look up names."),
    "refused": N_(
        "Nobody answers at %(place)s (%(reason)s). Does it run, is the port right, does a firewall let calls out?"
    ),
    "forbidden": N_("This address is not called: %(reason)s."),
    "tls": N_("No secure connection to %(host)s: %(reason)s. If it has authorities of its own, name their CA file."),
    "no_tls": N_("No secure connection to %(host)s. Does it speak plain http there?"),
    "redirect": N_("It answers with a redirect (%(status)s), which is not followed. Enter the address it leads to."),
    "silent": N_("It was reached and did not answer in time: %(problem)s."),
    "token": N_("It gives no token for the key (%(status)s): %(message)s"),
    "key": N_("It refuses the key (%(status)s): %(message)s"),
    "account": N_("It takes the key, and the account has no credit (%(status)s): %(message)s"),
    "path": N_("It answers, but not at %(path)s (%(status)s). Is the base URL complete? Many end in /v1."),
    "busy": N_("It takes no more calls at the moment (%(status)s): %(message)s"),
    "failing": N_("It fails by itself (%(status)s): %(message)s"),
    "status": N_("It answers with an error (%(status)s): %(message)s"),
    "no_api": N_("Something answers, but not as this API would: %(problem)s."),
}


def english(finding: Finding) -> str:
    """The finding as the command line says it."""
    return SENTENCES[finding.code] % finding.values


def translated(finding: Finding) -> str:
    """The finding in the language of the request."""
    return gettext(SENTENCES[finding.code]) % finding.values
