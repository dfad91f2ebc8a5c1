"""Requests to the endpoints of our own: JSON read strictly, and checked against a model."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from guardrail.errors import UnreadableRequest

__all__ = ["Message", "validated"]


class Message(BaseModel):
    """A chat message; its other fields are read as in a chat completion."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[str | dict[str, Any]] | None = None


Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], body: dict[str, Any]) -> Model:
    """The body as this model. Raises ``UnreadableRequest`` with the parameter, never with its value."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        known = [str(step) for step in first["loc"] if isinstance(step, int) or step in model.model_fields]
        if first["type"] == "extra_forbidden":  # the key is the caller's own
            raise UnreadableRequest("the body has a key that this endpoint does not know") from None
        param = known[0] if known else None
        raise UnreadableRequest(f"{'.'.join(known) or 'the body'}: {first['msg']}", param=param) from None
