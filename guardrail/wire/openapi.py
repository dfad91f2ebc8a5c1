"""The OpenAPI 3.1 document of the endpoints that the proxy answers itself.

Bodies come from the models that read and write them; the ids of the policies are those that are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from guardrail.core.policy import FailMode, Mode, Stage
from guardrail.wire.checks import ADDED, Checked, MessagesCheck, TextCheck
from guardrail.wire.controls import ADD
from guardrail.wire.litellm_api import Intervention, LiteLLMRequest
from guardrail.wire.moderations import Moderation, ModerationRequest
from guardrail.wire.policies import PolicyList, Resolved

__all__ = ["CHECK", "DOCUMENT", "LITELLM", "MODERATIONS", "POLICIES", "RESOLVE", "document"]

MODERATIONS: Final = "/v1/moderations"
CHECK: Final = "/guardrail/v1/check"
POLICIES: Final = "/guardrail/v1/policies"
RESOLVE: Final = "/guardrail/v1/policies/resolve"
DOCUMENT: Final = "/guardrail/v1/openapi.json"
LITELLM: Final = "/beta/litellm_basic_guardrail_api"

_JSON: Final = "application/json"
_Json = dict[str, Any]


class Fault(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str


class Error(BaseModel):
    """OpenAI's error envelope."""

    error: Fault


_READ: Final[tuple[type[BaseModel], ...]] = (ModerationRequest, TextCheck, MessagesCheck, LiteLLMRequest)
_WRITTEN: Final[tuple[type[BaseModel], ...]] = (
    Moderation,
    Checked,
    PolicyList,
    Resolved,
    Intervention,
    Error,
)
_HEADERS: Final[_Json] = {
    "x-guardrail-decision": "pass, flag, redact or block; block also where nothing was decided.",
    "x-guardrail-id": "The id of the decision, as in the audit record.",
}
_MORE_HEADERS: Final[_Json] = {
    "x-guardrail-coverage": "How many texts were judged, redacted, unreadable and skipped.",
    "x-guardrail-policies": "Policies whose finding asks for the action.",
    "x-guardrail-degraded": "policy=reason for each check that no judge has made.",
    "x-guardrail-unjudged": "JSON paths of what nobody could read.",
}


def document(policy_ids: Sequence[str], version: str, *, metrics: bool) -> bytes:
    """The document as JSON. ``metrics``: ``/metrics`` is among the endpoints."""
    modes: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        *((model, "validation") for model in _READ),
        *((model, "serialization") for model in _WRITTEN),
    ]
    _, schemas = models_json_schema(modes, ref_template="#/components/schemas/{model}")
    ids = {"type": "string", "enum": [*policy_ids]}
    definitions = schemas["$defs"]
    definitions["NamedPolicy"] = _named(ids)
    entries = {"anyOf": [ids, {"$ref": "#/components/schemas/NamedPolicy"}]}
    for model in ("TextCheck", "MessagesCheck"):
        definitions[model]["properties"][ADDED]["items"] = entries
    definitions["ModerationRequest"]["properties"]["guardrails"]["anyOf"][0]["items"] = entries
    definitions["Params"]["properties"]["guardrails"]["anyOf"][0]["items"] = ids
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "guardrail",
            "version": version,
            "description": "What the proxy answers itself, from its own policies.",
        },
        "paths": _paths(ids, metrics=metrics),
        "components": {"schemas": definitions},
    }
    return orjson.dumps(whole)


def _named(ids: _Json) -> _Json:
    """A policy and how strict it is to be, as far as that is allowed whatever the policy is."""
    return {
        "type": "object",
        "description": "A policy that is to judge this too, and how.",
        "properties": {
            "name": ids,
            "mode": {"enum": [Mode.ENFORCE.value, None]},
            "on_unavailable": {"enum": [FailMode.CLOSED.value, None]},
        },
        "required": ["name"],
        "additionalProperties": False,
    }


def _header(ids: _Json) -> _Json:
    one = f"[ \\t]*({'|'.join(ids['enum'])})?[ \\t]*".replace(
        ".", "[.]"
    )  # nothing else in an id is special
    return {
        "name": ADD,
        "in": "header",
        "description": "Ids of policies that are to judge this too, separated by commas.",
        "schema": {"type": "string", "pattern": f"^{one}(,{one})*$"},
    }


def _paths(ids: _Json, *, metrics: bool) -> _Json:
    paths = {
        MODERATIONS: _post(
            "moderate", "Judge texts by the input policies", _ref(ModerationRequest), Moderation
        ),
        CHECK: _post(
            "check",
            "Decide about a text or messages",
            {"oneOf": [_ref(TextCheck), _ref(MessagesCheck)]},
            Checked,
            unavailable=False,
        ),
        LITELLM: _post(
            "guardLiteLLM", "LiteLLM's generic guardrail API", _ref(LiteLLMRequest), Intervention
        ),
        POLICIES: _get("listPolicies", "The policies that a request may name", _body(PolicyList)),
        RESOLVE: _resolve(ids),
        DOCUMENT: _get("openapi", "This document", {"schema": {"type": "object"}}),
        "/healthz": _get(
            "health", "Whether the process answers", {"schema": {"const": "ok"}}, "text/plain"
        ),
        "/readyz": _ready(),
    }
    for path in (MODERATIONS, CHECK, LITELLM, RESOLVE):
        [operation] = paths[path].values()
        operation.setdefault("parameters", []).append(_header(ids))
    if metrics:
        text = {"schema": {"type": "string"}}
        paths["/metrics"] = _get("metrics", "Metrics for Prometheus", text, "text/plain")
    return paths


def _ref(model: type[BaseModel]) -> _Json:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _body(model: type[BaseModel]) -> _Json:
    return {"schema": _ref(model)}


def _post(
    name: str, summary: str, request: _Json, answer: type[BaseModel], *, unavailable: bool = True
) -> _Json:
    busy = "Too many requests at once"
    responses = {
        "200": {
            "description": "What was found",
            "headers": _headers(_HEADERS, required=True) | _headers(_MORE_HEADERS),
            "content": {_JSON: _body(answer)},
        },
        "400": _error("The body cannot be read"),
        "408": _error("The body did not arrive in time"),
        "413": _error("The body is too large"),
        "415": _error("The body is compressed"),
        "503": _error(f"A check could not be made, or: {busy.lower()}" if unavailable else busy),
    }
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "requestBody": {"required": True, "content": {_JSON: {"schema": request}}},
            "responses": responses,
        }
    }


def _error(description: str) -> _Json:
    return {
        "description": description,
        "headers": _headers(_HEADERS, required=True),
        "content": {_JSON: _body(Error)},
    }


def _headers(described: _Json, *, required: bool = False) -> _Json:
    return {
        name: {"description": text, "required": required, "schema": {"type": "string"}}
        for name, text in described.items()
    }


def _get(name: str, summary: str, content: _Json, media_type: str = _JSON) -> _Json:
    responses = {"200": {"description": summary, "content": {media_type: content}}}
    return {"get": {"operationId": name, "summary": summary, "responses": responses}}


def _resolve(ids: _Json) -> _Json:
    path = _get("resolvePolicies", "Which policies judge a request, and why", _body(Resolved))
    path["get"]["parameters"] = [
        {
            "name": "stage",
            "in": "query",
            "required": True,
            "schema": {"type": "string", "enum": [stage.value for stage in Stage]},
        },
        {
            "name": "policies",
            "in": "query",
            "description": "Ids that a request asks for, separated by commas.",
            "style": "form",
            "explode": False,
            "schema": {"type": "array", "items": ids, "minItems": 1},
        },
        _stricter("mode", Mode.ENFORCE, "Those policies, shadows too, are to act."),
        _stricter("on_unavailable", FailMode.CLOSED, "Checks of those policies that fail are to block."),
    ]
    path["get"]["responses"]["400"] = _error("The query cannot be read")
    return path


def _stricter(name: str, word: Mode | FailMode, description: str) -> _Json:
    """A parameter that makes policies stricter; what does not is taken too, where nothing gets milder."""
    schema = {"type": "string", "enum": [word.value]}
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _ready() -> _Json:
    path = _get("ready", "Whether checks can be made", {"schema": {"const": "ok"}}, "text/plain")
    path["get"]["responses"]["503"] = {
        "description": "Warming up, or the judge cannot be reached",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    return path
