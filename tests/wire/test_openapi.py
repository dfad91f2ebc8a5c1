"""The OpenAPI document: sound, complete, and of this very server. That it is true is tested end to end."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from guardrail.wire import openapi


def document(*ids: str, metrics: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(openapi.document(ids, "1.2.3", metrics=metrics))
    return found


def test_it_says_what_it_is():
    found = document("house")
    assert found["openapi"] == "3.1.0"
    assert (found["info"]["title"], found["info"]["version"]) == ("guardrail", "1.2.3")


def test_metrics_only_where_they_are_served():
    assert set(document()["paths"]) - set(document(metrics=False)["paths"]) == {"/metrics"}


def test_every_operation_has_a_name_of_its_own():
    paths = document()["paths"].values()
    names = [operation["operationId"] for path in paths for operation in path.values()]
    assert len(set(names)) == len(names) == 9


@pytest.mark.parametrize("name", ["TextCheck", "MessagesCheck", "ModerationRequest", "Params"])
def test_only_known_policies_may_be_named(name: str):
    found = document("house", "more")
    schema = {"$ref": f"#/components/schemas/{name}", "components": found["components"]}
    bodies: dict[str, dict[str, Any]] = {
        "TextCheck": {"text": "a"},
        "MessagesCheck": {"messages": [{"role": "user"}]},
        "ModerationRequest": {"input": "a"},
        "Params": {},
    }
    field = "policies" if "Check" in name else "guardrails"
    validator = jsonschema.Draft202012Validator(schema)
    for asked, sound in ((["more"], True), ([], True), (["nobody"], False), ("more", False)):
        assert validator.is_valid(bodies[name] | {field: asked}) is sound, asked
    strict = {"name": "more", "mode": "enforce", "on_unavailable": "closed"}
    objects = (
        (strict, name != "Params"),
        ({"name": "more", "mode": None}, name != "Params"),
        ({**strict, "name": "nobody"}, False),
        ({**strict, "mode": "shadow"}, False),
        ({**strict, "on_unavailable": "open"}, False),
        ({"mode": "enforce"}, False),
        ({**strict, "id": "more"}, False),
    )
    for entry, sound in objects:
        assert validator.is_valid(bodies[name] | {field: [entry]}) is sound, entry


@pytest.mark.parametrize("path", [openapi.MODERATIONS, openapi.CHECK, openapi.LITELLM, openapi.RESOLVE])
def test_a_header_may_name_known_policies(path: str):
    [operation] = document("house", "a.b")["paths"][path].values()
    [header] = [one for one in operation["parameters"] if one["in"] == "header"]
    assert header["name"] == "x-guardrail-add"
    validator = jsonschema.Draft202012Validator(header["schema"])
    for value in ("house", "a.b, house", " house ,,\ta.b", ""):
        assert validator.is_valid(value), value
    for value in ("nobody", "house,nobody", "house a.b", "axb", "housea.b"):
        assert not validator.is_valid(value), value


def test_every_reference_leads_somewhere():
    found = document("house")
    references = _references(found)
    assert len(references) > 10
    for reference in references:
        place: Any = found
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for one in value for found in _references(one)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [found for one in value.values() for found in _references(one)]


@pytest.mark.parametrize("path", [openapi.MODERATIONS, openapi.CHECK, openapi.LITELLM])
def test_every_answer_that_can_come_is_there(path: str):
    responses = document()["paths"][path]["post"]["responses"]
    assert set(responses) == {"200", "400", "408", "413", "415", "503"}
    for response in responses.values():
        assert response["headers"]["x-guardrail-id"]["required"] is True
