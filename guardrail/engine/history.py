"""One request's conversation, judged with the help of what is remembered of it.

What may be remembered, and why, stands in ``guardrail.core.history``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

import anyio

from guardrail.core import coverage, history
from guardrail.core.conversation import Address, Conversation, Kind, Subject, Turn, chain
from guardrail.core.decision import Decision, Failure
from guardrail.core.history import Remembered
from guardrail.core.policy import Action, Stage
from guardrail.core.redaction import Redaction, apply, merge
from guardrail.core.vault import Vault
from guardrail.ports import HistoryCache

if TYPE_CHECKING:
    from guardrail.engine.check import GuardrailEngine

__all__ = ["BlockedTurns", "Chat", "Memory"]

BlockedTurns = Literal["drop", "block"]
"""What becomes of a chat with a blocked turn: it goes on without the turn, or stays blocked."""

_NOTHING: Final = Remembered()


class Memory:
    """A ``HistoryCache`` under one root; see ``guardrail.core.history.root``."""

    __slots__ = ("_cache", "_root", "blocked_turns")

    def __init__(self, cache: HistoryCache, root: str, blocked_turns: BlockedTurns) -> None:
        self._cache = cache
        self._root = root
        self.blocked_turns = blocked_turns

    async def longest(self, prefixes: list[str], least: int) -> tuple[int, Remembered]:
        """The longest known prefix of more than ``least`` turns, else ``least`` turns and nothing known."""
        lengths = range(len(prefixes) - 1, least, -1)
        if lengths:
            found = await self._cache.get_many([self._root + prefixes[length] for length in lengths])
            for length, known in zip(lengths, found, strict=True):
                if known is not None:
                    return length, known
        return least, _NOTHING

    async def put(self, prefix: str, known: Remembered) -> None:
        """Remember one prefix. Its client may be gone by now; that takes nothing back."""
        with anyio.CancelScope(shield=True):
            await self._cache.put(self._root + prefix, known)


class Chat:
    """One request's conversation. First ``check_input``, then ``answered`` for each answer delivered.

    Without a ``memory`` all of it is judged. ``dropped`` are the turns that are not to be forwarded,
    by place; ``forwarded`` is the conversation without them.
    """

    def __init__(
        self,
        engine: GuardrailEngine,
        conversation: Conversation,
        lead: int,
        memory: Memory | None,
        vault: Vault | None = None,
    ) -> None:
        self._engine = engine
        self._conversation = conversation
        self._lead = lead
        self._memory = memory
        self._prefix = ""  # of the whole conversation
        self._state: Remembered | None = None  # what is known of the whole conversation
        self._prefixes: list[str] = []
        self._vault = vault
        self._start = lead  # where that begins which is not known
        self._known = _NOTHING
        self.dropped: tuple[int, ...] = ()

    @property
    def vault(self) -> Vault:
        """What was redacted in the prompt, to be restored in its answers."""
        if self._vault is None:
            self._vault = self._engine.vault(self._conversation)
        return self._vault

    def redacted(self, redactions: Iterable[Redaction]) -> dict[Address, str]:
        """The new texts of what goes to the model.

        What has a placeholder in one place has it in the others too, but for the application's own turns.
        """
        vault, texts = self.vault, dict[Address, str]()
        spans = {id(r.segment): r.spans for r in redactions}
        whole = self._conversation
        segments = [s for turn in (*whole.turns[self._lead :], *whole.asides) for s in turn.segments]
        for segment in segments:
            if own := spans.get(id(segment)):
                texts[segment.address] = apply(segment.text, vault.redactions(segment, own))
        for segment in segments if vault else ():
            if known := vault.values_in(segment):
                every = merge([*spans.get(id(segment), ()), *known])
                texts[segment.address] = apply(segment.text, vault.redactions(segment, every))
        return texts

    def delivered(
        self, answer: Turn, redactions: Iterable[Redaction], *, structured: bool = False
    ) -> dict[Address, str]:
        """The new texts of what goes to the client, where they change: redacted, and restored.

        ``structured``: the answer's text is JSON.
        """
        spans = {id(r.segment): r.spans for r in redactions}
        texts: dict[Address, str] = {}
        for segment in answer.segments if spans or self.vault else ():
            read = segment
            if structured and segment.kind is Kind.TEXT:
                read = replace(segment, kind=Kind.TOOL_ARGUMENTS)
            if edits := self.vault.answer(read, spans.get(id(segment), ())):
                texts[segment.address] = apply(segment.text, edits)
        return texts

    @property
    def blocked(self) -> bool:
        """Whether the whole conversation is known to be blocked."""
        return self._known.blocked and self._start == len(self._conversation.turns)

    @property
    def remembers(self) -> bool:
        """Whether it is of use to say what was ``answered``."""
        return self._state is not None

    @property
    def forwarded(self) -> Conversation:
        """The conversation as the model gets it, but for redactions."""
        whole = self._conversation
        if not self.dropped:
            return replace(whole, digest=self._prefix)
        return Conversation(self._kept(len(whole.turns)), whole.unreadable, whole.asides)

    async def recall(self) -> None:
        """Look up what is known of the conversation; ``check_input`` does it where nobody did."""
        if self._memory is not None and not self._prefixes:
            self._prefixes = chain(self._conversation.turns)
            self._prefix = self._prefixes[-1]
            self._start, self._known = await self._memory.longest(self._prefixes, self._lead)
            self.dropped = self._known.dropped

    async def check_input(self, *, decision_id: str, dialect: str) -> Decision:
        """Judge what is not known yet, and record the decision about the whole."""
        memory, whole = self._memory, self._conversation
        if memory is None:
            return await self._engine.check_input(whole, decision_id=decision_id, dialect=dialect)
        await self.recall()
        start, known = self._start, self._known
        new = whole.turns[start:]
        if self.blocked:
            self._state = known
            nobody = Subject(Stage.INPUT, (), whole.turns + whole.asides)
            decision = Decision(
                Stage.INPUT,
                Action.BLOCK,
                unjudged=whole.unreadable,
                id=decision_id,
                coverage=coverage.count(nobody, asked=False),
            )
            places = coverage.places(nobody, asked=False)
            self._engine.record(decision, dialect, "", checks=0, places=places)
            return decision
        digest = "" if known.dropped else self._prefixes[start]
        decision = await self._engine.check(
            Subject(Stage.INPUT, self._kept(start), new + whole.asides, digest),
            unjudged=whole.unreadable,
            decision_id=decision_id,
            dialect=dialect,
            redacted=history.redactions(whole.turns, known),
        )
        self._state = self._after(decision, start, known)
        if new and self._state is not None:
            await memory.put(self._prefix, self._state)
        return decision

    async def answered(self, answer: Turn) -> None:
        """Remember an answer as its client got it, be it a refusal."""
        state, memory = self._state, self._memory
        if state is None or memory is None:
            return
        if state.blocked:
            state = Remembered(True, state.spans, (*state.dropped, len(self._conversation.turns)))
        for form in history.forms(answer):
            await memory.put(chain([form], self._prefix)[-1], state)

    def _kept(self, end: int) -> tuple[Turn, ...]:
        turns = self._conversation.turns[:end]
        if not self.dropped:
            return turns
        return tuple(turn for index, turn in enumerate(turns) if index not in self.dropped)

    def _after(self, decision: Decision, start: int, known: Remembered) -> Remembered | None:
        """What is known of the whole conversation now; None when that is nothing for sure."""
        turns = self._conversation.turns
        if failed(decision.findings):
            return None
        if start == len(turns):
            return known if decision.action is not Action.BLOCK else None
        if self._conversation.asides:  # which may have made the turns look harmless, or harmful
            return None
        if decision.action is not Action.BLOCK:
            return history.judged(turns, decision.redactions, known)
        by_verdict = any(f.acts and f.action is Action.BLOCK for f in decision.findings)
        if by_verdict and self._memory and self._memory.blocked_turns == "drop":
            return history.blocked(turns, start, known)
        return None


def failed(findings: Iterable[object]) -> bool:
    """Whether any check could not be made."""
    return any(isinstance(finding, Failure) for finding in findings)
