"""The section ``routes`` of ``guardrail.yaml``: paths of an app that is not OpenAI-shaped."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from guardrail.config.model import Model
from guardrail.errors import ConfigError
from guardrail.wire.route import Route, StreamForm, placed

__all__ = ["RouteConfig", "RouteConfigs"]


class RouteConfig(Model):
    """One route: its path, and where in its bodies the texts stand."""

    path: str = Field(
        description="Exactly as it is called, but for a slash at its end; no variable parts ({id}, *)."
    )
    method: str = "POST"
    websocket: bool = Field(
        default=False, description="It takes messages of a WebSocket, each judged before it is passed on."
    )
    input: str | list[str] = Field(
        description="JSONPaths (RFC 9535) of the prompt, such as $.message; or text: the body is no JSON."
    )
    output: str | list[str] | None = Field(
        default=None,
        description="The same for the answer; the first one is where a refusal is written. Empty: answers "
        "are not judged.",
    )
    context: str | list[str] = Field(
        default=[], description="JSONPaths of what is read with the prompt and not judged itself."
    )
    stream: StreamForm | None = Field(
        default=None, description="The form of a streamed answer: sse, ndjson (a JSON text a line) or text."
    )
    stream_if: str | list[str] = Field(
        default=[],
        description="JSONPaths that match, and neither false nor null, in a request for a stream. Empty: "
        "every answer is one.",
    )
    delta: str | list[str] | None = Field(
        default=None,
        description="JSONPaths of the text in an event of a stream, or text. Empty: as output.",
    )
    end: str | list[str] = Field(
        default=[],
        description="JSONPaths that match in the last event or message of an answer, and neither false nor "
        "null.",
    )
    refusal: dict[str, Any] = Field(
        default_factory=dict, description="Other fields of the body that holds a refusal."
    )

    @model_validator(mode="after")
    def _law_sound(self) -> RouteConfig:
        try:
            self.route()
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def route(self) -> Route:
        """What a frontend is told. Raises ``ConfigError``."""
        return Route(**self.model_dump())


def _law_one_place(routes: list[RouteConfig]) -> list[RouteConfig]:
    try:
        placed(route.route() for route in routes)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return routes


RouteConfigs = Annotated[list[RouteConfig], AfterValidator(_law_one_place)]
"""Routes, of which no two have one method and path."""
