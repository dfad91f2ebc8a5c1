"""Items as turns: which text of which item is read, in the SDK's own types."""

from __future__ import annotations

from typing import Any

import orjson
import pydantic
import pytest
from openai.types.responses import ResponseOutputItem
from openai.types.responses.response_input_item import ResponseInputItem

from guardrail.core.conversation import Kind, json_path
from guardrail.errors import UnreadableRequest
from guardrail.wire.responses_items import Reading, as_one, read_items, type_of
from tests.wire.responses import call, citation, message, reasoning, said

IN: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseInputItem)
OUT: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseOutputItem)
ARGS, FIELD, TEXT = Kind.TOOL_ARGUMENTS, Kind.FIELD, Kind.TEXT
LONG = "not a plain name"

# An item, who speaks, its texts with their kinds, and what of it is unreadable.
CASES: list[tuple[dict[str, Any], str, list[tuple[str, Kind]], list[str]]] = [
    ({"role": "user", "content": "a"}, "user", [("a", TEXT)], []),
    (
        {
            "role": "system",
            "content": [said("a"), {"type": "input_image", "detail": "auto", "file_id": "f"}],
        },
        "system",
        [("a", TEXT)],
        ["content[1]"],
    ),
    (
        message(said("a", "output_text", annotations=[citation(0, 1)]), said("b", "refusal")),
        "assistant",
        [("a", TEXT), ("A title", FIELD), ("b", Kind.REFUSAL)],
        [],
    ),
    (
        reasoning("a", content=[said("b", "reasoning_text")], encrypted_content="c"),
        "assistant",
        [("a", Kind.REASONING), ("b", Kind.REASONING)],
        ["encrypted_content"],
    ),
    (call("{}", name=LONG), "assistant", [(LONG, FIELD), ("{}", ARGS)], []),
    (
        {"type": "function_call_output", "call_id": LONG, "output": [said("a")]},
        "tool",
        [(LONG, FIELD), ("a", TEXT)],
        [],
    ),
    (
        {"type": "custom_tool_call", "call_id": "c", "name": "n", "input": "a"},
        "assistant",
        [("a", ARGS)],
        [],
    ),
    ({"type": "custom_tool_call_output", "call_id": "c", "output": "a"}, "tool", [("a", TEXT)], []),
    (
        {
            "type": "computer_call",
            "id": "i",
            "call_id": "c",
            "status": "completed",
            "action": {"type": "type", "text": "a"},
            "actions": [{"type": "keypress", "keys": ["b"]}],
            "pending_safety_checks": [{"id": "s", "code": "k", "message": "d"}],
        },
        "assistant",
        [("a", ARGS), ("b", ARGS), ("d", FIELD)],
        [],
    ),
    (
        {
            "type": "computer_call_output",
            "call_id": "c",
            "output": {"type": "computer_screenshot", "image_url": "data:"},
        },
        "tool",
        [],
        ["output"],
    ),
    (
        {
            "type": "local_shell_call",
            "id": "i",
            "call_id": "c",
            "status": "completed",
            "action": {"type": "exec", "command": ["a", "b"], "env": {"X": "d"}, "working_directory": "/w"},
        },
        "assistant",
        [("a", ARGS), ("b", ARGS), ("d", FIELD)],
        [],
    ),
    ({"type": "local_shell_call_output", "id": "i", "output": "a"}, "tool", [("a", TEXT)], []),
    (
        {"type": "shell_call", "call_id": "c", "action": {"commands": ["a"], "timeout_ms": 1}},
        "assistant",
        [("a", ARGS)],
        [],
    ),
    (
        {
            "type": "shell_call_output",
            "call_id": "c",
            "output": [{"stdout": "a", "stderr": "b", "outcome": {"type": "exit", "exit_code": 0}}],
        },
        "tool",
        [("a", TEXT), ("b", TEXT)],
        [],
    ),
    (
        {
            "type": "apply_patch_call",
            "call_id": "c",
            "status": "completed",
            "operation": {"type": "update_file", "path": "a/b c", "diff": "d"},
        },
        "assistant",
        [("a/b c", FIELD), ("d", ARGS)],
        [],
    ),
    (
        {"type": "apply_patch_call_output", "call_id": "c", "status": "failed", "output": "a"},
        "tool",
        [("a", TEXT)],
        [],
    ),
    (
        {
            "type": "mcp_call",
            "id": "i",
            "name": "n",
            "server_label": "s",
            "arguments": "{}",
            "output": "a",
            "error": "b",
        },
        "assistant",
        [("{}", ARGS), ("a", FIELD), ("b", FIELD)],
        [],
    ),
    (
        {"type": "mcp_approval_request", "id": "i", "name": "n", "server_label": "s", "arguments": "{}"},
        "assistant",
        [("{}", ARGS)],
        [],
    ),
    (
        {"type": "mcp_approval_response", "approval_request_id": "i", "approve": False, "reason": "a"},
        "user",
        [("a", TEXT)],
        [],
    ),
    (
        {
            "type": "mcp_list_tools",
            "id": "i",
            "server_label": "s",
            "tools": [{"name": "n", "description": "a b", "input_schema": {"type": "object", "c d": [1]}}],
        },
        "assistant",
        [("a b", FIELD)],
        ["tools[0].input_schema"],
    ),
    (
        {
            "type": "web_search_call",
            "id": "i",
            "status": "completed",
            "action": {
                "type": "search",
                "query": "a",
                "queries": ["b"],
                "sources": [{"type": "url", "url": "u"}],
            },
        },
        "assistant",
        [("a", FIELD), ("b", FIELD)],
        [],
    ),
    (
        {
            "type": "file_search_call",
            "id": "i",
            "status": "completed",
            "queries": ["a"],
            "results": [{"file_id": "f", "filename": "n", "text": "b", "attributes": {"k": "c", "n": 1.0}}],
        },
        "assistant",
        [("a", FIELD), ("b", FIELD), ("c", FIELD), ("1.0", FIELD)],
        [],
    ),
    (
        {
            "type": "code_interpreter_call",
            "id": "i",
            "status": "completed",
            "container_id": "c",
            "code": "a",
            "outputs": [{"type": "logs", "logs": "b"}, {"type": "image", "url": "u"}],
        },
        "assistant",
        [("a", FIELD), ("b", FIELD)],
        ["outputs[1].url"],
    ),
    (
        {"type": "image_generation_call", "id": "i", "status": "completed", "result": "aGk="},
        "assistant",
        [],
        ["result"],
    ),
    (
        {"type": "tool_search_call", "call_id": "c", "arguments": {"goal": "a", "n": [1, "b", True]}},
        "assistant",
        [("a", FIELD), ("1", FIELD), ("b", FIELD)],
        [],
    ),
    (
        {
            "type": "tool_search_output",
            "call_id": "c",
            "tools": [
                {"type": "function", "name": "n", "description": "a b", "parameters": None, "strict": True}
            ],
        },
        "tool",
        [("a b", FIELD)],
        [],
    ),
    (
        {"type": "additional_tools", "role": "developer", "tools": [{"type": "local_shell"}]},
        "developer",
        [],
        [],
    ),
    (
        {"type": "program", "id": "i", "call_id": "c", "code": "a", "fingerprint": "f"},
        "assistant",
        [("a", FIELD)],
        [],
    ),
    (
        {"type": "program_output", "id": "i", "call_id": "c", "result": "a", "status": "completed"},
        "assistant",
        [("a", FIELD)],
        [],
    ),
    ({"type": "compaction", "encrypted_content": "c"}, "assistant", [], ["encrypted_content"]),
    ({"type": "compaction_trigger"}, "assistant", [], []),
    ({"type": "item_reference", "id": "i"}, "assistant", [], [""]),
    ({"id": "i"}, "assistant", [], [""]),
]


@pytest.mark.parametrize(("item", "role", "texts", "named"), CASES, ids=lambda case: str(case)[:40])
def test_every_item_of_the_api(
    item: dict[str, Any], role: str, texts: list[tuple[str, Kind]], named: list[str]
):
    if item.get("type") != "image_generation_call":
        IN.validate_json(orjson.dumps(item), strict=True)
    unreadable: list[str] = []
    [said_once] = read_items([item], ("input",), unreadable)
    assert said_once.turn.role == role
    assert sorted((s.text, s.kind) for s in said_once.turn.segments) == sorted(texts)
    assert unreadable == [f"$.input[0]{'.' if path else ''}{path}" for path in named]
    for segment in said_once.turn.segments:
        value: Any = {"input": [item]}
        for step in segment.address:
            value = value[step]
        assert (value if isinstance(value, str) else str(value)) == segment.text


def test_all_types_of_the_sdk_are_known():
    known = {type_of(item) for item, *_ in CASES}
    for union in (ResponseInputItem, ResponseOutputItem):
        models = union.__origin__.__args__  # type: ignore[attr-defined]
        names = {str(model.model_fields["type"].annotation) for model in models}
        for name in names:
            assert any(f"'{kind}'" in name for kind in known), name


class TestAnswers:
    def test_ids_and_what_is_sealed_say_nothing(self):
        reading = Reading(answer=True)
        reading.item(reasoning(encrypted_content="c"), ())
        reading.item(call("{}", call_id=LONG), ())
        assert [s.text for s in reading.segments] == ["{}"]
        assert reading.unreadable == []

    def test_an_item_of_tomorrow_is_named(self):
        reading = Reading(answer=True)
        reading.items([{"type": "thought_of_tomorrow", "text": "x"}], ("output",))
        assert (reading.segments, reading.unreadable) == ([], ["$.output[0]"])

    def test_items_must_be_a_list(self):
        with pytest.raises(UnreadableRequest, match="no list"):
            Reading(answer=True).items({}, ("output",))


class TestWrongTypes:
    @pytest.mark.parametrize(
        ("item", "path"),
        [
            (call({"a": 1}), "arguments"),  # type: ignore[arg-type]
            (call(name=["x"]), "name"),  # type: ignore[arg-type]
            (call(caller="x"), "caller"),
            ({**reasoning(), "summary": "x"}, "summary"),
            ({"type": "file_search_call", "queries": "x"}, "queries"),
            ({"type": "file_search_call", "queries": [["x"]]}, "queries[0]"),
            ({"role": "user", "content": "", "x": "y"}, "x"),
            ({"role": "user", "content": [said("", x=["y"])]}, "content[0].x"),
        ],
    )
    def test_a_text_in_a_place_where_none_belongs_is_named(self, item: dict[str, Any], path: str):
        unreadable: list[str] = []
        read_items([item], ("input",), unreadable)
        assert unreadable == [f"$.input[0].{path}"]

    def test_numbers_where_nothing_is_known_say_nothing(self):
        unreadable: list[str] = []
        read_items([{"role": "user", "content": None, "x": 1, "y": ""}], ("input",), unreadable)
        assert unreadable == []

    @pytest.mark.parametrize("answer", [False, True])
    @pytest.mark.parametrize("kind", [{"content": []}, {"type": "additional_tools", "tools": []}])
    def test_a_role_that_is_more_than_a_name_is_judged(self, kind: dict[str, Any], answer: bool):
        reading = Reading(answer=answer)
        for role in ("critic", LONG):
            reading.item({"role": role, **kind}, (role,))
        assert [(s.text, s.address, s.kind) for s in reading.segments] == [(LONG, (LONG, "role"), FIELD)]
        assert reading.unreadable == []

    def test_strings_in_a_list_of_parts_are_texts(self):
        [one] = read_items([{"role": "user", "content": ["a", "b"]}], ("input",), [])
        assert [(s.text, json_path(s.address)) for s in one.turn.segments] == [
            ("a", "$.input[0].content[0]"),
            ("b", "$.input[0].content[1]"),
        ]

    def test_a_name_in_a_list_is_found_where_it_stands(self):
        tools = [["x y"], {"enum": ["plain", "not plain"]}]
        [one] = read_items([{"type": "tool_search_output", "tools": tools}], ("input",), [])
        assert [(s.text, s.address[2:]) for s in one.turn.segments] == [
            ("x y", ("tools", 0, 0)),
            ("not plain", ("tools", 1, "enum", 1)),
        ]

    @pytest.mark.parametrize(
        ("item", "told"),
        [
            ("x", "not an object"),
            ({"role": "user", "content": 1}, "neither"),
            ({"role": "user", "content": [1]}, "part"),
            ({"role": "user", "Content": "x"}, "case"),
        ],
    )
    def test_a_shape_that_no_server_takes_is_refused(self, item: Any, told: str):
        with pytest.raises(UnreadableRequest, match=told):
            read_items([item], ("input",), [])

    def test_additional_tools_name_a_role(self):
        with pytest.raises(UnreadableRequest, match="no role"):
            read_items([{"type": "additional_tools", "tools": []}], ("input",), [])


def test_items_of_the_assistant_in_a_row_are_one_turn():
    items = [reasoning("r"), {"role": "user", "content": "u"}, call("1"), message("a"), call("2")]
    found = read_items(items, ("input",), [])
    assert [list(one.items) for one in found] == [[0], [1], [2, 3, 4]]
    assert [s.text for s in found[2].turn.segments] == ["a", "1", "2"]


def test_as_one_puts_calls_last_and_keeps_their_order():
    reading = Reading()
    for item in (call("1"), call("2"), reasoning("r"), message("a"), message("b")):
        reading.item(item, ())
    assert [s.text for s in as_one(reading.segments)] == ["a", "b", "r", "1", "2"]
