"""The twin of guardrail/wire/litellm_values.py: models, dicts and lists, changed where their JSON is."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from guardrail.wire.litellm_values import as_json, put


class Part(BaseModel):
    text: str | None = None
    kind: str = "text"


class Whole(BaseModel):
    parts: list[Part]
    extra: dict[str, Any] = {}


def leaves() -> st.SearchStrategy[Any]:
    return st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=5)


def values() -> st.SearchStrategy[Any]:
    keys = st.sampled_from(["a", "b", "c"])
    return st.recursive(
        leaves(), lambda own: st.lists(own, max_size=3) | st.dictionaries(keys, own), max_leaves=8
    )


def test_a_model_is_changed_in_place_where_it_differs():
    whole = Whole(parts=[Part(text="one"), Part(text="two")], extra={"a": 1})
    second = whole.parts[1]
    old = as_json(whole)
    new = copy.deepcopy(old)
    new["parts"][1]["text"] = "2"
    put(whole, old, new)
    assert (whole.parts[0].text, second.text, whole.extra) == ("one", "2", {"a": 1})


def test_what_is_taken_out_of_a_model_is_none():
    part = Part(text="one")
    put(part, as_json(part), {"kind": "text"})
    assert part.text is None


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), values()),
    st.dictionaries(st.text(max_size=2), values()),
)
def test_any_json_becomes_any_other(old: dict[str, Any], new: dict[str, Any]):
    target = copy.deepcopy(old)
    put(target, old, new)
    assert target == new


def test_what_litellm_adds_is_no_part_of_the_wire():
    empty, told = {"refusal": None}, {"citations": ["text"]}
    message = {"content": "x", "provider_specific_fields": empty}
    body = {"choices": [{"message": message}], "provider_specific_fields": told, "_hidden_params": {"k": 1}}
    assert as_json(body) == {
        "choices": [{"message": {"content": "x"}}],
        "provider_specific_fields": told,
    }


def test_a_models_nulls_are_left_out():
    assert as_json(Whole(parts=[Part()])) == {"parts": [{"kind": "text"}], "extra": {}}
