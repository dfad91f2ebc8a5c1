"""Requests to our own endpoints: what is read, what is refused, and that no value is told."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from guardrail.errors import UnreadableRequest
from guardrail.wire.openai_body import read_object
from guardrail.wire.requests import Message, validated

SECRET = "s3cret-w0rd"


class Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    kind: Literal["a", "b"] = "a"
    many: list[list[int]] = []


def refused(body: dict[str, Any], model: type[BaseModel] = Wanted) -> UnreadableRequest:
    with pytest.raises(UnreadableRequest) as caught:
        validated(model, body)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.status == 400
    return caught.value


def test_a_body_that_fits():
    assert validated(Wanted, {"name": "x", "kind": "b"}).kind == "b"


def test_a_field_that_does_not_fit_is_named():
    error = refused({"name": "x", "many": [[1], [SECRET]]})
    assert error.param == "many"
    assert str(error).startswith("many.1.0: ")
    assert refused({"name": "x", "kind": SECRET}).param == "kind"
    assert refused({}).param == "name"


def test_a_strange_key_is_not_repeated():
    error = refused({"name": "x", SECRET: 1})
    assert (str(error), error.param) == ("the body has a key that this endpoint does not know", None)


def test_a_body_that_is_none_at_all():
    with pytest.raises(UnreadableRequest, match=r"^the body: "):
        validated(Wanted, SECRET)  # type: ignore[arg-type]


def test_a_message_keeps_what_it_does_not_know():
    assert Message.model_validate({"role": "user", "x": 1}).model_extra == {"x": 1}
    assert refused({"role": "user", "content": 3}, Message).param == "content"


@given(
    st.dictionaries(
        st.sampled_from(["name", "kind", "many", SECRET]),
        st.recursive(
            st.none() | st.integers() | st.just(SECRET),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just(SECRET), inner, max_size=1),
            max_leaves=5,
        ),
        max_size=4,
    )
)
def test_no_message_ever_holds_a_value(body: dict[str, Any]):
    told = ""
    try:
        validated(Wanted, read_object(json.dumps(body).encode()))
    except UnreadableRequest as error:
        told = f"{error}{error.param}"
    assert SECRET not in told
