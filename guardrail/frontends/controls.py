"""What a request asks of the guard itself is heeded here, and not forwarded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from guardrail.engine.check import GuardrailEngine
from guardrail.errors import UnreadableRequest
from guardrail.wire import azure, controls
from guardrail.wire.dialect import Dialect, GuardedRequest
from guardrail.wire.replies import Header

__all__ = ["adding", "forwarded_headers", "heeded"]

_REPLACED: Final = frozenset([b"content-length", b"accept-encoding", b"transfer-encoding"])


def heeded(
    engine: GuardrailEngine, dialect: Dialect, request: GuardedRequest, headers: Iterable[Header]
) -> tuple[GuardrailEngine, GuardedRequest]:
    """The engine and the request with what body and headers ask for. Raises ``UnreadableRequest``."""
    engine = engine.adding(request.added_policies)
    asked = controls.read_headers(headers)
    if not any(asked):
        return engine, request
    engine = adding(engine, asked.added)
    added = (*request.added_policies, *asked.added)
    annotations = request.annotations
    if asked.annotated and azure.annotates(dialect):
        annotations = (*annotations, azure.Annotations())
    return engine, replace(request, added_policies=added, annotations=annotations)


def adding(engine: GuardrailEngine, ids: Sequence[str]) -> GuardrailEngine:
    """The engine with the policies that the headers of a request add. Raises ``UnreadableRequest``."""
    try:
        return engine.adding(ids)
    except UnreadableRequest:
        message = f"{controls.ADD} names an unknown policy"
        raise UnreadableRequest(message, param=controls.ADD) from None


def forwarded_headers(headers: Iterable[Header], size: int) -> list[Header]:
    """The headers of a request as they go on, with a body of ``size`` bytes."""
    kept = [
        header
        for header in headers
        if (name := header[0].lower()) not in _REPLACED and name[:12] != controls.OURS
    ]
    kept.append((b"content-length", str(size).encode()))
    kept.append((b"accept-encoding", b"identity"))  # what is compressed cannot be judged
    return kept
