"""The guard inside LiteLLM's proxy: a custom guardrail, named in LiteLLM's own ``config.yaml``.

    guardrails:
      - guardrail_name: written-policies
        litellm_params:
          guardrail: guardrail.frontends.litellm_guardrail.GuardrailForLiteLLM
          mode: [pre_call, post_call]
          default_on: true
          config_file: guardrail.yaml

What LiteLLM asks its guardrails about is judged if a dialect knows it (``ROUTES``); any other call is
refused, unless ``allow`` names its type. A block is LiteLLM's ``GuardrailRaisedException`` with status 400
and the configured refusal; a check that could not be made (fail mode closed) is one with status 503.

LiteLLM starts without a guardrail whose settings raise ``ValueError`` or ``TypeError``. Here they raise
``ConfigError``, which ends LiteLLM.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Final, cast

from litellm.exceptions import GuardrailRaisedException
from litellm.integrations.custom_guardrail import CustomGuardrail
from litellm.litellm_core_utils.core_helpers import get_or_create_metadata_bucket
from litellm.types.guardrails import GuardrailEventHooks

from guardrail.core.decision import Decision
from guardrail.errors import ConfigError, UnreadableRequest, UnreadableResponse
from guardrail.frontends.in_process import opened
from guardrail.frontends.litellm_call import GuardedCall, Stopped, Ticket
from guardrail.frontends.middleware import dialect_of
from guardrail.wire.replies import BAD_UPSTREAM

__all__ = ["ROUTES", "GuardrailForLiteLLM"]

ROUTES: Final = {
    "acompletion": "/v1/chat/completions",
    "completion": "/v1/chat/completions",
    "atext_completion": "/v1/completions",
    "text_completion": "/v1/completions",
    "aembedding": "/v1/embeddings",
    "embeddings": "/v1/embeddings",
    "aresponses": "/v1/responses",
    "responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
}
"""LiteLLM's types of calls, and the route whose dialect they speak."""

_MODES: Final = ("pre_call", "post_call")
_FORBIDDEN: Final = 403
_UNSEEN: Final = "the prompt of this answer was not judged, so the answer cannot be let through"


class GuardrailForLiteLLM(CustomGuardrail):  # type: ignore[misc]
    """Judges prompts and answers, bodies and streams, by the policies of a ``guardrail.yaml``.

    ``config_file`` is its path, taken from where LiteLLM was started; ``allow`` are types of calls that
    pass unjudged although no dialect knows them. ``mode`` must name both ``pre_call`` and ``post_call``.
    The file's ``upstream`` plays no part. Raises ``ConfigError``.
    """

    def __init__(
        self,
        guardrail_name: str = "guardrail",
        event_hook: Any = None,
        *,
        config_file: str = "",
        allow: Sequence[str] = (),
        **options: Any,
    ) -> None:
        if not config_file:
            raise ConfigError("litellm_params need config_file: the path of a guardrail.yaml")
        modes = [str(getattr(mode, "value", mode)) for mode in _listed(event_hook)]
        if sorted(modes) != sorted(_MODES):
            raise ConfigError("litellm_params need mode: [pre_call, post_call]; nothing less, nothing else")
        for option in ("run_in_parallel", "scan_raw_request"):
            if options.get(option):
                raise ConfigError(f"litellm_params: with {option} LiteLLM drops what a guardrail redacts")
        super().__init__(
            guardrail_name=guardrail_name,
            event_hook=[GuardrailEventHooks(mode) for mode in _MODES],
            supported_event_hooks=[GuardrailEventHooks(mode) for mode in _MODES],
            **options,
        )
        self._guard = opened(config_file)
        self._allow = frozenset(allow)
        self._key = f"guardrail_call:{guardrail_name}"

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Judge a prompt; redacts in ``data``. Raises ``GuardrailRaisedException``."""
        del user_api_key_dict, cache
        route = ROUTES.get(call_type)
        dialect = dialect_of(route) if route else None
        ticket = Ticket.new()
        if route is not None and dialect is not None:
            try:
                ticket.call = GuardedCall(self._guard, dialect, route, data)
                await ticket.call.before(data)
            except Stopped as stop:
                raise self._blocked(stop) from None
            except UnreadableRequest as error:
                raise self._failed(str(error), error.status) from None
        elif call_type not in self._allow:
            raise self._failed(f"no policy can be applied to calls of type {call_type}", _FORBIDDEN)
        get_or_create_metadata_bucket(data)[1][self._key] = ticket
        return data

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: Any, response: Any
    ) -> Any:
        """Judge an answer; redacts and restores in it. Raises ``GuardrailRaisedException``."""
        del user_api_key_dict
        call = self._ticket(data).call
        if call is None:
            return response
        try:
            await call.after(response)
        except Stopped as stop:
            raise self._blocked(stop) from None
        except UnreadableResponse as error:
            raise self._failed(str(error), BAD_UPSTREAM) from None
        return response

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """A stream as it may leave: held until judged. Raises ``GuardrailRaisedException``."""
        del user_api_key_dict
        call = self._ticket(request_data).call
        chunks = cast("AsyncIterator[Any]", response)
        if call is None:
            async for chunk in chunks:
                yield chunk
            return
        leaving = call.stream(chunks)
        try:
            async for chunk in leaving:
                yield chunk
        except Stopped as stop:
            raise self._blocked(stop) from None
        except UnreadableResponse as error:
            raise self._failed(str(error), BAD_UPSTREAM) from None
        finally:
            await leaving.aclose()

    def _ticket(self, data: dict[str, Any]) -> Ticket:
        """What the prompt's hook left. A caller's own metadata cannot be one."""
        ticket = get_or_create_metadata_bucket(data)[1].get(self._key)
        if not isinstance(ticket, Ticket):
            raise self._failed(_UNSEEN, 500)
        return ticket

    def _blocked(self, stop: Stopped) -> GuardrailRaisedException:
        decision: Decision = stop.decision
        return GuardrailRaisedException(
            self.guardrail_name,
            stop.message,
            should_wrap_with_default_message=False,
            status_code=stop.status,
            blocked_content=not decision.unavailable,
        )

    def _failed(self, message: str, status: int) -> GuardrailRaisedException:
        return GuardrailRaisedException(
            self.guardrail_name, message, should_wrap_with_default_message=False, status_code=status
        )


def _listed(modes: Any) -> Sequence[Any]:
    return modes if isinstance(modes, list) else [modes]
