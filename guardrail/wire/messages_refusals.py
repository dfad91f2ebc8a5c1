"""Refusals and errors in the shapes of Anthropic's messages API.

A refusal is a message with one block of text and the stop reason ``refusal``. Its ``stop_details`` say the
same words. They alone do where an answer broke off, and where the request asked for structured output: the
SDK parses every text of such an answer, and a sentence is no JSON.

In an error our code stands in ``code`` and in ``details.error_code``, which the SDK shows as
``error_code``.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from guardrail.core.decision import Decision
from guardrail.wire import sse
from guardrail.wire.replies import UNAVAILABLE, Refusal, Reply, error_headers, refusal_fault

__all__ = ["NO_USAGE", "error_body", "error_reply", "event", "refusal_reply", "refused_message", "stop"]

NO_USAGE: Final = {"input_tokens": 0, "output_tokens": 0}

# platform.claude.com/docs/en/api/errors
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    UNAVAILABLE: "overloaded_error",
    529: "overloaded_error",
}


def refused_message(
    refusal: Refusal, *, id_: Any, model: Any, usage: Any, structured: bool
) -> dict[str, Any]:
    """A whole message that refuses."""
    words = [] if structured else [{"type": "text", "text": refusal.message}]
    head = {"id": id_, "type": "message", "role": "assistant", "model": model, "content": words}
    return {**head, **stop(refusal, structured=structured), "usage": usage}


def stop(refusal: Refusal, *, structured: bool) -> dict[str, Any]:
    """How a refused message ends."""
    ordinary = refusal.finish_reason == "stop"
    details = {"type": "refusal", "category": None, "explanation": refusal.message}
    return {
        "stop_reason": "end_turn" if ordinary else "refusal",
        "stop_sequence": None,
        "stop_details": None if ordinary and not structured else details,
    }


def event(type_: str, **fields: Any) -> bytes:
    """One event of a stream."""
    return sse.encode(orjson.dumps({"type": type_, **fields}), type_)


def error_body(status: int, code: str, message: str, /, **more: Any) -> bytes:
    """Anthropic's error envelope; its type follows from the status."""
    kind = _TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
    error = {"type": kind, "message": message, **more, "code": code, "details": {"error_code": code}}
    return orjson.dumps({"type": "error", "error": error})


def error_reply(status: int, code: str, message: str, param: str | None = None) -> Reply:
    """An error answer; its headers are those of any dialect."""
    more = {} if param is None else {"param": param}
    return Reply(status, error_body(status, code, message, **more), error_headers(status))


def refusal_reply(decision: Decision, refusal: Refusal) -> Reply:
    """A block as an HTTP error, with what such an error holds in any dialect."""
    error = refusal_fault(decision, refusal)
    more = {key: error[key] for key in ("param", "status", "innererror")}
    return Reply(refusal.status, error_body(refusal.status, error["code"], error["message"], **more))
