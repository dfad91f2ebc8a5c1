"""What was judged, redacted, unreadable or skipped of a request and its answer, in header and record."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.e2e.conftest import Proxies, Proxy
from tests.fakes import Say, completion

MESSAGES: list[Any] = [
    {"role": "system", "content": "You are kind."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "calm"},
            {"type": "text", "text": " \n"},
            {"type": "text", "text": "a redactword"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ],
    },
]


def asked(client: openai.OpenAI, messages: list[Any], **more: Any) -> Any:
    return client.chat.completions.with_raw_response.create(model="m", messages=messages, **more)


def told(headers: Any) -> dict[str, int]:
    """The header's dictionary, as RFC 8941 has it."""
    return {
        key: int(value)
        for key, value in (one.split("=") for one in headers["x-guardrail-coverage"].split(", "))
    }


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


class TestHeader:
    def test_prompt_and_answer_are_counted_together(self, client: openai.OpenAI):
        answer = asked(client, MESSAGES)
        assert told(answer.headers) == {"judged": 3, "redacted": 1, "unreadable": 1, "skipped": 2}
        assert answer.headers["x-guardrail-unjudged"] == "$.messages[1].content[3]"

    def test_of_a_stream_the_prompt_alone(self, client: openai.OpenAI):
        answer = asked(client, MESSAGES, stream=True)
        assert told(answer.headers) == {"judged": 2, "redacted": 1, "unreadable": 1, "skipped": 2}
        answer.parse().close()

    def test_a_blocked_prompt_has_no_answer(self, client: openai.OpenAI):
        assert told(asked(client, user("a blockword")).headers) == {
            "judged": 1,
            "redacted": 0,
            "unreadable": 0,
            "skipped": 0,
        }

    def test_what_could_not_be_checked_is_not_said_to_be_judged(self, proxies: Proxies):
        opened = proxies(on_error={"input": "open", "output": "open"})
        with opened.openai(max_retries=0) as client:
            headers = asked(client, user("outageword")).headers
        assert (
            headers["x-guardrail-coverage"] == "judged=1, redacted=0, unreadable=0, skipped=0, unchecked=1"
        )

    def test_a_closed_failure_says_so_too(self, client: openai.OpenAI):
        with pytest.raises(openai.APIStatusError) as caught:
            asked(client, user("outageword"))
        assert told(caught.value.response.headers)["unchecked"] == 1

    def test_a_stage_without_policies_skips_all(self, proxies: Proxies):
        inputs = proxies(policies={"input": ["house"], "output": []})
        with inputs.openai(max_retries=0) as client:
            assert told(asked(client, user("hello")).headers)["skipped"] == 1

    def test_turns_that_were_judged_before_are_skipped(self, proxies: Proxies):
        remembering = proxies(history={"max_entries": 1000})
        with remembering.openai(max_retries=0) as client:
            first = asked(client, [*user("calm"), *user("a redactword")])
            spoken = first.parse().choices[0].message.content
            turns = [*user("calm"), *user("a redactword"), {"role": "assistant", "content": spoken}]
            again = asked(client, [*turns, *user("and now?")])
            assert told(first.headers) == {"judged": 3, "redacted": 1, "unreadable": 0, "skipped": 0}
            # Redacted again, as it was decided before.
            assert told(again.headers) == {"judged": 2, "redacted": 1, "unreadable": 0, "skipped": 3}
            blocked = [*turns, *user("a blockword")]
            asked(client, blocked)
            assert told(asked(client, blocked).headers)["skipped"] == 4
        record, _ = remembering.recorded(again.headers["x-guardrail-id"], "input", "output")
        assert record["coverage"] == {
            "judged": ["$.messages[3].content"],
            "redacted": ["$.messages[1].content"],
            "unchecked": [],
            "skipped": ["$.messages[0].content", "$.messages[1].content", "$.messages[2].content"],
        }


class TestRecord:
    def test_by_path(self, client: openai.OpenAI, proxy: Proxy):
        arguments = '{"to": "kim"}'
        call = {"id": "c", "type": "function", "function": {"name": "mail", "arguments": arguments}}
        proxy.upstream.script.append(Say(completion("Here is the redactword.", tool_calls=[call])))
        answer = asked(client, MESSAGES)
        before, after = proxy.recorded(answer.headers["x-guardrail-id"], "input", "output")
        assert before["coverage"] == {
            "judged": ["$.messages[1].content[0].text", "$.messages[1].content[2].text"],
            "redacted": ["$.messages[1].content[2].text"],
            "unchecked": [],
            "skipped": ["$.messages[0].content", "$.messages[1].content[1].text"],
        }
        assert before["unjudged"] == ["$.messages[1].content[3]"]
        said = "$.choices[0].message"
        assert after["coverage"] == {
            "judged": [f"{said}.content", f"{said}.tool_calls[0].function.arguments"],
            "redacted": [f"{said}.content"],
            "unchecked": [],
            "skipped": [],
        }
        assert "redactword" not in repr([before, after])

    def test_a_check_that_failed(self, client: openai.OpenAI, proxy: Proxy):
        with pytest.raises(openai.APIStatusError) as caught:
            asked(client, user("outageword"))
        [record] = proxy.recorded(caught.value.response.headers["x-guardrail-id"], "input")
        assert (record["coverage"]["judged"], record["coverage"]["unchecked"]) == (
            [],
            ["$.messages[0].content"],
        )

    def test_a_stream_has_no_paths(self, client: openai.OpenAI, proxy: Proxy):
        answer = asked(client, user("hello"), stream=True)
        assert len(list(answer.parse())) > 3
        before, after = proxy.recorded(answer.headers["x-guardrail-id"], "input", "output")
        assert before["coverage"]["judged"] == ["$.messages[0].content"]
        assert after["coverage"] is None
