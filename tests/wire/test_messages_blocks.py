"""Content blocks: every text of every type is a segment or is named, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from orjson import dumps

from guardrail.core.conversation import Kind, Segment, json_path
from guardrail.errors import UnreadableRequest
from guardrail.wire.chat_messages import PLAIN_NAME
from guardrail.wire.messages_blocks import (
    Reading,
    input_addresses,
    kind_of,
    read_block,
    read_content,
    read_leaves,
)
from tests.wire.chats import MARK, at, leaves, strings
from tests.wire.claudes import contents, is_silent, text, thinking, tool_result, tool_use

ODD = "a name, not plain"


def read(content: Any, *, answer: bool = False) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Texts with their addresses and kinds, and what is unreadable; inputs are found as ``INPUT``."""
    inputs = dict.fromkeys(input_addresses(content, ("c",)), "INPUT")
    reading = Reading([], inputs, answer)
    found = list(read_content(content, ("c",), reading))
    return [(s.text, s.address[1:], s.kind) for s in found], reading.unreadable


class TestContent:
    def test_nothing_a_string_and_strings_in_a_list(self):
        assert read(None) == ([], [])
        assert read("one") == ([("one", (), Kind.TEXT)], [])
        assert read(["one", text("two")]) == (
            [("one", (0,), Kind.TEXT), ("two", (1, "text"), Kind.TEXT)],
            [],
        )

    def test_only_the_places_asked_for(self):
        found = read_content(["a", "b", "c"], ("c",), Reading([]), [0, 2])
        assert [s.text for s in found] == ["a", "c"]

    @pytest.mark.parametrize(("content", "param"), [(5, "c"), ([5], "c[0]"), ([text("x"), None], "c[1]")])
    def test_what_is_no_content_says_where(self, content: Any, param: str):
        with pytest.raises(UnreadableRequest) as caught:
            read(content)
        assert caught.value.param == param

    @given(contents)
    def test_every_text_is_judged_or_named_whatever_comes(self, content: Any):
        inputs = dict.fromkeys(input_addresses(content, ("c",)), "{}")
        reading = Reading([], inputs)
        try:
            found = list(read_content(content, ("c",), reading))
        except UnreadableRequest as error:
            assert MARK not in str(error)  # noqa: PT017
            return
        value = {"c": content}
        read = {s.address: s.text for s in found}
        judged = {a: at(value, a) for a in read if a not in inputs}
        assert all((v if isinstance(v, str) else dumps(v).decode()) == read[a] for a, v in judged.items())
        known = [json_path(address) for address in [*read]] + reading.unreadable
        for address, words in leaves(value):
            if not is_silent(address, words):
                assert any(json_path(address).startswith(path) for path in known), (address, known)


class TestText:
    def test_a_mark_for_the_cache_is_no_text(self):
        block = text("x", cache_control={"type": "ephemeral", "ttl": "5m"})
        assert read([block]) == ([("x", (0, "text"), Kind.TEXT)], [])

    def test_citations_are_fields(self):
        web = {
            "type": "web_search_result_location",
            "cited_text": "quoted",
            "title": "a title",
            "url": "https://x.example/?q=1",
            "encrypted_index": "%%%",
        }
        page = {"type": "page_location", "cited_text": "two", "document_title": None, "document_index": 1}
        assert read([text("x", citations=[web, page])])[0][1:] == [
            ("quoted", (0, "citations", 0, "cited_text"), Kind.FIELD),
            ("a title", (0, "citations", 0, "title"), Kind.FIELD),
            ("https://x.example/?q=1", (0, "citations", 0, "url"), Kind.FIELD),
            ("two", (0, "citations", 1, "cited_text"), Kind.FIELD),
        ]

    def test_no_text_is_named(self):
        assert read([{"type": "text", "text": 5}, {"type": "text"}]) == ([], ["$.c[0]", "$.c[1]"])

    def test_other_fields_are_named(self):
        assert read([text("x", more="y", n=1, empty="")])[1] == ["$.c[0].more"]

    def test_a_key_in_other_letters_is_refused(self):
        with pytest.raises(UnreadableRequest):
            read([text("x", Text="y")])


class TestThinking:
    def test_is_reasoning_and_its_signature_is_none(self):
        assert read([thinking("hm")]) == ([("hm", (0, "thinking"), Kind.REASONING)], [])

    def test_no_thinking_is_named(self):
        assert read([{"type": "thinking", "thinking": None}]) == ([], ["$.c[0]"])

    def test_sealed_thinking_is_named_where_a_model_reads_it(self):
        block = {"type": "redacted_thinking", "data": "sealed"}
        assert read([block]) == ([], ["$.c[0]"])
        assert read([block], answer=True) == ([], [])
        assert read([{**block, "text": "x"}], answer=True) == ([], ["$.c[0].text"])


class TestToolUse:
    @pytest.mark.parametrize("kind", ["tool_use", "server_tool_use", "mcp_tool_use"])
    def test_an_object_is_judged_as_it_is_written(self, kind: str):
        block = tool_use({"a": 1}, type=kind, caller={"type": "direct"})
        assert read([block]) == ([("INPUT", (0, "input"), Kind.TOOL_ARGUMENTS)], [])

    def test_a_string_is_judged_as_it_is(self):
        assert read([tool_use("{}")])[0] == [("{}", (0, "input"), Kind.TOOL_ARGUMENTS)]

    @pytest.mark.parametrize("given", [{}, None, []])
    def test_nothing_is_given(self, given: Any):
        assert read([tool_use(given)]) == ([], [])

    def test_names_that_are_more_than_names_come_first(self):
        block = tool_use("x", ODD, server_name="s; t", toolset_name="plain")
        assert [one[:2] for one in read([block])[0]] == [
            (ODD, (0, "name")),
            ("s; t", (0, "server_name")),
            ("x", (0, "input")),
        ]

    def test_an_input_inside_a_result_is_named(self):
        assert read([tool_result([tool_use({"a": "b"})])]) == ([], ["$.c[0].content[0].input"])

    def test_other_fields_are_named(self):
        block = tool_use("x", caller={"type": "direct", "why": "y"}, more=["z"])
        assert read([block])[1] == ["$.c[0].caller.why", "$.c[0].more"]


class TestDocument:
    def test_its_text_title_and_context_are_read(self):
        block = {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "words"},
            "title": "t",
            "context": "c",
            "citations": {"enabled": True},
        }
        assert read([block]) == (
            [
                ("t", (0, "title"), Kind.FIELD),
                ("c", (0, "context"), Kind.FIELD),
                ("words", (0, "source", "data"), Kind.TEXT),
            ],
            [],
        )

    @pytest.mark.parametrize("content", ["words", [text("words")]])
    def test_its_content_is_read(self, content: Any):
        block = {"type": "document", "source": {"type": "content", "content": content}}
        assert [one[0] for one in read([block])[0]] == ["words"]

    @pytest.mark.parametrize(
        "source",
        [
            {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
            {"type": "url", "url": "https://x.example"},
            {"type": "file", "file_id": "file_1"},
            {"type": "text", "data": 5},
            None,
        ],
    )
    def test_what_is_no_text_is_named(self, source: Any):
        assert read([{"type": "document", "source": source}]) == ([], ["$.c[0].source"])

    def test_other_fields_are_named(self):
        for source in (
            {"type": "text", "data": "x", "y": "z"},
            {"type": "content", "content": "x", "y": "z"},
        ):
            block = {"type": "document", "source": source, "more": "w"}
            assert read([block])[1] == ["$.c[0].source.y", "$.c[0].more"]


class TestResults:
    @pytest.mark.parametrize("content", ["words", [text("words")], ["words"]])
    def test_the_answer_of_a_tool_is_text(self, content: Any):
        found, unreadable = read([tool_result(content, is_error=True, cache_control={"type": "ephemeral"})])
        assert [(words, kind) for words, _, kind in found] == [("words", Kind.TEXT)]
        assert unreadable == []

    def test_images_and_documents_in_it_are_read_as_such(self):
        content = [
            {"type": "image", "source": {"type": "base64", "data": "xx"}},
            {"type": "document", "source": {"type": "text", "data": "words"}},
            {"type": "search_result", "source": "https://x.example", "title": "t", "content": [text("u")]},
        ]
        found, unreadable = read([tool_result(content)])
        assert [words for words, _, _ in found] == ["words", "t", "u"]
        assert unreadable == ["$.c[0].content[0]"]

    @pytest.mark.parametrize(
        ("block", "words"),
        [
            (
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "s_1",
                    "content": [{"type": "web_search_result", "title": "t", "url": "https://x.example/a"}],
                },
                ["t"],
            ),
            ({"type": "web_search_tool_result", "content": {"type": "e", "error_code": "too_many"}}, []),
            (
                {
                    "type": "web_fetch_tool_result",
                    "content": {
                        "type": "web_fetch_result",
                        "url": "https://x.example/",
                        "retrieved_at": "2026-01-01",
                        "content": {"type": "document", "source": {"type": "text", "data": "page"}},
                    },
                },
                ["page"],
            ),
            (
                {
                    "type": "bash_code_execution_tool_result",
                    "content": {
                        "type": "r",
                        "stdout": "out",
                        "stderr": "",
                        "return_code": 0,
                        "content": [],
                    },
                },
                ["out"],
            ),
            (
                {"type": "text_editor_code_execution_tool_result", "content": {"lines": ["a b", "c"]}},
                ["a b", "c"],
            ),
            ({"type": "mcp_tool_result", "content": [text("m")]}, ["m"]),
            ({"type": "compaction", "content": "summary", "signature": "%%"}, ["summary"]),
            ({"type": "tool_reference", "tool_name": ODD}, [ODD]),
            ({"type": "new_result", "text": "x"}, None),
            ({"text": "x"}, None),
            ({"type": ["text"], "text": "x"}, None),
        ],
    )
    def test_every_string_in_it_is_judged_but_for_plain_names(self, block: Any, words: list[str] | None):
        found, unreadable = read([block])
        assert [one[0] for one in found] == (words or [])
        assert unreadable == ([] if words is not None else ["$.c[0]"])

    @pytest.mark.parametrize(
        ("block", "path"),
        [
            (tool_result("x", **{ODD: True}), "$.c[0]"),
            (tool_result([{"type": "foo", ODD: 1}], y=2), "$.c[0].content[0]"),
            (tool_result({"a": [{ODD: None}]}), "$.c[0].content.a[0]"),
            (
                {"type": "search_result", "content": [tool_result("x", **{ODD: None})]},
                "$.c[0].content[0]",
            ),
            (text("x", citations=[{ODD: 1}]), "$.c[0].citations[0]"),
        ],
    )
    def test_a_key_that_is_more_than_a_name_is_named(self, block: Any, path: str):
        assert read([block])[1] == read([block], answer=True)[1] == [path]

    @given(st.dictionaries(strings | st.sampled_from(["a", "b"]), st.integers(0, 9), max_size=3))
    def test_no_key_is_silent_that_is_more_than_a_name(self, fields: dict[str, int]):
        unreadable = read([tool_result([{"inner": fields}])])[1]
        odd = [key for key in fields if not PLAIN_NAME.fullmatch(key)]
        assert unreadable == (["$.c[0].content[0].inner"] if odd else [])

    @pytest.mark.parametrize("key", ["signature", "encrypted_index"])
    def test_only_citations_and_what_is_signed_hold_what_nobody_reads(self, key: str):
        assert read([tool_result("x", **{key: ODD})])[0][1:] == [(ODD, (0, key), Kind.TEXT)]
        assert read([tool_result([{"a": {key: ODD}}])])[0][0][0] == ODD
        assert read([{"type": "compaction", "content": [thinking("hm", ODD)], "signature": ODD}]) == (
            [("hm", (0, "content", 0, "thinking"), Kind.REASONING)],
            [],
        )
        assert read([text("x", citations=[{"encrypted_index": ODD}])])[0][1:] == []

    def test_numbers_are_read_where_a_model_reads_them_and_nothing_counts_with_them(self):
        block = tool_result([{"card": 4111111111111111, "n": [0.5, True], "return_code": 0}])
        assert read([block])[0] == [
            ("4111111111111111", (0, "content", 0, "card"), Kind.TEXT),
            ("0.5", (0, "content", 0, "n", 0), Kind.TEXT),
        ]
        assert read([block], answer=True) == ([], [])

    def test_what_is_sealed_is_named_where_a_model_reads_it_and_a_file_everywhere(self):
        content = {"encrypted_stdout": "%%", "data": "xx", "stdout": "out"}
        block = {"type": "code_execution_tool_result", "content": content}
        paths = ["$.c[0].content.encrypted_stdout", "$.c[0].content.data"]
        assert read([block])[1] == paths
        assert read([block], answer=True)[1] == paths[1:]


class TestParts:
    def test_the_kind_of_what_has_none(self):
        assert [kind_of(one) for one in (5, {}, {"type": 5}, {"type": "x"})] == ["", "", "", "x"]

    def test_inputs_are_looked_for_in_calls_alone(self):
        blocks = [tool_use({"a": 1}), {"type": "text", "input": {"a": 1}}, tool_use("x"), tool_use({}), 5]
        assert input_addresses(blocks, ("c",)) == [("c", 0, "input")]
        assert input_addresses("x", ("c",)) == []

    def test_leaves_are_read_where_they_stand(self):
        found = list(
            read_leaves({"a": ["x", {"b": "y"}], "n": 1, "e": ""}, ("r",), Reading([]), Kind.FIELD)
        )
        assert found == [
            Segment("x", ("r", "a", 0), Kind.FIELD),
            Segment("y", ("r", "a", 1, "b"), Kind.FIELD),
        ]

    def test_one_block_alone(self):
        assert [s.text for s in read_block(text("x"), ("b",), Reading([]))] == ["x"]
