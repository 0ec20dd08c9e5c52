"""What a policy would make of a text, without a call."""

from dataclasses import dataclass

from services.guards import rules
from services.guards.guard import findings, joined
from services.guards.rules import Policy
from services.policies.rewrite import Placeholders, label


@dataclass(frozen=True, slots=True)
class Trial:
    """What is found, as rule, action and text; and what becomes of the text."""

    found: list[tuple[str, str, str]]
    sent: str
    is_refused: bool
    is_dry_run: bool
    is_answer: bool  # the policy looks at answers alone, so the text was taken as one
    has_judges: bool  # … that were not asked
    has_others: bool  # … that look for something in a text

    @property
    def is_silent(self) -> bool:
        """Whether nothing was found where something was looked for."""
        return not self.found and (self.has_others or not self.has_judges)


def of(policy: Policy, text: str) -> Trial:
    """A policy tried on a text of a request, or of an answer if it looks at nothing else."""
    is_answer = not policy.on_requests
    seen = sorted(findings(policy, text), key=lambda one: one[1].start)
    found = [(finding.rule, action, text[finding.start : finding.end]) for action, finding in seen]
    if rules.UNREADABLE in policy.actions:
        found.append((rules.UNREADABLE, rules.BLOCK, ""))
    if not is_answer and policy.most_chars is not None and len(text) > policy.most_chars:
        found.append((rules.SIZE, policy.actions[rules.SIZE], f"{len(text):,}"))
    hidden = joined([finding for action, finding in seen if action == rules.REDACT])
    sent = text
    if hidden and not policy.is_dry_run and is_answer:
        for finding in reversed(hidden):
            sent = f"{sent[: finding.start]}[{label(finding.rule)}]{sent[finding.end :]}"
    elif hidden and not policy.is_dry_run:
        sent = Placeholders().redact(text, hidden)
    is_refused = not policy.is_dry_run and any(action == rules.BLOCK for _rule, action, _value in found)
    return Trial(
        found,
        sent,
        is_refused,
        policy.is_dry_run,
        is_answer,
        has_judges=bool(policy.judges) and not is_answer,
        has_others=bool(policy.scanners),
    )
