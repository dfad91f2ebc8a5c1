"""One call in LiteLLM's proxy, from its prompt to its answer: LiteLLM's values in and out.

LiteLLM gives a guardrail the request as a dict with fields of its own among those of the API, and answers
as models of its own. Both are read and edited as the JSON that they are on the wire, by the dialect.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final, Self

import orjson

from guardrail.core.conversation import Address
from guardrail.core.decision import Decision
from guardrail.core.history import changed
from guardrail.core.policy import Action
from guardrail.engine.check import new_decision_id
from guardrail.engine.history import failed
from guardrail.errors import UnreadableRequest
from guardrail.frontends.in_process import InProcess
from guardrail.frontends.litellm_stream import HeldAnswer, held_chunks
from guardrail.wire.dialect import Choice, Dialect
from guardrail.wire.litellm_values import as_json, put
from guardrail.wire.replies import UNAVAILABLE

__all__ = ["GuardedCall", "Stopped", "Ticket"]

_REFUSED: Final = 400
_UNCHECKED: Final = "this could not be checked, and what is unchecked is not let through"
# What LiteLLM's proxy puts beside the fields of the API. No model gets to see it.
_OWN: Final = frozenset(
    [
        "applied_guardrails",
        "guardrail_to_apply",
        "guardrails",
        "litellm_call_id",
        "litellm_logging_obj",
        "litellm_metadata",
        "litellm_session_id",
        "litellm_trace_id",
        "metadata",
        "proxy_server_request",
        "secret_fields",
    ]
)
# Fields out of which LiteLLM makes another request than the one that is judged here: it takes other texts
# from them (a body over this one, a stored prompt, a provider's template), or routers of the caller's.
_REPLACING: Final = (
    "_async_prompt_merged_params",
    "assistant_continue_message",
    "bos_token",
    "custom_prompt_dict",
    "eos_token",
    "extra_body",
    "final_prompt_value",
    "hf_model_name",
    "initial_prompt_value",
    "litellm_system_prompt",
    "model_list",
    "prompt_id",
    "prompt_variables",
    "roles",
    "user_config",
    "user_continue_message",
)
_FALLBACKS: Final = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
# Where an API or a provider has its prompt. On a route that does not know the field, LiteLLM may still put
# it over the prompt that was judged, in a provider's own request.
_PROMPTS: Final = frozenset(
    ["contents", "input", "inputs", "instances", "instructions", "messages", "prompt", "system"]
)


class Stopped(Exception):
    """A prompt or an answer that must not pass: blocked, or not checked."""

    def __init__(self, decision: Decision, message: str) -> None:
        super().__init__("stopped by the guard")
        self.decision = decision
        self.message = _UNCHECKED if decision.unavailable else message
        self.status = UNAVAILABLE if decision.unavailable else _REFUSED


class Ticket(str):
    """Carries a call from one hook to the next in LiteLLM's metadata, where others see a random text.

    The call lives as long as the ticket. A copy is the ticket itself; what is written out is text.
    """

    __slots__ = ("call",)
    call: GuardedCall | None

    @classmethod
    def new(cls) -> Self:
        """A ticket without a call."""
        ticket = cls(secrets.token_hex(8))
        ticket.call = None
        return ticket

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


class GuardedCall:
    """One call: first ``before``, then ``after`` or ``stream``. Raises ``UnreadableRequest``."""

    def __init__(self, guard: InProcess, dialect: Dialect, route: str, data: Mapping[str, Any]) -> None:
        self._engine = guard.engine
        self._rules = guard.settings.streaming
        self._dialect = dialect
        self._id = new_decision_id()
        asked = data.get("proxy_server_request") or {}
        headers = [
            (str(name).lower().encode(), str(value).encode())
            for name, value in (asked.get("headers") or {}).items()
        ]
        self._refusing = guard.settings.refusals.for_request(route, headers)
        _refuse_replacing(data)
        self._raw = _body(data)
        self._request = dialect.read_request(self._raw)
        for name in _PROMPTS:
            if f"$.{name}" in self._request.conversation.unreadable:
                raise _replacing(name)
        self._chat = self._engine.chat(self._request.conversation)

    async def before(self, data: dict[str, Any]) -> None:
        """Judge the prompt, and put into ``data`` what the model may see of it. Raises ``Stopped``."""
        chat = self._chat
        await chat.recall()
        decision = await chat.check_input(decision_id=self._id, dialect=self._dialect.name)
        self._stop(decision)
        raw = self._raw
        if decision.action is Action.REDACT:
            raw = self._dialect.edit(raw, chat.redacted(decision.redactions))
        if chat.dropped:
            raw = self._dialect.drop(raw, chat.dropped)
        if raw is not self._raw:
            put(data, orjson.loads(self._raw), orjson.loads(raw))

    async def after(self, response: Any) -> None:
        """Judge the answer, and redact and restore in it. Raises ``Stopped``, ``UnreadableResponse``."""
        raw = orjson.dumps(as_json(response))
        decided = [(choice, await self._judge(choice)) for choice in self._dialect.read_response(raw)]
        for _, decision in decided:
            self._stop(decision)
        texts: dict[Address, str] = {}
        structured = self._request.structured
        for choice, decision in decided:
            texts |= self._chat.delivered(choice.turn, decision.redactions, structured=structured)
        if texts:
            put(response, orjson.loads(raw), orjson.loads(self._dialect.edit(raw, texts)))
        if self._chat.remembers:
            for choice, decision in decided:
                if not failed(decision.findings):
                    await self._chat.answered(changed(choice.turn, texts))

    def stream(self, chunks: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        """The chunks, each once its text was judged. Raises as ``after`` does."""
        held = HeldAnswer(
            self._engine,
            self._chat,
            self._rules,
            self._dialect.stream(self._request),
            structured=self._request.structured,
            decision_id=self._id,
            dialect=self._dialect.name,
        )
        return held_chunks(held, chunks, self._stop)

    async def _judge(self, choice: Choice) -> Decision:
        return await self._engine.check_output(
            self._chat.forwarded,
            choice.turn,
            unjudged=choice.unreadable,
            decision_id=self._id,
            dialect=self._dialect.name,
        )

    def _stop(self, decision: Decision) -> None:
        if decision.action is Action.BLOCK:
            raise Stopped(decision, self._refusing.of(decision).message)


def _refuse_replacing(data: Mapping[str, Any]) -> None:
    """Raises ``UnreadableRequest`` where LiteLLM would ask with other texts than those that are judged."""
    for name in _REPLACING:
        if data.get(name):
            raise _replacing(name)
    override = data.get("router_settings_override")
    for settings in (data, override if isinstance(override, Mapping) else {}):
        for name in _FALLBACKS:
            if not _only_models(settings.get(name)):
                raise _replacing(name)


def _replacing(name: str) -> UnreadableRequest:
    reason = f"{name} is not taken: by it LiteLLM may ask with another prompt than the one that is judged"
    return UnreadableRequest(reason, param=name)


def _only_models(fallbacks: Any) -> bool:
    """Whether fallbacks name models, for all or for each group, and else set numbers and switches alone."""
    if not fallbacks:
        return True
    if not isinstance(fallbacks, list):
        return False
    own = [entry for entry in fallbacks if isinstance(entry, dict)]
    if own == fallbacks and all(isinstance(value, list) for entry in own for value in entry.values()):
        groups = [group for entry in own for group in entry.items()]
        return all(name not in _PROMPTS and all(map(_is_model, models)) for name, models in groups)
    return all(map(_is_model, fallbacks))


def _is_model(target: Any) -> bool:
    if not isinstance(target, dict):
        return isinstance(target, str)
    return all(
        isinstance(value, str if name == "model" else (int, float, type(None)))
        for name, value in target.items()
    )


def _body(data: Mapping[str, Any]) -> bytes:
    """The request as it would be on the wire. Raises ``UnreadableRequest``."""
    try:
        return orjson.dumps({key: value for key, value in data.items() if key not in _OWN})
    except TypeError:
        raise UnreadableRequest("the call holds a value that is not JSON") from None
