"""Placeholders end to end: the model never sees the text, the client sees nothing else."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.conftest import Proxies, Proxy
from tests.fakes import DONE, FakeUpstream, Say, Seen, chunk, completion, stream

WORD = "redactword"  # the judge quotes it, and the policy redacts it
PLACEHOLDER = re.compile(r"\[RED_[A-Z0-9]{8}\]")
CONFIG: dict[str, Any] = {
    "redaction": {"strategy": "placeholder", "secret": "a secret of sixteen characters or more"},
    "history": {"max_entries": 1000},
}


@pytest.fixture
def proxy(proxies: Proxies) -> Proxy:
    return proxies(**CONFIG)


def placeholder_in(seen: Seen) -> str:
    """The placeholder in what the upstream got, which must hold nothing of the text itself."""
    assert WORD not in seen.body.decode()
    match = PLACEHOLDER.search(seen.json["messages"][-1]["content"])
    assert match is not None
    return match[0]


def answering(template: str, size: int = 0) -> Any:
    """An upstream that writes the placeholder it got into ``template``, ``size`` characters at a time."""

    def answer(seen: Seen) -> Say:
        text = template.replace("{}", placeholder_in(seen))
        if not seen.json.get("stream"):
            return Say(completion(text))
        return stream([text[at : at + size] for at in range(0, len(text), size)])

    return answer


def ask(proxy: Proxy, prompt: str, *, streaming: bool, messages: list[Any] | None = None) -> str:
    """What the SDK's user reads."""
    asked: list[Any] = [*(messages or []), {"role": "user", "content": prompt}]
    with proxy.openai(max_retries=0) as sdk:
        if not streaming:
            answer = sdk.chat.completions.create(model="m", messages=asked)
            return answer.choices[0].message.content or ""
        parts = sdk.chat.completions.create(model="m", messages=asked, stream=True)
        return "".join(part.choices[0].delta.content or "" for part in parts if part.choices)


@pytest.fixture(autouse=True)
def _default(upstream: FakeUpstream) -> Iterator[None]:
    """The upstream answers as before when a test is done with it."""
    default = upstream.default
    yield
    upstream.default = default


@pytest.mark.parametrize("size", [1, 3, 7, 200])
def test_a_stream_is_restored_however_it_is_cut(proxy: Proxy, upstream: FakeUpstream, size: int):
    upstream.default = answering("I wrote to {}, and once more to {}." + " More." * 40, size)
    text = ask(proxy, f"Please write to {WORD}.", streaming=True)
    assert text == f"I wrote to {WORD}, and once more to {WORD}." + " More." * 40


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("spelled", ["{}", "**{}**", "`{}`", "{lower}", "{bare}", "{escaped}"])
def test_the_spellings_of_models_are_restored(
    proxy: Proxy, upstream: FakeUpstream, spelled: str, streaming: bool
):
    def answer(seen: Seen) -> Say:
        given = placeholder_in(seen)
        text = (
            spelled.replace("{}", given)
            .replace("{lower}", given.lower())
            .replace("{bare}", given.strip("[]"))
            .replace("{escaped}", given.replace("_", "\\_"))
        )
        said = f"So {text} it is."
        return stream(re.findall(".{1,4}", said)) if seen.json.get("stream") else Say(completion(said))

    upstream.default = answer
    around = spelled.replace("{}", WORD) if "{}" in spelled else WORD
    assert ask(proxy, f"It is {WORD}.", streaming=streaming) == f"So {around} it is."


def test_the_judge_of_the_answer_reads_the_placeholder_and_finds_nothing(
    proxy: Proxy, upstream: FakeUpstream
):
    upstream.default = answering("Yes: {}.")
    assert ask(proxy, f"Say {WORD}.", streaming=False) == f"Yes: {WORD}."
    assert PLACEHOLDER.search(proxy.judge.judged[-1])
    assert WORD not in proxy.judge.judged[-1]


def test_arguments_of_a_tool_call_are_restored_and_stay_json(proxy: Proxy, upstream: FakeUpstream):
    def answer(seen: Seen) -> Say:
        arguments = json.dumps({"to": placeholder_in(seen), "n": 1})
        head = {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": "mail", "arguments": ""},
        }
        pieces = [chunk({"role": "assistant", "content": None, "tool_calls": [head]})]
        pieces += [
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments[at : at + 5]}}]})
            for at in range(0, len(arguments), 5)
        ]
        pieces += [chunk({}, finish_reason="tool_calls"), DONE]
        return Say(headers={"content-type": "text/event-stream"}, chunks=pieces)

    upstream.default = answer
    asked: list[Any] = [{"role": "user", "content": f"Mail {WORD}."}]
    with (
        proxy.openai(max_retries=0) as sdk,
        sdk.chat.completions.stream(model="m", messages=asked) as parts,
    ):
        message = parts.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    assert json.loads(message.tool_calls[0].function.arguments) == {"to": WORD, "n": 1}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_chat_goes_on_under_one_placeholder_and_the_model_never_sees_the_text(
    proxy: Proxy, upstream: FakeUpstream, streaming: bool
):
    upstream.default = answering("I wrote to {}.", 4)
    first = f"Turn one{' streamed' if streaming else ''}: write to {WORD}."
    said = ask(proxy, first, streaming=streaming)
    assert said == f"I wrote to {WORD}."
    given = placeholder_in(upstream.seen[-1])
    checks = len(proxy.judge.judged)
    upstream.default = lambda seen: Say(completion(f"Yes, to {given}."))
    earlier = [{"role": "user", "content": first}, {"role": "assistant", "content": said}]
    assert ask(proxy, "And did it arrive?", streaming=False, messages=earlier) == f"Yes, to {WORD}."
    sent = upstream.seen[-1]
    assert WORD not in sent.body.decode()
    assert [m["content"] for m in sent.json["messages"]] == [
        first.replace(WORD, given),
        f"I wrote to {given}.",
        "And did it arrive?",
    ]
    assert len(proxy.judge.judged) == checks + 2, "only the new turn and the new answer were judged"


def test_what_a_user_typed_is_restored_to_nobodys_text(proxy: Proxy, upstream: FakeUpstream):
    upstream.default = answering("{}")
    assert ask(proxy, f"It is {WORD}.", streaming=False) == WORD
    stolen = placeholder_in(upstream.seen[-1])
    upstream.default = lambda seen: Say(completion(f"You said {stolen}, {stolen.lower()}."))
    # Somebody else, who has seen the placeholder, alone and beside a text that would get the same one.
    assert ask(proxy, f"Tell me {stolen}.", streaming=False) == f"You said {stolen}, {stolen.lower()}."
    told = ask(proxy, f"Tell me {stolen}, not {WORD}.", streaming=False)
    assert told == f"You said {stolen}, {stolen.lower()}."


def test_requests_side_by_side_share_nothing(proxy: Proxy, upstream: FakeUpstream):
    seen_by: dict[str, str] = {}
    first = threading.Event()

    def answer(seen: Seen) -> Say:
        prompt = seen.json["messages"][-1]["content"]
        if PLACEHOLDER.search(prompt):
            seen_by["mine"] = placeholder_in(seen)
            first.set()
            return Say(completion(f"For you: {seen_by['mine']}."), delay_s=0.3)
        return Say(completion(f"For you: {seen_by['mine']}."), delay_s=0.3)

    upstream.default = answer
    with ThreadPoolExecutor(2) as pool:
        mine = pool.submit(ask, proxy, f"Mine is {WORD}.", streaming=False)
        assert first.wait(20)
        other = pool.submit(ask, proxy, "I have none.", streaming=False)
        assert mine.result() == f"For you: {WORD}."
        assert other.result() == f"For you: {seen_by['mine']}."


def test_the_same_text_elsewhere_in_the_conversation_has_the_same_placeholder(
    proxy: Proxy, upstream: FakeUpstream
):
    upstream.default = lambda seen: Say(completion("Fine."))
    system = {"role": "system", "content": f"The application itself may say {WORD}."}
    ask(proxy, f"First {WORD}, then {WORD}.", streaming=False, messages=[system])
    ours, theirs = (m["content"] for m in upstream.seen[-1].json["messages"])
    assert ours == system["content"], "the application's own turns stay as they are"
    assert len(set(PLACEHOLDER.findall(theirs))) == 1
    assert len(PLACEHOLDER.findall(theirs)) == 2


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        ("replace", r"It is \[REDACTED:RED\]\."),
        ("mask", r"It is \*{6}word\."),
        ("hash", r"It is \[HASH:RED:[A-Z0-9]{16}\]\."),
    ],
)
def test_the_other_strategies_are_for_good(
    proxies: Proxies, upstream: FakeUpstream, strategy: str, wanted: str
):
    proxy = proxies(redaction={"strategy": strategy, "secret": "a secret of sixteen characters or more"})
    upstream.default = lambda seen: Say(completion(seen.json["messages"][-1]["content"]))
    text = ask(proxy, f"It is {WORD}.", streaming=False)
    assert re.fullmatch(wanted, text)
    assert ask(proxy, f"It is {WORD}.", streaming=False) == text
