"""The endpoints that the proxy answers itself, from its own policies, with no upstream.

``POST /v1/moderations``                     OpenAI's
``POST /guardrail/v1/check``                 ours: the decision about a text or messages
``GET  /guardrail/v1/policies``              ours: the policies, and which of them apply (``/resolve``)
``GET  /guardrail/v1/openapi.json``          ours: what all of this looks like
``POST /beta/litellm_basic_guardrail_api``   LiteLLM's generic guardrail API
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from guardrail.engine.check import GuardrailEngine, new_decision_id
from guardrail.errors import UnreadableRequest
from guardrail.frontends.api_check import check
from guardrail.frontends.api_litellm import guard
from guardrail.frontends.api_moderations import moderate
from guardrail.frontends.controls import adding
from guardrail.frontends.endpoint import Endpoint, Handler
from guardrail.frontends.exchange import Settings
from guardrail.frontends.slots import Slots
from guardrail.wire import openapi
from guardrail.wire.controls import read_headers
from guardrail.wire.policies import Catalogue, Query, listed, read_query, resolved
from guardrail.wire.replies import openai_error, refused_headers

__all__ = ["Api"]


@dataclass(frozen=True, slots=True)
class Api:
    """What the endpoints need. ``trusted_roles`` are the engine's, ``slots`` those of the guarded routes.

    ``metrics``: ``/metrics`` is served.
    """

    engine: GuardrailEngine
    settings: Settings
    catalogue: Catalogue
    trusted_roles: frozenset[str]
    slots: Slots
    metrics: bool = False

    def routes(self) -> list[Route]:
        """The routes, to be given to ``ProxyApp``."""
        document = openapi.document(
            [policy.id for policy in self.catalogue.known], version("guardrail"), metrics=self.metrics
        )
        policies = listed(self.catalogue)

        def post(path: str, handler: Handler) -> Route:
            endpoint = Endpoint(self.engine, handler, self.settings.max_body_bytes, self.slots)
            return Route(path, endpoint, methods=["POST"])

        return [
            post(openapi.MODERATIONS, partial(moderate, self.catalogue)),
            post(openapi.CHECK, partial(check, self.trusted_roles)),
            post(openapi.LITELLM, partial(guard, self.settings)),
            Route(openapi.POLICIES, partial(_constant, policies)),
            Route(openapi.RESOLVE, partial(_resolve, self.engine, self.catalogue)),
            Route(openapi.DOCUMENT, partial(_constant, document)),
        ]


async def _constant(body: bytes, request: Request) -> Response:
    return Response(body, media_type="application/json")


async def _resolve(engine: GuardrailEngine, catalogue: Catalogue, request: Request) -> Response:
    try:
        query = read_query(request.scope["query_string"])
        added = read_headers(request.scope["headers"]).added
        engine = adding(engine, added)
        found = catalogue.resolve(query.stage, query.policies, query.mode)
        told = {policy.id for policy, _ in found}
        found += [one for one in catalogue.resolve(query.stage, added) if one[0].id not in told]
        body = resolved(query.stage, found, _strict(engine, query).fail_mode)
    except UnreadableRequest as error:
        reply = openai_error(error.status, "invalid_request_error", str(error), error.param)
        refused = [*reply.headers, *refused_headers(new_decision_id())]
        headers = {name.decode(): value.decode() for name, value in refused}
        return Response(reply.body, reply.status, headers)
    return Response(body, media_type="application/json")


def _strict(engine: GuardrailEngine, query: Query) -> GuardrailEngine:
    """The engine of such a request; the catalogue knows all of the query but what failures do."""
    try:
        return engine.adding(query.additions)
    except UnreadableRequest:
        message = "on_unavailable would let through what is not to be"
        raise UnreadableRequest(message, param="on_unavailable") from None
