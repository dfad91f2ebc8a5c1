"""The responses dialect, bodies: what is read, what is named, and that an edit touches nothing else."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given

from guardrail.core.conversation import Address, Kind, Segment, Turn, json_path
from guardrail.errors import UnreadableRequest, UnreadableResponse
from guardrail.wire.dialect import GuardedRequest
from guardrail.wire.replies import JSON, Refusal
from tests.wire.chats import BLOCK, EVIL, MARK, REFUSALS, at, leaves, sdk, segments
from tests.wire.responses import (
    RESPONSES,
    answer,
    asked,
    body,
    call,
    citation,
    message,
    reasoning,
    requests,
    responses,
    said,
    whole,
)

_PLAIN = re.compile(r"[A-Za-z0-9_.:/-]{0,64}")
# Fields of an item, a part or a response whose text nobody reads as the conversation's.
_SILENT = {"type", "id", "status", "role", "logprobs", "phase", "model", "guardrails", "instructions"}


def is_silent(address: Address, text: str, *, request: bool) -> bool:
    """Whether a text may stay neither judged nor named."""
    if address[0] in ("input", "prompt", "output") or (request and address[0] == "instructions"):
        if any(step in ("type", "id", "status", "logprobs", "end_index") for step in address[1:]):
            return True
        if address[2:4] == ("action", "x"):  # where a click goes to
            return True
        if not request and {"encrypted_content", "call_id"} & {*address}:
            return True
        return address[-1] in ("role", "name", "call_id", "title", "url") and bool(_PLAIN.fullmatch(text))
    return any(step in _SILENT for step in address)


def texts_of(request: GuardedRequest) -> list[tuple[str, list[str]]]:
    return [(turn.role, [s.text for s in turn.segments]) for turn in request.conversation.turns]


def heard(raw: bytes, found: list[Segment], unreadable: tuple[str, ...], *, request: bool) -> None:
    """Each text of the body is judged, named or silent; each address leads to its text."""
    value = orjson.loads(raw)
    addresses = [segment.address for segment in found]
    assert len(set(addresses)) == len(addresses)
    assert all(at(value, segment.address) == segment.text for segment in found)
    named = tuple(unreadable)
    for address, text in leaves(value):
        if address in addresses or is_silent(address, text, request=request):
            continue
        paths = [json_path(address[:end]) for end in range(1, len(address) + 1)]
        assert any(path in named for path in paths), (address, text)


def edited_alone(raw: bytes, found: list[Segment]) -> None:
    """New texts stand where the old ones stood, and nothing else differs but what spells the old ones."""
    texts = {segment.address: f"new{index}" for index, segment in enumerate(found) if segment.text}
    after = orjson.loads(RESPONSES.edit(raw, texts))
    value = orjson.loads(raw)
    for address, text in sorted(texts.items(), key=str):
        holder = at(value, address[:-1])
        if address[-1] == "text" and holder.get("logprobs"):
            holder["logprobs"] = []
        holder[address[-1]] = text
    for address in [one for one in texts if one[-1] == "text"]:
        holder = at(value, address[:-1])
        if isinstance(holder.get("annotations"), list):
            holder["annotations"] = [
                note
                for note in holder["annotations"]
                if not (
                    isinstance(note, dict)
                    and isinstance(note.get("end_index"), int)
                    and note["end_index"] > 0
                )
            ]
    assert after == value


class TestAnyRequest:
    @given(requests.map(orjson.dumps))
    def test_is_read_in_full_or_refused(self, raw: bytes):
        try:
            request = RESPONSES.read_request(raw)
        except UnreadableRequest as error:
            assert MARK not in str(error)  # noqa: PT017
            return
        found = segments(request.conversation)
        heard(request.raw, found, request.conversation.unreadable, request=True)
        edited_alone(request.raw, found)
        for turn in range(len(request.conversation.turns)):
            after = RESPONSES.read_request(RESPONSES.drop(request.raw, [turn])).conversation
            kept = [t for i, t in enumerate(request.conversation.turns) if i != turn]
            assert [s.text for t in after.turns for s in t.segments if s.kind is not Kind.REASONING] == [
                s.text for t in kept for s in t.segments if s.kind is not Kind.REASONING
            ] or "assistant" in [t.role for t in kept]

    def test_that_passes_is_forwarded_byte_for_byte(self):
        raw = b' {"model":"m", "input" : "h\\u0069", "x": 1.0E2,\n "store":false}'
        assert RESPONSES.read_request(raw).raw == raw


class TestReadRequest:
    def test_instructions_lead_and_a_text_is_a_user_turn(self):
        request = asked(instructions="Be brief.")
        assert texts_of(request) == [("system", ["Be brief."]), ("user", ["hi"])]
        assert [s.address for s in segments(request.conversation)] == [("instructions",), ("input",)]
        assert (request.model, request.stream, request.choices, request.structured) == (
            "m",
            False,
            1,
            False,
        )
        assert (request.include_usage, request.conversation.unreadable) == (False, ())

    def test_items_are_turns_and_what_the_assistant_did_in_one_go_is_one(self):
        given_items = [
            {"role": "developer", "content": "rules"},
            {"role": "user", "content": [said("look"), said(" here")]},
            reasoning("think"),
            message("text"),
            call('{"a": 1}'),
            call("{}", at=1),
            {"type": "function_call_output", "call_id": "call_0", "output": "out"},
            {"type": "function_call_output", "call_id": "call_1", "output": [said("put")]},
            message("done", said("no", "refusal")),
        ]
        request = RESPONSES.read_request(body(given_items))
        assert texts_of(request) == [
            ("developer", ["rules"]),
            ("user", ["look", " here"]),
            ("assistant", ["text", "think", '{"a": 1}', "{}"]),
            ("tool", ["out"]),
            ("tool", ["put"]),
            ("assistant", ["done", "no"]),
        ]
        assert request.conversation.unreadable == ()

    @pytest.mark.parametrize("key", ["previous_response_id", "conversation", "tools", "x"])
    def test_what_stands_elsewhere_or_is_not_known_is_named(self, key: str):
        assert asked(**{key: "some_1"}).conversation.unreadable == (f"$.{key}",)

    def test_a_template_is_named_and_its_variables_are_judged(self):
        variables = {"city": "Oslo", "note": said("a note"), "pic": {"type": "input_image"}}
        conversation = asked(prompt={"id": "pmpt_1", "variables": variables}).conversation
        assert conversation.unreadable == ("$.prompt", "$.prompt.variables.pic")
        city, note = conversation.asides[0].segments
        assert (city.text, city.address) == ("Oslo", ("prompt", "variables", "city"))
        assert (note.text, note.address) == ("a note", ("prompt", "variables", "note", "text"))

    def test_names_are_judged_where_they_are_more_than_names(self):
        form = {"type": "json_schema", "name": "say this", "strict": True}
        allowed = {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "or this"}],
        }
        for choice, way in (({"type": "function", "name": "or this"}, ()), (allowed, ("tools", 0))):
            request = asked(text={"format": form}, tool_choice=choice, prompt={"id": "p"})
            prompt, names = request.conversation.asides
            assert (prompt, names.role) == (Turn("prompt", ()), "names")
            assert [(s.text, s.address, s.kind) for s in names.segments] == [
                ("say this", ("text", "format", "name"), Kind.FIELD),
                ("or this", ("tool_choice", *way, "name"), Kind.FIELD),
            ]
            assert request.conversation.unreadable == ("$.prompt",)
            edited_alone(request.raw, segments(request.conversation))

    @pytest.mark.parametrize("choice", ["auto", {"type": "function", "name": "plain"}, None])
    def test_plain_names_are_silent(self, choice: Any):
        conversation = asked(text={"format": {"name": "plain"}}, tool_choice=choice).conversation
        assert (conversation.unreadable, conversation.asides) == ((), ())

    @pytest.mark.parametrize("prompt", ["pmpt_1", {"id": "pmpt_1"}, {"id": "p", "variables": ["x"]}])
    def test_a_template_without_variables_is_named(self, prompt: Any):
        conversation = asked(prompt=prompt).conversation
        assert conversation.unreadable == ("$.prompt",)
        assert conversation.asides == (Turn("prompt", ()),)

    @pytest.mark.parametrize(
        ("form", "structured", "named"),
        [
            ({"type": "text"}, False, ()),
            ({"type": "json_object"}, True, ()),
            (
                {"type": "json_schema", "name": "n", "schema": {"x": 1}, "description": "d"},
                True,
                ("$.text.format.schema", "$.text.format.description"),
            ),
        ],
    )
    def test_structured_output(self, form: Any, structured: bool, named: Any):
        request = asked(text={"format": form, "verbosity": "low"})
        assert (request.structured, request.conversation.unreadable) == (structured, named)

    def test_policies_are_added_and_not_forwarded(self):
        request = asked(guardrails=["pii"], stream=True)
        assert (request.added_policies, request.stream) == (("pii",), True)
        assert orjson.loads(request.raw) == {"model": "m", "input": "hi", "stream": True}

    def test_an_input_may_be_left_out(self):
        assert RESPONSES.read_request(b'{"guardrails": null}').conversation.turns == ()

    @pytest.mark.parametrize(
        ("raw", "param"),
        [
            (b"[]", None),
            (b"{", None),
            (b'{"input": "a", "input": "b"}', None),
            (b'{"Input": "a"}', None),
            (b'{"input": 1}', "input"),
            (b'{"input": {}}', "input"),
            (b'{"instructions": ["x"]}', "instructions"),
            (b'{"input": ["x"]}', "input[0]"),
            (b'{"input": [{"role": 1}]}', "input[0]"),
            (b'{"input": [{"role": "user", "content": 1}]}', "input[0].content"),
            (b'{"input": [{"role": "user", "content": [1]}]}', "input[0].content[0]"),
            (b'{"input": [{"role": "user", "Content": "x"}]}', "input[0]"),
            (b'{"input": "x", "stream": "yes"}', "stream"),
            (b'{"input": "x", "background": 1}', "background"),
            (b'{"input": "x", "guardrails": "pii"}', "guardrails"),
            (b'{"input": "x", "guardrails": [1]}', "guardrails"),
            (b'{"input": "x", "prompt": {"variables": {"a": 1}}}', "prompt.variables.a"),
        ],
    )
    def test_a_shape_that_no_server_takes_is_refused(self, raw: bytes, param: str | None):
        with pytest.raises(UnreadableRequest) as caught:
            RESPONSES.read_request(raw)
        assert caught.value.param == param

    def test_an_answer_in_the_background_is_refused(self):
        with pytest.raises(UnreadableRequest, match="leave background out") as caught:
            asked(background=True)
        assert (caught.value.param, caught.value.status) == ("background", 400)
        assert asked(background=False).stream is False


class TestEdit:
    RAW = (
        b'{"input":[{"role":"user", "content":[{"type":"input_text","text":"a 42" ,"x":1.0}]},\n'
        b'{"type":"function_call_output","output":"b 42"}], "y":[ ]}'
    )

    def test_only_the_new_texts_change(self):
        texts = {("input", 0, "content", 0, "text"): "a [R]", ("input", 1, "output"): "b [R]"}
        assert RESPONSES.edit(self.RAW, texts) == self.RAW.replace(b"42", b"[R]")

    def test_a_number_in_any_json_becomes_a_string(self):
        raw = body([{"type": "tool_search_call", "call_id": "c", "arguments": {"text": 4111, "n": [0.5]}}])
        texts = {s.address: "[R]" for s in segments(RESPONSES.read_request(raw).conversation)}
        assert RESPONSES.edit(raw, texts) == raw.replace(b"4111", b'"[R]"').replace(b"0.5", b'"[R]"')

    def test_what_spells_the_old_text_or_points_behind_the_change_goes(self):
        notes = [citation(0, 5), citation(6, 9), citation(0, 0)]
        notes[2] = {"type": "file_citation", "file_id": "f", "index": 9, "filename": "a b"}
        spelled = [{"token": "call", "bytes": [], "logprob": -0.1, "top_logprobs": []}]
        part = said("call 0123 now", "output_text", annotations=notes, logprobs=spelled)
        raw = answer(message(part))
        way = ("output", 0, "content", 0)
        after = orjson.loads(
            RESPONSES.edit(
                raw,
                {
                    (*way, "text"): "call [R] now",
                    (*way, "annotations", 1, "title"): "goes anyway",
                    (*way, "annotations", 2, "filename"): "[F]",
                },
            )
        )
        kept = after["output"][0]["content"][0]
        assert kept["logprobs"] == []
        assert kept["annotations"] == [notes[0], {**notes[2], "filename": "[F]"}]
        del after["billing"]  # which the SDK's types do not know
        assert whole(orjson.dumps(after)).output_text == "call [R] now"


class TestDrop:
    def test_a_turn_goes_with_all_its_items(self):
        items = [{"role": "user", "content": "a"}, reasoning("r"), call(), {"role": "user", "content": "b"}]
        raw = body(items, instructions="i")
        assert orjson.loads(RESPONSES.drop(raw, [2, 3]))["input"] == items[:1]

    def test_texts_go_with_their_keys(self):
        assert orjson.loads(RESPONSES.drop(body("a", instructions="i"), [0, 1])) == {"model": "m"}


class TestAnyResponse:
    @given(responses.map(orjson.dumps))
    def test_is_read_in_full_or_unreadable(self, raw: bytes):
        try:
            [choice] = RESPONSES.read_response(raw)
        except UnreadableResponse as error:
            assert MARK not in str(error)  # noqa: PT017
            return
        assert choice.position == 0
        heard(raw, list(choice.turn.segments), choice.unreadable, request=False)
        edited_alone(raw, list(choice.turn.segments))


class TestReadResponse:
    def test_all_output_is_one_choice_texts_first(self):
        [choice] = RESPONSES.read_response(
            answer(reasoning("think"), message("text", said("no", "refusal")), call('{"a":1}'))
        )
        assert choice.turn == Turn(
            "assistant",
            (
                Segment("text", ("output", 1, "content", 0, "text")),
                Segment("think", ("output", 0, "summary", 0, "text"), Kind.REASONING),
                Segment("no", ("output", 1, "content", 1, "refusal"), Kind.REFUSAL),
                Segment('{"a":1}', ("output", 2, "arguments"), Kind.TOOL_ARGUMENTS),
            ),
        )
        assert choice.unreadable == ()

    def test_it_reads_as_the_same_turn_when_it_comes_back(self):
        items = [reasoning("think"), message("text"), call('{"a":1}')]
        [choice] = RESPONSES.read_response(answer(*items))
        [back] = RESPONSES.read_request(body(items)).conversation.turns
        assert [(s.text, s.kind) for s in back.segments] == [(s.text, s.kind) for s in choice.turn.segments]

    def test_texts_beside_the_output_are_judged_or_named(self):
        [choice] = RESPONSES.read_response(answer(output_text="all of it", output_messages=["x y"]))
        assert [(s.text, s.address) for s in choice.turn.segments] == [("all of it", ("output_text",))]
        assert choice.unreadable == ("$.output_messages",)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"[]",
            b"{}",
            b'"x"',
            b'{"output": null}',
            b'{"output": {}}',
            b'{"output": ["x"]}',
            b'{"output": [{"type": "message", "content": 1}]}',
            b'{"output": [{"type": "message", "Content": "x"}]}',
            b'{"output": [], "output": []}',
        ],
    )
    def test_what_is_no_response_is_unreadable(self, raw: bytes):
        with pytest.raises(UnreadableResponse, match="no response"):
            RESPONSES.read_response(raw)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.finish_reason)
class TestRefuseChoices:
    def test_the_refusal_takes_the_place_of_all_output(self, refusal: Refusal):
        raw = answer(reasoning(EVIL), message(EVIL), output_text=EVIL, output_messages=[EVIL])
        after = RESPONSES.refuse_choices(raw, {0: refusal}, structured=False)
        assert EVIL.encode() not in after
        found = sdk(after, "application/json").responses.create(model="m", input="x")
        stops = refusal.finish_reason == "stop"
        assert found.status == ("completed" if stops else "incomplete")
        assert (found.incomplete_details is None) is stops
        if found.incomplete_details:
            assert found.incomplete_details.reason == "content_filter"
        [item] = found.output
        assert item.type == "message"
        [part] = item.content
        assert part.type == "refusal"
        assert part.refusal == refusal.message
        assert (found.id, found.model, found.instructions) == ("resp_1", "m-1", "Be brief.")
        assert orjson.loads(after)["billing"] == {"payer": "developer"}


class TestErrors:
    def test_a_block_in_error_style(self):
        refusal = Refusal(style="error", message="No.", status=451)
        reply = RESPONSES.refuse(asked(stream=True), BLOCK, refusal)
        error = orjson.loads(reply.body)["error"]
        assert (reply.status, reply.headers, error["code"]) == (451, (JSON,), "content_filter")

    def test_a_block_is_a_response_by_default(self):
        reply = RESPONSES.refuse(asked(), BLOCK, Refusal(message="No."))
        assert (reply.status, whole(reply.body).status) == (200, "incomplete")

    def test_errors_are_openais(self):
        reply = RESPONSES.error(400, "c", "m", "p")
        assert orjson.loads(reply.body)["error"] == {
            "message": "m",
            "type": "invalid_request_error",
            "param": "p",
            "code": "c",
        }

    def test_each_stream_is_one_of_its_own(self):
        request = asked(stream=True)
        assert RESPONSES.stream(request) is not RESPONSES.stream(request)
        assert RESPONSES.name == "responses"
