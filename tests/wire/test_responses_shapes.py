"""The shapes know every field that the SDK's types have."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pydantic
import pytest
from openai.types.responses import Response, ResponseOutputItem
from openai.types.responses.response_input_item import ResponseInputItem
from openai.types.responses.response_output_text import Annotation

from guardrail.core.conversation import Kind
from guardrail.wire.responses_shapes import ANNOTATION, CALLS, ITEMS, PARTS, RESPONSE, ROLES, Each


def models(union: Any) -> list[type[pydantic.BaseModel]]:
    inner = typing.get_args(union)
    return list(typing.get_args(inner[0]) if typing.get_origin(union) is typing.Annotated else inner)


def shapes_of(model: type[pydantic.BaseModel]) -> Iterator[Any]:
    kinds = str(model.model_fields["type"].annotation)
    found = [shape for name, shape in ITEMS.items() if f"'{name}'" in kinds]
    yield from found
    if not found:
        assert "item_reference" in kinds


def inside(annotation: Any) -> Iterator[type[pydantic.BaseModel]]:
    """The models in an annotation, at any depth of lists and unions."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from inside(inner)


def unknown(model: type[pydantic.BaseModel], shape: Any) -> Iterator[str]:
    """Fields of the SDK's model that a shape does not know."""
    shape = shape.of if isinstance(shape, Each) else shape
    if not isinstance(shape, Mapping):
        return
    for name, field in model.model_fields.items():
        if name not in shape:
            yield f"{model.__name__}.{name}"
        else:
            for inner in inside(field.annotation):
                yield from unknown(inner, shape[name])


@pytest.mark.parametrize(
    "model", [*models(ResponseInputItem), *models(ResponseOutputItem)], ids=lambda model: model.__name__
)
def test_no_field_of_an_item_is_forgotten(model: type[pydantic.BaseModel]):
    for shape in shapes_of(model):
        assert list(unknown(model, shape)) == []


def test_no_field_of_an_annotation_is_forgotten():
    assert [name for model in models(Annotation) for name in unknown(model, ANNOTATION)] == []


def test_no_field_of_a_response_is_forgotten():
    assert Response.model_fields.keys() - RESPONSE.keys() == set()


def test_every_role_and_every_call_is_of_an_item():
    assert ROLES.keys() <= ITEMS.keys()
    assert ITEMS.keys() >= CALLS
    assert not CALLS & ROLES.keys()


def test_every_part_has_one_text_of_its_own():
    for name, part in PARTS.items():
        assert len([shape for shape in part.values() if isinstance(shape, Kind)]) == 1, name
