"""The policies of one call at work: what they find in its request and its answer, and what becomes of that.

Whatever is found is noted in the call's marks, the strongest action before others. A policy that is only tried (dry
run) notes and changes nothing. Requests are looked at as a whole before anything is reserved; answers as a whole or as
they come (services/guards/streams.py). What was taken out of a request is put back into the answer; what is found
in an answer itself is not.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from services import marks
from services.errors import GatewayError, PolicyViolation
from services.guards import rules, texts
from services.guards.rules import Judge, Policy
from services.guards.streams import Watched
from services.policies.rewrite import Action, Blocked, Placeholders, Rewriter, Watcher, restoring
from services.policies.scan import Finding
from services.providers.base import StreamDecoder
from services.types import EMBEDDING, MODERATION, Call
from utils import jsonx

MARKS: Final = {
    rules.ALLOW: marks.ALLOWED,
    rules.WARN: marks.WARNED,
    rules.REDACT: marks.REDACTED,
    rules.BLOCK: marks.BLOCKED,
}
IN_STREAMS: Final[dict[str, Action]] = {rules.BLOCK: "stop", rules.WARN: "watch", rules.REDACT: "mask"}
UNSAID: Final = frozenset({EMBEDDING, MODERATION})  # their answers have no texts
JSON: Final = "application/json"

Ask = Callable[[Judge, list[str]], bool]  # whether a model says that the texts break the rule


class Guard:
    """See the module; one for a call."""

    def __init__(self, policies: tuple[Policy, ...], noted: marks.Marks) -> None:
        self._marks = noted
        self._asked = tuple(one for one in policies if one.on_requests)
        self._answering = tuple(
            one for one in policies if one.on_answers and (one.scanners or rules.UNREADABLE in one.actions)
        )
        self._hidden, self.has_hidden = Placeholders(), False  # whether something was taken out of the request
        self._hides = any(rules.REDACT in one.scanners and not one.is_dry_run for one in self._asked)
        self.warned: dict[str, None] = {}  # rules that the caller is told of, in the order in which they were found
        self.version = " ".join(f"{one.uuid} {one.version}" for one in policies)
        noted.action, noted.policy_id = marks.ALLOWED, policies[0].id

    def admit(self, call: Call, ask: Ask) -> None:
        """Look at the request, and take out of it what may not go out.

        Raises:
            PolicyViolation: it may not go out at all.
            InvalidRequest: a policy cannot read it.
        """
        if not self._asked:
            return
        given, seen = call.body, dict[str, str]()
        call.body, chars = self._read(given, seen)
        if call.native is not None:
            call.native, chars = self._read(call.native, seen)
        if call.body is not given:
            call.body_bytes = max(call.body_bytes, len(jsonx.dumps(call.native or call.body)))
        for one in self._asked:
            if rules.UNREADABLE in one.actions:
                self._decide(one, rules.UNREADABLE, rules.BLOCK)
            if one.most_chars is not None and chars > one.most_chars:
                self._decide(one, rules.SIZE, one.actions[rules.SIZE])
        for one in self._asked:
            for judge in one.judges:
                self._judge(one, judge, ask, list(dict.fromkeys(seen.values())))

    def answered(self, call: Call, body: bytes, content_type: str) -> bytes:
        """A whole answer as its caller may have it; sounds and pictures pass.

        Raises:
            PolicyViolation: nobody may have it.
        """
        if not self._watches or call.operation in UNSAID:
            return body
        if content_type.startswith("text/"):
            return self.whole(body.decode("utf-8", "replace")).encode()
        if content_type != JSON:
            return body
        said = jsonx.loads(body)
        found = self.said(said)
        if call.is_native and call.reply is not None:
            call.reply.whole = found
        return body if found is said else jsonx.dumps(found)

    def streamed(self, call: Call, decoder: StreamDecoder) -> StreamDecoder:
        """The decoder of a stream, whose texts are then looked at; sounds pass."""
        return Watched(decoder, call, self) if self._watches and not call.is_binary else decoder

    # How streams.py asks

    def whole(self, text: str) -> str:
        """A text of the answer that is whole.

        Raises:
            PolicyViolation: nobody may have it.
        """
        chain = self.growing()
        return chain.feed(text) + chain.end()

    def growing(self) -> "Chain":
        """A text of the answer that comes in pieces.

        Raises:
            PolicyViolation: a policy that would look at it cannot be read.
        """
        for one in self._answering:
            if rules.UNREADABLE in one.actions:
                self._decide(one, rules.UNREADABLE, rules.BLOCK)
        return Chain(self, [(one, action) for one in self._answering for action in one.scanners], self._restoring())

    def said(self, value: Any) -> Any:
        """A part of the answer as JSON; of what an answer of the Responses API repeats, only its output is new.

        Raises:
            PolicyViolation: nobody may have it.
        """
        if isinstance(value, dict) and isinstance(value.get("response"), dict):
            return {**value, "response": self.said(value["response"])}
        if isinstance(value, dict) and value.get("object") == "response":
            told = texts.rewritten(value.get("output"), self.whole)
            return {**texts.rewritten(value, self._hidden.restore), "output": told}
        return texts.rewritten(value, self.whole)

    def found(self, policy: Policy, rule: str, action: str) -> None:
        """Note what a stream had.

        Raises:
            PolicyViolation: nobody may have it.
        """
        self._decide(policy, rule, action)

    @property
    def _watches(self) -> bool:
        return bool(self._answering) or self.has_hidden

    def _restoring(self) -> "Rewriter | None":
        return Rewriter(restoring(self._hidden)) if self.has_hidden else None

    def _read(self, value: Any, seen: dict[str, str]) -> tuple[Any, int]:
        """A body as it may go out, and how many characters it has; `seen`: texts that were read before."""
        chars = 0

        def take(text: str) -> str:
            nonlocal chars
            chars += len(text)
            if text not in seen:
                seen[text] = self._sent(text)
            return seen[text]

        return texts.rewritten(value, take), chars

    def _sent(self, text: str) -> str:
        """A text of the request as it may go out."""
        hidden: list[Finding] = []
        for one in self._asked:
            for action, finding in findings(one, text):
                self._decide(one, finding.rule, action)
                if action == rules.REDACT and not one.is_dry_run:
                    hidden.append(finding)
        if not self._hides:
            return text
        sent = self._hidden.redact(text, joined(hidden))
        self.has_hidden = self.has_hidden or sent != text
        return sent

    def _judge(self, policy: Policy, judge: Judge, ask: Ask, said: list[str]) -> None:
        try:
            is_broken = ask(judge, said)
        except GatewayError as exc:
            if policy.is_open or policy.is_dry_run:
                return
            raise PolicyViolation(
                f"The policy `{policy.name}` could not judge this: its rule `{judge.name}` asks a model that gave no"
                " usable answer."
            ) from exc
        if is_broken:
            self._decide(policy, judge.name, judge.action)

    def _decide(self, policy: Policy, rule: str, action: str) -> None:
        """Note what a rule found.

        Raises:
            PolicyViolation: it blocks.
        """
        mark = MARKS[action]
        mark = marks.DRY.get(mark, mark) if policy.is_dry_run else mark
        if marks.STRENGTH.index(mark) > marks.STRENGTH.index(self._marks.action or marks.ALLOWED):
            self._marks.action, self._marks.policy_id = mark, policy.id
        if policy.is_dry_run:
            return
        if action == rules.WARN:
            self.warned[f"{policy.name}: {rule}"] = None
        if action == rules.BLOCK:
            raise _violation(policy, rule)


class Chain:
    """A text of an answer in pieces, as each policy leaves it; first those that stop it, last what is put back."""

    def __init__(self, guard: Guard, parts: Iterable[tuple[Policy, str]], last: Rewriter | None) -> None:
        self._guard = guard
        self._stages: list[tuple[Rewriter, Watcher | None, Policy | None, str]] = []
        for policy, action in sorted(parts, key=lambda part: rules.ORDER.index(part[1])):
            watcher = Watcher(policy.scanners[action], "watch" if policy.is_dry_run else IN_STREAMS[action])
            self._stages.append((Rewriter(watcher), watcher, policy, action))
        if last is not None:
            self._stages.append((last, None, None, rules.ALLOW))

    def feed(self, piece: str) -> str:
        """What may be told now.

        Raises:
            PolicyViolation: nobody may have what comes next.
        """
        return self._passed(piece, is_end=False)

    def end(self) -> str:
        """The rest.

        Raises:
            PolicyViolation: nobody may have it.
        """
        return self._passed("", is_end=True)

    def _passed(self, piece: str, *, is_end: bool) -> str:
        for rewriter, watcher, policy, action in self._stages:
            with suppress(Blocked):  # it has noted the rule, which is told below
                piece = rewriter.feed(piece) + (rewriter.end() if is_end else "")
            if watcher is not None and policy is not None:
                for rule in watcher.found:
                    self._guard.found(policy, rule, action)
        return piece


def _violation(policy: Policy, rule: str) -> PolicyViolation:
    """What the caller is told: which policy and rule, never what was found."""
    said = f"The policy `{policy.name}` does not let this through: its rule `{rule}` found something."
    if rule == rules.UNREADABLE:
        said = f"The policy `{policy.name}` cannot be read, so it lets nothing through; it has to be saved anew."
    found = PolicyViolation(said)
    found.details = {"policy": policy.name, "policy_id": policy.uuid, "rule": rule}
    found.rule = f"policy {policy.id}"
    return found


def findings(policy: Policy, text: str) -> Iterator[tuple[str, Finding]]:
    """What a policy finds in a text, what blocks it first."""
    for action in rules.ORDER:
        if action in policy.scanners:
            for finding in policy.scanners[action].find(text):
                yield action, finding


def joined(findings: list[Finding]) -> list[Finding]:
    """The findings of several policies by their start, without overlaps."""
    joined: list[Finding] = []
    for one in sorted(findings, key=lambda finding: (finding.start, -finding.end)):
        if joined and one.start < joined[-1].end:
            last = joined[-1]
            joined[-1] = Finding(last.rule, last.start, max(last.end, one.end))
        else:
            joined.append(one)
    return joined
