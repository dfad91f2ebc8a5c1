"""The twin of guardrail/frontends/filters.py: the guard as plain callables."""

from __future__ import annotations

import copy
import gc
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from guardrail import CompletionFilter, Decision, GuardrailEngine, PolicyViolation, PromptFilter
from guardrail.core.conversation import Subject
from guardrail.core.policy import Action, FailMode, LabelRule, Policy, Stage, Strategy
from guardrail.core.vault import RedactionRules
from guardrail.core.verdict import Verdict
from guardrail.engine.fail_rules import FailRules
from guardrail.errors import ClassifierUnavailable, ConfigError, UnreadableRequest
from guardrail.testing import MemorySink, ScriptedClassifier
from tests.fakes import FakeJudge, verdict
from tests.threads import threads

MAIL = "kim@example.com"
HOUSE = Policy(
    id="house-rules",
    body="Judge by the house rules.",
    labels={
        "OK": LabelRule("OK", violation=False),
        "NOTE": LabelRule("NOTE", violation=True, action=Action.FLAG),
        "HIDE": LabelRule("HIDE", violation=True, action=Action.REDACT),
        "STOP": LabelRule("STOP", violation=True, action=Action.BLOCK),
    },
)
RULES = (
    ("forbidden", "STOP"),
    ("noteworthy", "NOTE"),
    (MAIL, Verdict(HOUSE, "HIDE", violation=True, excerpts=(MAIL,))),
    ("outage", ClassifierUnavailable("the judge is down")),
)
FILTERS = (PromptFilter, CompletionFilter)
AnyFilter = PromptFilter | CompletionFilter
Make = Callable[..., Any]


def engine(*sinks: MemorySink, classifier: Any = None, **options: Any) -> GuardrailEngine:
    policies = {stage: [HOUSE] for stage in Stage}
    return GuardrailEngine(policies, classifier or ScriptedClassifier(RULES), sinks=sinks, **options)


@pytest.fixture(params=FILTERS, ids=["prompt", "completion"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes filters of both kinds, and sees to it that no thread of theirs is left."""
    before, made = threads(), []

    def make_one(judging: GuardrailEngine | None = None, **options: Any) -> AnyFilter:
        made.append(request.param(judging or engine(**options)))
        return made[-1]

    yield make_one
    for one in made:
        one.close()
    assert threads() <= before


def user(content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": content}


class TestText:
    @pytest.mark.parametrize("text", ["Hello", "", "Grüße \U0001f600", "noteworthy"])
    def test_a_pass_gives_the_same_text(self, make: Make, text: str):
        guard = make()
        assert guard(text) == guard.invoke(text) == text

    def test_a_redaction_gives_text(self, make: Make):
        assert make()(f"Write to {MAIL}, please") == "Write to [REDACTED:HIDE], please"

    def test_a_block_raises_with_the_decision_and_without_the_text(self, make: Make):
        guard = make()
        with pytest.raises(PolicyViolation) as caught:
            guard("a forbidden zebra")
        decision = caught.value.decision
        assert (decision.action, decision.stage, decision.blocking) == (
            Action.BLOCK,
            guard.stage,
            ("house-rules",),
        )
        assert decision.id in str(caught.value)
        assert "zebra" not in f"{caught.value!r}{caught.value}{decision!r}"
        assert "house-rules" in str(caught.value)

    def test_check_gives_the_decision_and_raises_nothing(self, make: Make):
        guard = make()
        assert isinstance(guard.check("Hello"), Decision)
        actions = [guard.check(text).action for text in ("Hello", "noteworthy", MAIL, "forbidden")]
        assert actions == [Action.PASS, Action.FLAG, Action.REDACT, Action.BLOCK]

    def test_an_outage_is_closed_unless_told_otherwise(self, make: Make):
        with pytest.raises(PolicyViolation) as caught:
            make()("an outage")
        assert caught.value.decision.unavailable
        open_ = {stage: FailRules(FailMode.OPEN) for stage in Stage}
        guard = make(on_error=open_)
        assert guard("an outage") == "an outage"
        assert guard.check("an outage").degraded == ("house-rules=unavailable",)

    def test_each_call_is_recorded(self, make: Make):
        sink = MemorySink()
        guard = make(engine(sink))
        guard("Hello")
        guard.check("forbidden")
        assert [(r.decision.stage, r.dialect, r.text) for r in sink.records] == [
            (guard.stage, "filter", "Hello"),
            (guard.stage, "filter", "forbidden"),
        ]
        assert len({r.decision.id for r in sink.records}) == 2


class TestMessages:
    def test_a_pass_gives_the_very_list(self, make: Make):
        messages = [user("Hello"), user("Fine", "assistant")]
        before = copy.deepcopy(messages)
        assert make()(messages) is messages
        assert messages == before

    def test_a_redaction_gives_a_copy_and_leaves_the_callers_list_alone(self, make: Make):
        arguments = json.dumps({"to": MAIL})
        messages = [
            user("Be brief.", "system"),
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": f"a {MAIL} b", "x": 1},
                    {"type": "text", "text": "fine"},
                ],
                "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": arguments}}],
                "x": {"y": [1]},
            },
        ]
        before = copy.deepcopy(messages)
        after = make()(messages)
        assert messages == before
        assert after is not messages
        assert MAIL not in json.dumps(after)
        assert after[1]["content"] == [
            {"type": "text", "text": "a [REDACTED:HIDE] b", "x": 1},
            {"type": "text", "text": "fine"},
        ]
        assert json.loads(after[1]["tool_calls"][0]["function"]["arguments"]) == {"to": "[REDACTED:HIDE]"}
        assert (after[0], after[1]["x"]) == (before[0], {"y": [1]})

    def test_a_tuple_stays_a_tuple(self, make: Make):
        after = make()((user(f"to {MAIL}"),))
        assert after == (user("to [REDACTED:HIDE]"),)

    def test_a_block_raises_without_the_text(self, make: Make):
        with pytest.raises(PolicyViolation) as caught:
            make()([user("a forbidden zebra")])
        assert "zebra" not in f"{caught.value!r}{caught.value}{caught.value.decision!r}"

    def test_what_cannot_be_read_is_named_or_blocks(self, make: Make):
        image = {"type": "image_url", "image_url": {"url": "x"}}
        messages = [user([{"type": "text", "text": "What is this?"}, image])]
        assert make()(messages) is messages
        assert make().check(messages).unjudged == ("$[0].content[1]",)
        with pytest.raises(PolicyViolation, match="unreadable content"):
            make(strict=True)(messages)

    @pytest.mark.parametrize(
        "content",
        [
            None,
            7,
            {},
            user("Hello"),
            [],
            (),
            b"Hello",
            ["zebra"],
            [7],
            [user(7)],
            [{"content": "zebra"}],
            [[user("x")]],
        ],
    )
    def test_anything_else_is_refused_without_its_text(self, make: Make, content: Any):
        guard = make()
        for call in (guard, guard.check):
            with pytest.raises(UnreadableRequest) as caught:
                call(content)
            assert "zebra" not in str(caught.value)


class TestWhatIsJudged:
    MESSAGES = (user("Be brief.", "system"), user("Hi"), user("Hello", "assistant"), user("So?"))

    def asked(self, guard_class: type[AnyFilter], content: Any) -> Subject:
        classifier = ScriptedClassifier()
        with guard_class(engine(classifier=classifier)) as guard:
            guard.check(content)
        return classifier.asked[0][1]

    def test_a_prompt_is_judged_from_the_first_turn_that_is_not_trusted(self):
        subject = self.asked(PromptFilter, self.MESSAGES)
        assert [turn.role for turn in subject.context] == ["system"]
        assert [turn.role for turn in subject.turns] == ["user", "assistant", "user"]
        assert subject.stage is Stage.INPUT

    def test_of_a_completion_the_last_message_is_judged_in_the_context_of_the_others(self):
        subject = self.asked(CompletionFilter, self.MESSAGES)
        assert [turn.role for turn in subject.context] == ["system", "user", "assistant"]
        assert [segment.text for segment in subject.segments] == ["So?"]
        assert subject.stage is Stage.OUTPUT

    def test_text_is_a_user_turn_before_the_model_and_its_answer_after(self):
        assert [t.role for t in self.asked(PromptFilter, "Hi").turns] == ["user"]
        assert [t.role for t in self.asked(CompletionFilter, "Hi").turns] == ["assistant"]

    def test_earlier_turns_of_a_completion_are_not_redacted(self):
        messages = [user(f"I am {MAIL}"), user(f"So you are {MAIL}", "assistant")]
        with CompletionFilter(engine()) as guard:
            after = guard(messages)
        assert after == [messages[0], user("So you are [REDACTED:HIDE]", "assistant")]


class TestLoopsAndThreads:
    @pytest.mark.anyio
    async def test_the_asynchronous_calls_do_the_same(self, make: Make):
        guard = make()
        assert await guard.ainvoke("Hello") == "Hello"
        assert await guard.ainvoke([user(MAIL)]) == [user("[REDACTED:HIDE]")]
        assert (await guard.acheck("noteworthy")).action is Action.FLAG
        with pytest.raises(PolicyViolation):
            await guard.ainvoke("forbidden")

    @pytest.mark.anyio
    async def test_the_synchronous_calls_work_inside_a_running_loop(self, make: Make):
        guard = make()
        assert guard("Hello") == "Hello"
        assert guard.check("forbidden").action is Action.BLOCK

    def test_many_threads_share_one_filter_and_one_loop(self, make: Make):
        before = len(threads())
        guard = make(classifier=ScriptedClassifier(RULES, delay_s=0.01))
        texts = [f"text {i} {'forbidden' if i % 3 else ''}" for i in range(60)]
        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(guard.check, texts))
            assert len(threads()) <= before + 12 + 2
        assert [d.action is Action.BLOCK for d in found] == ["forbidden" in text for text in texts]

    @pytest.mark.anyio
    @pytest.mark.parametrize("first", ["the filter's own loop", "the caller's loop"])
    async def test_the_same_text_may_be_judged_from_two_loops_at_once(self, make: Make, first: str):
        """A synchronous and an asynchronous call share the engine, which shares identical checks."""
        asked = threading.Semaphore(0)

        class Slow(ScriptedClassifier):
            async def classify(self, policy: Policy, subject: Subject) -> Verdict:
                asked.release()
                return await super().classify(policy, subject)

        guard = make(classifier=Slow(RULES, delay_s=0.1), timeout_s=6)
        found: list[Decision] = []

        async def own_loop() -> None:
            found.append(await anyio.to_thread.run_sync(guard.check, "the same text"))

        async def callers_loop() -> None:
            found.append(await guard.acheck("the same text"))

        calls = [own_loop, callers_loop]
        if first == "the caller's loop":
            calls.reverse()
        async with anyio.create_task_group() as group:
            group.start_soon(calls[0])
            await anyio.to_thread.run_sync(asked.acquire)
            group.start_soon(calls[1])
        assert [d.degraded for d in found] == [(), ()]
        waited = [finding.latency_ms for d in found for finding in d.findings]
        assert max(waited) < 3000, "the second call was not woken by the first, but by its deadline"

    def test_close_ends_the_thread_and_may_be_called_twice(self):
        before = threads()
        closed: list[bool] = []

        async def on_close() -> None:
            closed.append(True)

        with PromptFilter(engine(), on_close) as guard:
            guard("Hello")
            assert len(threads()) > len(before)
        assert threads() <= before
        guard.close()
        assert threads() <= before
        assert closed[0]

    def test_a_filter_that_was_never_called_has_no_thread(self):
        before = threads()
        guard = PromptFilter(engine())
        assert threads() <= before
        guard.close()
        assert threads() <= before

    def test_an_error_of_close_still_ends_the_thread(self):
        before = threads()

        async def on_close() -> None:
            raise OSError("cannot be closed")

        guard = PromptFilter(engine(), on_close)
        guard("Hello")
        with pytest.raises(OSError, match="cannot be closed"):
            guard.close()
        assert threads() <= before


class TestFromConfig:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        policy = tmp_path / "policies" / "house"
        policy.mkdir(parents=True)
        matter = "id: house\nlabels:\n  OK: {violation: false}\n  STOP: {violation: true, action: block}\n"
        phrases = "phrases:\n  STOP: ['forbidden']\n"
        (policy / "policy.md").write_text(f"---\n{matter}{phrases}---\nJudge by the house rules.\n")
        return tmp_path

    def config(self, folder: Path, classifier: str) -> Path:
        file = folder / "guardrail.yaml"
        file.write_text(
            f"version: 1\nclassifier: {classifier}\npolicies: {{input: [house], output: [house]}}\n"
            "audit: {sinks: [{kind: jsonl, path: audit.jsonl}]}\n"
        )
        return file

    @pytest.mark.parametrize("guard_class", FILTERS)
    def test_a_filter_is_built_and_closed_with_all_it_holds(
        self, guard_class: type[AnyFilter], folder: Path
    ):
        before = threads()
        with guard_class.from_config(self.config(folder, "{kind: embedded}")) as guard:
            assert guard("Hello") == "Hello"
            with pytest.raises(PolicyViolation) as caught:
                guard("a forbidden thing")
        assert threads() <= before
        lines = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
        assert [line["action"] for line in lines] == ["pass", "block"]
        assert lines[1]["id"] == caught.value.decision.id

    @pytest.mark.parametrize("guard_class", FILTERS)
    def test_a_real_judge_is_asked_and_its_connections_are_closed(
        self, guard_class: type[AnyFilter], folder: Path
    ):
        with FakeJudge({"forbidden": verdict(1, "STOP")}) as judge:
            config = self.config(folder, f"{{kind: judge, base_url: '{judge.url}'}}")
            with guard_class.from_config(str(config)) as guard:
                assert guard("Hello") == "Hello"
                assert guard.check("forbidden").action is Action.BLOCK
            assert len(judge.seen) == 2
        gc.collect()  # an unclosed session would warn here

    @pytest.mark.anyio
    async def test_asynchronous_calls_leave_no_connection_open_either(self, folder: Path):
        with FakeJudge() as judge:
            config = self.config(folder, f"{{kind: judge, base_url: '{judge.url}'}}")
            async with PromptFilter.from_config(config) as guard:
                assert await guard.ainvoke("Hello") == "Hello"
                assert guard.invoke("Hello again") == "Hello again"
        gc.collect()

    @pytest.mark.parametrize("guard_class", FILTERS)
    def test_a_configuration_that_cannot_be_used_is_a_config_error(
        self, guard_class: type[AnyFilter], tmp_path: Path
    ):
        before = threads()
        with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
            guard_class.from_config(tmp_path / "nowhere.yaml")
        assert threads() <= before


class TestPlaceholders:
    """What one filter hides from the model the other puts back, given the vault."""

    @pytest.fixture
    def pair(self) -> Iterator[tuple[PromptFilter, CompletionFilter]]:
        judging = engine(redaction=RedactionRules(Strategy.PLACEHOLDER))
        with PromptFilter(judging) as prompts, CompletionFilter(judging) as completions:
            yield prompts, completions

    def test_of_a_text(self, pair: tuple[PromptFilter, CompletionFilter]):
        prompts, completions = pair
        shown, vault = prompts.protect(f"Write to {MAIL}.")
        assert MAIL not in shown
        placeholder = shown.removeprefix("Write to ").removesuffix(".")
        answer = f"I wrote to **{placeholder.lower()}**."
        assert completions(answer, vault) == completions.invoke(answer, vault) == f"I wrote to **{MAIL}**."
        assert completions(answer) == answer, "without the vault nobody knows"
        assert MAIL not in repr(vault)

    def test_of_messages(self, pair: tuple[PromptFilter, CompletionFilter]):
        prompts, completions = pair
        asked = [user("Hello."), user([{"type": "text", "text": f"Mail {MAIL}, {MAIL}!"}])]
        shown, vault = prompts.protect(asked)
        (part,) = shown[1]["content"]
        placeholder = part["text"].removeprefix("Mail ").partition(",")[0]
        assert part["text"] == f"Mail {placeholder}, {placeholder}!"
        call = {"id": "c", "type": "function", "function": {"name": "mail", "arguments": ""}}
        call["function"]["arguments"] = json.dumps({"to": placeholder})  # type: ignore[index]
        answer = {"role": "assistant", "content": f"To {placeholder}.", "tool_calls": [call]}
        got = completions([*shown, answer], vault)
        assert got[-1]["content"] == f"To {MAIL}."
        assert json.loads(got[-1]["tool_calls"][0]["function"]["arguments"]) == {"to": MAIL}
        assert got[:-1] == shown
        assert answer["content"] == f"To {placeholder}.", "what was given stays as it was"

    def test_one_prompt_s_vault_is_of_no_use_for_another(self, pair: tuple[PromptFilter, CompletionFilter]):
        prompts, completions = pair
        shown, _ = prompts.protect(f"Write to {MAIL}.")
        _, other = prompts.protect(f"Not to write to {MAIL}, but {shown}")
        assert completions(shown, other) == shown

    @pytest.mark.anyio
    async def test_asynchronously(self):
        judging = engine(redaction=RedactionRules(Strategy.PLACEHOLDER))
        async with PromptFilter(judging) as prompts, CompletionFilter(judging) as completions:
            shown, vault = await prompts.aprotect(f"Write to {MAIL}.")
            assert await completions.ainvoke(shown, vault) == f"Write to {MAIL}."

    def test_nothing_to_hide_is_nothing_to_restore(self, pair: tuple[PromptFilter, CompletionFilter]):
        shown, vault = pair[0].protect("Hello.")
        assert (shown, bool(vault)) == ("Hello.", False)
