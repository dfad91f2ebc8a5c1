"""The twin of guardrail/build/guard.py: a configuration in, live objects that do what it says out."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from guardrail import GuardrailEngine
from guardrail.build import build_guard, build_proxy, load_guard
from guardrail.config import Config, load_config
from guardrail.core.conversation import Conversation, Segment, Turn
from guardrail.core.decision import Decision
from guardrail.core.policy import Action, Effort
from guardrail.core.redaction import Span
from guardrail.errors import ConfigError, PolicyError
from guardrail.frontends.asgi import ASGIApp, Message
from guardrail.testing import drive_asgi
from tests.fakes import FakeJudge, FakeServer, FakeUpstream, Say, verdict
from tests.threads import threads

pytestmark = pytest.mark.anyio

LABELS = "labels:\n  OK: {violation: false}\n  STOP: {violation: true, action: block}\n"
JUDGE_KEY = "judge-" + "k" * 12
UPSTREAM_KEY = "upstream-" + "k" * 12
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a guardrail.yaml beside three policies; keyword arguments are its keys."""
    policies = {
        "house": "phrases:\n  STOP: ['forbidden']\nreasoning_effort: medium\n",
        "other": "phrases:\n  STOP: ['otherwise']\n",
        "prompts": "stages: [input]\n",
    }
    for name, more in policies.items():
        folder = tmp_path / "policies" / name
        folder.mkdir(parents=True)
        (folder / "policy.md").write_text(
            f"---\nid: {name}\n{LABELS}{more}---\nJudge by the {name} rules.\n"
        )

    def write_one(**keys: Any) -> Path:
        whole = {
            "version": 1,
            "classifier": {"kind": "embedded"},
            "policies": {"input": ["house"], "output": ["house"]},
            **keys,
        }
        file = tmp_path / "guardrail.yaml"
        file.write_text(yaml.safe_dump(whole))
        return file

    return write_one


async def decide(engine: GuardrailEngine, text: str) -> Decision:
    return await engine.check_input(Conversation((Turn("user", (Segment(text, ()),)),)))


async def post(app: ASGIApp, text: str = "Hello", **options: Any) -> list[Message]:
    raw = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    with anyio.fail_after(20):
        return await drive_asgi(app, body=raw, **options)


async def stop(app: ASGIApp) -> None:
    """What a server does when it ends."""
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def refused(file: Path, build: Callable[[Path], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        build(file)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file}: ")
    assert message.count(str(file)) == 1
    return message.removeprefix(f"{file}: ")


def proxy_from(file: Path) -> ASGIApp:
    return build_proxy(load_config(file, {}))


class TestWhatStopsTheStart:
    """ "Unknown keys, bad values, missing policies ... stop the start with file, key and remedy"."""

    @pytest.mark.parametrize("stage", ["input", "output"])
    def test_a_missing_policy_is_named_with_file_key_and_what_there_is(self, write: Write, stage: str):
        file = write(policies={stage: ["house", "nobody"]})
        message = refused(file, load_guard)
        assert message.startswith(f"policies.{stage}: ")
        assert "'nobody'" in message
        assert "house, other, prompts" in message

    def test_a_policy_on_a_stage_it_is_not_written_for_is_named(self, write: Write):
        message = refused(write(policies={"output": ["prompts"]}), load_guard)
        assert message.startswith("policies.output: prompts ")
        assert "remove it" in message

    def test_the_proxy_says_the_same(self, write: Write):
        file = write(policies={"input": ["nobody"]}, upstream={"kind": "demo"})
        assert refused(file, proxy_from).startswith("policies.input: ")

    def test_a_proxy_without_an_upstream_says_so(self, write: Write):
        assert refused(write(), proxy_from).startswith("upstream: is missing")

    def test_a_directory_that_is_not_there_or_empty_is_named(self, write: Write, tmp_path: Path):
        (tmp_path / "empty").mkdir()
        for directory in ("nowhere", "empty"):
            message = refused(write(policies={"directory": directory, "input": ["house"]}), load_guard)
            assert message.startswith("policies.directory: ")
            assert str(tmp_path / directory) in message

    def test_a_broken_policy_is_named_with_its_own_file(self, write: Write, tmp_path: Path):
        broken = tmp_path / "policies" / "other" / "policy.md"
        broken.write_text("---\nid: other\nlabels: {}\nsurprise: 1\n---\nBody.\n")
        message = refused(write(), load_guard)
        assert str(broken) in message
        assert "surprise: unknown key" in message

    def test_it_stays_a_policy_error_where_it_was_one(self, write: Write):
        with pytest.raises(PolicyError):
            load_guard(write(policies={"directory": "nowhere", "input": ["house"]}))

    def test_an_audit_file_that_cannot_be_written_is_named(self, write: Write, tmp_path: Path):
        sinks = [{"kind": "jsonl", "path": "nowhere/audit.jsonl"}]
        message = refused(write(audit={"sinks": sinks}), load_guard)
        assert message.startswith("audit.sinks: ")
        assert str(tmp_path / "nowhere/audit.jsonl") in message

    @pytest.mark.skipif(importlib.util.find_spec("litellm") is not None, reason="LiteLLM is installed")
    @pytest.mark.parametrize("key", ["classifier", "upstream"])
    def test_litellm_that_is_not_installed_is_named_with_its_remedy(self, write: Write, key: str):
        keys = {"upstream": {"kind": "demo"}, key: {"kind": "litellm"}}
        assert "pip install 'guardrail[litellm]'" in refused(write(**keys), proxy_from)

    def test_a_configuration_made_in_code_names_no_file(self):
        config = Config.model_validate(
            {"version": 1, "policies": {"directory": "/nowhere", "input": ["a"]}}
        )
        with pytest.raises(ConfigError, match=r"^policies\.directory: "):
            build_guard(config)


class TestEngine:
    async def test_each_stage_has_its_policies(self, write: Write):
        guard = load_guard(write(policies={"input": ["other", "prompts"], "output": ["house"]}))
        assert (await decide(guard.engine, "forbidden")).action is Action.PASS
        decision = await decide(guard.engine, "otherwise")
        assert (decision.action, [f.policy.id for f in decision.findings]) == (
            Action.BLOCK,
            ["other", "prompts"],
        )
        answer = Turn("assistant", (Segment("forbidden", ()),))
        assert (await guard.engine.check_output(Conversation(()), answer)).action is Action.BLOCK

    async def test_every_policy_of_the_directory_may_be_added_by_a_request(self, write: Write):
        engine = load_guard(write()).engine.adding(["other"])
        assert (await decide(engine, "otherwise")).blocking == ("other",)

    async def test_the_effort_of_the_configuration_goes_before_that_of_the_policies(self, write: Write):
        for effort, used in ((None, Effort.MEDIUM), ("high", Effort.HIGH)):
            classifier = {"kind": "embedded"} | ({"reasoning_effort": effort} if effort else {})
            decision = await decide(load_guard(write(classifier=classifier)).engine, "Hello")
            assert decision.findings[0].policy.reasoning_effort is used

    @pytest.mark.parametrize(
        ("keys", "action"),
        [
            ({}, Action.FLAG),
            ({"unreadable": "pass"}, Action.PASS),
            ({"unreadable": "flag"}, Action.FLAG),
            ({"unreadable": "block"}, Action.BLOCK),
            ({"unreadable": "pass", "strict": True}, Action.BLOCK),
        ],
    )
    async def test_unreadable_and_strict_say_what_happens_to_images(
        self, write: Write, keys: dict[str, Any], action: Action
    ):
        engine = load_guard(write(**keys)).engine
        assert (await engine.check_input(Conversation((), ("$.x",)))).action is action

    async def test_trusted_roles_are_not_judged(self, write: Write):
        turns = (Turn("system", (Segment("forbidden", ()),)), Turn("user", (Segment("Hello", ()),)))
        for roles, action in ((["system"], Action.PASS), ([], Action.BLOCK)):
            engine = load_guard(write(trusted_roles=roles)).engine
            assert (await engine.check_input(Conversation(turns))).action is action

    @pytest.mark.parametrize(("entries", "calls"), [(0, 2), (10, 1)])
    async def test_the_cache_can_be_turned_off(self, write: Write, entries: int, calls: int):
        with FakeJudge() as judge:
            classifier = {"kind": "judge", "base_url": judge.url}
            guard = load_guard(write(classifier=classifier, cache={"max_entries": entries}))
            for _ in range(2):
                await decide(guard.engine, "Hello")
            await guard.aclose()
            assert len(judge.seen) == calls


class TestJudge:
    async def test_it_is_asked_as_the_configuration_says(self, write: Write):
        with FakeJudge({"forbidden": verdict(1, "STOP")}) as judge:
            classifier = {
                "kind": "judge",
                "preset": "vllm",
                "base_url": judge.url,
                "model": "safeguard-x",
                "api_key": JUDGE_KEY,
                "max_tokens": 777,
                "reasoning_effort": "high",
            }
            guard = load_guard(write(classifier=classifier))
            assert (await decide(guard.engine, "a forbidden thing")).action is Action.BLOCK
            await guard.aclose()
            (seen,) = judge.seen
        body = seen.json
        assert seen.path == "/v1/chat/completions"
        assert seen.headers["Authorization"] == f"Bearer {JUDGE_KEY}"
        assert (body["model"], body["max_completion_tokens"], body["reasoning_effort"]) == (
            "safeguard-x",
            777,
            "high",
        )
        assert body["messages"][0]["content"] == "Judge by the house rules.\n"

    async def test_it_has_the_deadline_and_the_fail_mode_of_the_configuration(self, write: Write):
        with FakeJudge(delay_s=1) as judge:  # late for this deadline, not for the default one
            classifier = {"kind": "judge", "base_url": judge.url, "timeout_s": 0.2}
            for modes, action in (
                ("closed", Action.BLOCK),
                ("open", Action.PASS),
                ({"default": "closed", "timeout": "open"}, Action.PASS),
                ({"default": "open", "timeout": "closed"}, Action.BLOCK),
            ):
                guard = load_guard(write(classifier=classifier, on_error={"input": modes}))
                decision = await decide(guard.engine, "Hello")
                assert (decision.action, decision.degraded) == (action, ("house=timeout",)), modes
                await guard.aclose()

    async def test_the_fail_mode_of_a_policy_goes_before_that_of_the_stage(self, write: Write):
        policies = {"input": ["house", "other"]}
        for own, action in (("open", Action.PASS), ("closed", Action.BLOCK)):
            on_error = {"input": "open", "policies": {"house": {"input": own}}}
            with FakeServer(Say(b"{}", status=503)) as judge:
                classifier = {"kind": "judge", "base_url": judge.url, "timeout_s": 0.3}
                guard = load_guard(write(classifier=classifier, on_error=on_error, policies=policies))
                decision = await decide(guard.engine, "Hello")
                assert (decision.action, len(decision.degraded)) == (action, 2)
                await guard.aclose()

    def test_a_fail_mode_of_a_policy_that_is_not_there_is_named(self, write: Write):
        message = refused(write(on_error={"policies": {"nobody": {"input": "open"}}}), load_guard)
        assert message.startswith("on_error.policies: no policy 'nobody'")

    async def test_rules_go_on_where_the_judge_fails_open(self, write: Write):
        with FakeServer(Say(b"{}", status=401)) as judge:
            guard = load_guard(write(classifier={"kind": "judge", "base_url": judge.url}))
            assert (await decide(guard.engine, "Hello")).degraded == ("house=auth",)
            await guard.aclose()
        with FakeServer(Say(b"{}", status=404)) as judge:
            pass
        classifier = {"kind": "judge", "base_url": judge.url, "timeout_s": 0.3}  # nobody is there any more
        guard = load_guard(write(classifier=classifier, on_error={"input": "open"}))
        assert (await decide(guard.engine, "Hello")).action is Action.PASS
        found = await decide(guard.engine, "a forbidden thing")
        assert (found.action, found.blocking) == (Action.BLOCK, ("house",))
        assert set(found.degraded) == {"house=unavailable", "house=reduced-coverage"}
        await guard.aclose()

    async def test_no_more_checks_run_at_once_than_the_limit_allows(self, write: Write):
        with FakeJudge(delay_s=0.05) as judge:
            keys = {
                "classifier": {"kind": "judge", "base_url": judge.url},
                "limits": {"max_concurrent_checks": 2},
            }
            guard = load_guard(write(**keys))
            async with anyio.create_task_group() as group:
                for i in range(8):
                    group.start_soon(decide, guard.engine, f"text {i}")
            await guard.aclose()
            assert (len(judge.seen), judge.open_most) == (8, 2)

    async def test_detectors_redact_beside_it_what_it_passes(self, write: Write, tmp_path: Path):
        folder = tmp_path / "policies" / "mail"
        folder.mkdir()
        matter = "id: mail\nlabels:\n  OK: {violation: false}\n  HIDE: {violation: true, action: redact}\n"
        (folder / "policy.md").write_text(f"---\n{matter}detectors: [pii.email]\n---\nNo addresses.\n")
        with FakeJudge() as judge:
            keys = {"classifier": {"kind": "judge", "base_url": judge.url}, "policies": {"input": ["mail"]}}
            guard = load_guard(write(**keys))
            decision = await decide(guard.engine, "Write to kim@example.com")
            await guard.aclose()
            assert len(judge.seen) == 1
        assert [r.spans for r in decision.redactions] == [(Span(9, 24, "HIDE", "email"),)]

    async def test_the_probe_asks_whether_it_is_there(self, write: Write):
        with FakeJudge() as judge:
            guard = load_guard(write(classifier={"kind": "judge", "base_url": judge.url}))
            assert await guard.judges.reachable() is True
        assert await guard.judges.reachable() is False
        await guard.aclose()
        assert await load_guard(write()).judges.reachable() is True  # there is nobody to be asked


class TestProxy:
    async def test_the_keys_stay_apart(self, write: Write):
        """The caller's and the upstream's never reach the judge, the judge's never the upstream."""
        caller = "caller-" + "k" * 12
        headers = [(b"content-type", b"application/json"), (b"authorization", f"Bearer {caller}".encode())]
        with FakeJudge() as judge, FakeUpstream() as upstream:
            for api_key, sent_on in (("", caller), (UPSTREAM_KEY, UPSTREAM_KEY)):
                classifier = {"kind": "judge", "base_url": judge.url, "api_key": JUDGE_KEY}
                target = {"kind": "openai", "base_url": upstream.url, "api_key": api_key}
                app = proxy_from(write(classifier=classifier, upstream=target, cache={"max_entries": 0}))
                sent = await post(app, headers=headers)
                await stop(app)
                assert sent[0]["status"] == 200
                assert upstream.seen[-1].headers["Authorization"] == f"Bearer {sent_on}"
            assert {seen.headers["Authorization"] for seen in judge.seen} == {f"Bearer {JUDGE_KEY}"}
            everything = b"".join(seen.body for seen in judge.seen + upstream.seen)
            assert not any(key.encode() in everything for key in (caller, JUDGE_KEY, UPSTREAM_KEY))

    async def test_the_demo_model_answers_without_any_network(self, write: Write):
        app = proxy_from(write(upstream={"kind": "demo"}))
        assert b"scripted model" in (await post(app))[1]["body"]
        blocked = await post(app, "a forbidden thing")
        assert dict(blocked[0]["headers"])[b"x-guardrail-decision"] == b"block"
        await stop(app)

    async def test_it_refuses_what_nobody_guards_unless_it_is_allowed(self, write: Write):
        with FakeUpstream() as upstream:
            target = {"kind": "openai", "base_url": upstream.url}
            closed = proxy_from(write(upstream=target))
            assert (await post(closed, path="/v1/images/generations"))[0]["status"] == 403
            opened = proxy_from(write(upstream=target, paths={"allow": ["/v1/images/generations"]}))
            assert (await post(opened, path="/v1/images/generations"))[0]["status"] == 200
            assert [seen.path for seen in upstream.seen] == ["/v1/images/generations"]
            await stop(closed)
            await stop(opened)

    async def test_ready_asks_the_judge(self, write: Write):
        with FakeJudge() as judge:
            classifier = {"kind": "judge", "base_url": judge.url, "warm_up": False}
            app = proxy_from(write(classifier=classifier, upstream={"kind": "demo"}))
            assert (await post(app, path="/readyz", method="GET"))[0]["status"] == 200
        assert (await post(app, path="/readyz", method="GET"))[0]["status"] == 503
        assert (await post(app, path="/healthz", method="GET"))[0]["status"] == 200
        await stop(app)

    async def test_metrics_can_be_read_or_turned_off(self, write: Write):
        app = proxy_from(write(upstream={"kind": "demo"}))
        await post(app, "a forbidden thing")
        page = await post(app, path="/metrics", method="GET")
        assert b'guardrail_decisions_total{action="block",stage="input"} 1.0' in page[1]["body"]
        off = proxy_from(write(upstream={"kind": "demo"}, metrics={"enabled": False}))
        assert (await post(off, path="/metrics", method="GET"))[0]["status"] == 403

    async def test_its_end_writes_the_audit_and_closes_everything(self, write: Write, tmp_path: Path):
        before = threads()
        sinks = [
            {"kind": "jsonl", "path": "a.jsonl", "content": "full"},
            {"kind": "jsonl", "path": "b.jsonl", "content": "none"},
        ]
        with FakeJudge() as judge, FakeUpstream() as upstream:
            keys = {
                "classifier": {"kind": "judge", "base_url": judge.url},
                "upstream": {"kind": "openai", "base_url": upstream.url},
                "audit": {"sinks": sinks},
            }
            app = proxy_from(write(**keys))
            sent = await post(app, "Hello there")
            await stop(app)
        assert {t for t in threads() if t.name == "guardrail-audit"} <= before
        full, none = [
            [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
            for name in ("a.jsonl", "b.jsonl")
        ]
        assert [(line["stage"], line["action"]) for line in full] == [("input", "pass"), ("output", "pass")]
        assert full[0]["text"] == "Hello there"
        assert "text" not in none[0]
        assert {line["id"].encode() for line in full + none} == {
            dict(sent[0]["headers"])[b"x-guardrail-id"]
        }


class TestGuard:
    async def test_its_end_closes_everything_in_order(self, write: Write):
        order: list[str] = []

        def closer(name: str) -> Any:
            async def close() -> None:
                order.append(name)

            return close

        made = load_guard(write())
        await replace(made, closers=(closer("a"), closer("b"))).aclose()
        assert order == ["a", "b"]
