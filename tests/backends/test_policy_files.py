"""The twin of guardrail/backends/policy_files.py, and the law of the starter policies."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from guardrail.backends.embedded import EmbeddedClassifier
from guardrail.backends.policy_files import (
    describe,
    load_policies,
    load_policy,
    load_yaml,
    starter_policies,
)
from guardrail.core.policy import Action, AnswerForm, Effort, LabelRule, Mode, Stage, Strategy
from guardrail.core.prompt import prefix
from guardrail.errors import PolicyError

FRONT = """\
id: spam
labels:
  S0: {violation: false}
  S2: {violation: true, action: flag}
  S4: {violation: true, action: block}
"""


def write(folder: Path, front: str = FRONT, body: bytes = b"# Body\n", name: str = "spam") -> Path:
    file = folder / name / "policy.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"---\n" + front.encode() + b"---\n" + body)
    return file


def fault(file: Path) -> str:
    with pytest.raises(PolicyError) as caught:
        load_policy(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert caught.value.__cause__ is None
    return message.removeprefix(f"{file}: ")


class TestFrontMatter:
    def test_the_least_that_is_needed_and_its_defaults(self, tmp_path: Path):
        policy = load_policy(write(tmp_path))
        assert policy.labels == {
            "S0": LabelRule("S0", violation=False),
            "S2": LabelRule("S2", True, Action.FLAG),
            "S4": LabelRule("S4", True, Action.BLOCK),
        }
        assert (policy.id, policy.title, policy.version) == ("spam", "", "0")
        assert policy.stages == frozenset(Stage)
        assert (policy.answer, policy.reasoning_effort, policy.mode) == (
            AnswerForm.JSON,
            Effort.LOW,
            Mode.ENFORCE,
        )
        assert (policy.detectors, policy.phrases) == ({}, {})

    def test_everything_said(self, tmp_path: Path):
        front = FRONT + (
            "title: Unwanted advertising\nversion: 1.2.0\nstages: [output]\nanswer: binary\n"
            "reasoning_effort: high\nmode: shadow\ndetectors: {pii.email: S2, pii.ip: S4}\n"
            "phrases: {S2: [buy now, cheap], S4: ['act (now|today)']}\n"
        )
        policy = load_policy(write(tmp_path, front))
        assert (policy.title, policy.version, policy.stages) == (
            "Unwanted advertising",
            "1.2.0",
            frozenset({Stage.OUTPUT}),
        )
        assert (policy.answer, policy.reasoning_effort, policy.mode) == (
            AnswerForm.BINARY,
            Effort.HIGH,
            Mode.SHADOW,
        )
        assert policy.detectors == {"pii.email": "S2", "pii.ip": "S4"}
        assert policy.phrases == {"buy now": "S2", "cheap": "S2", "act (now|today)": "S4"}

    def test_who_is_asked_before_and_after_and_how_long_it_is_remembered(self, tmp_path: Path):
        front = FRONT.replace("action: flag", "action: flag, escalate: true") + (
            "detectors: {pii.ip: S4}\nprefilter: [pii.ip]\ncache_ttl_s: 0\n"
        )
        policy = load_policy(write(tmp_path, front))
        assert [label for label, rule in policy.labels.items() if rule.escalate] == ["S2"]
        assert (policy.prefilter, policy.cache_ttl_s) == (frozenset({"pii.ip"}), 0)

    def test_how_a_label_is_redacted(self, tmp_path: Path):
        front = FRONT.replace("action: flag", "action: redact, strategy: placeholder")
        policy = load_policy(write(tmp_path, front))
        assert [policy.strategy_of(label) for label in ("S0", "S2", "S4", "no label")] == [
            None, Strategy.PLACEHOLDER, None, None,
        ]  # fmt: skip

    def test_a_list_of_detectors_stands_for_the_strictest_label(self, tmp_path: Path):
        policy = load_policy(write(tmp_path, FRONT + "detectors: [pii.email, pii.ip]\n"))
        assert policy.detectors == {"pii.email": "S4", "pii.ip": "S4"}

    @pytest.mark.parametrize(
        ("covers", "read"),
        [
            ("[hate, harassment]", {label: ["hate", "harassment"] for label in ("S2", "S4")}),
            ("{S4: [hate]}", {"S4": ["hate"]}),
            ("[]", {}),
        ],
    )
    def test_a_list_of_categories_stands_for_every_violation(
        self, covers: str, read: dict[str, list[str]], tmp_path: Path
    ):
        assert load_policy(write(tmp_path, FRONT + f"covers: {covers}\n")).covers == read
        assert load_policy(write(tmp_path)).covers == {}

    @pytest.mark.parametrize(
        ("refusal", "read"),
        [
            ("Call us.", {"": "Call us."}),
            ("{default: Call us., pt-BR: Liga.}", {"": "Call us.", "pt-br": "Liga."}),
            ("{}", {}),
        ],
    )
    def test_the_words_of_a_refusal(self, refusal: str, read: dict[str, str], tmp_path: Path):
        assert load_policy(write(tmp_path, FRONT + f"refusal: {refusal}\n")).refusal == read
        assert load_policy(write(tmp_path)).refusal == {}

    @pytest.mark.parametrize("mode", ["off", "'off'", "shadow", "enforce"])
    def test_a_mode_may_stand_without_quotes(self, mode: str, tmp_path: Path):
        """YAML reads a bare off as false."""
        assert load_policy(write(tmp_path, FRONT + f"mode: {mode}\n")).mode is Mode(mode.strip("'"))

    @pytest.mark.parametrize(("word", "action"), [("block", 3), ("Block", 3), ("REDACT", 2), ("flag", 1)])
    def test_actions_are_words(self, word: str, action: int, tmp_path: Path):
        front = FRONT.replace("action: block", f"action: {word}")
        assert load_policy(write(tmp_path, front)).labels["S4"].action == action

    @pytest.mark.parametrize(
        ("front", "key", "remedy"),
        [
            (FRONT + "modus: shadow\n", "modus", "unknown key; remove it"),
            (FRONT.replace("action: flag", "acton: flag"), "labels.S2.acton", "unknown key"),
            (FRONT.replace("id: spam\n", ""), "id", "required"),
            (FRONT + "covers: [spam]\n", "policy spam: covers", "take one of harassment"),
            (FRONT + "covers: {S0: [hate]}\n", "policy spam: covers", "violation: true"),
            ("id: spam\n", "labels", "required"),
            (FRONT.replace("id: spam", "id: ham"), "id 'ham'", "rename one"),
            (FRONT + "id: spam\n", "'id'", "stands twice"),
            (FRONT + "  S0: {violation: true, action: block}\n", "'S0'", "stands twice"),
            (FRONT + "mode: sometimes\n", "mode", "'enforce', 'shadow' or 'off'"),
            (FRONT + "mode: true\n", "mode", "'enforce', 'shadow' or 'off'"),
            (FRONT + "answer: xml\n", "answer", "'json' or 'binary'"),
            (FRONT + "reasoning_effort: max\n", "reasoning_effort", "'low', 'medium' or 'high'"),
            (FRONT + "stages: [middle]\n", "stages.0", "'input' or 'output'"),
            (FRONT + "stages: input\n", "stages", "list"),
            (FRONT + "version: 1.0\n", "version", "string"),
            (FRONT.replace("action: block", "action: blok"), "labels.S4.action", "flag, redact or block"),
            (FRONT.replace("action: block", "action: 3"), "labels.S4.action", "flag, redact or block"),
            (FRONT.replace("action: flag", "action: yes"), "labels.S2.action", "flag, redact or block"),
            (
                FRONT.replace("flag", "redact, strategy: hide"),
                "labels.S2.strategy",
                "'hash' or 'placeholder'",
            ),
            (FRONT.replace("flag", "flag, strategy: mask"), "label S2", "or remove its strategy"),
            (FRONT.replace(", action: block", ""), "S4", "flag, redact or block"),
            (FRONT.replace("{violation: false}", "{violation: false, action: flag}"), "S0", "remove"),
            (FRONT.replace("{violation: false}", "{violation: perhaps}"), "labels.S0.violation", "boolean"),
            ("id: spam\nlabels: {S4: {violation: true, action: block}}\n", "label", "violation: false"),
            (FRONT + "detectors: {pii.email: S9}\n", "detectors", "name a declared label"),
            (FRONT + "detectors: {pii.email: S0}\n", "detectors", "violation: true"),
            (FRONT + "phrases: {S9: [x]}\n", "phrases", "name a declared label"),
            (FRONT + "phrases: {S2: [buy], S4: [buy]}\n", "phrases: 'buy'", "remove one"),
            (FRONT + "prefilter: [pii.ip]\n", "prefilter: 'pii.ip'", "add it"),
            (FRONT + "cache_ttl_s: -1\n", "cache_ttl_s", "greater than or equal to 0"),
            ("[id, labels]\n", "the file", "dictionary"),
            ("# nothing\n", "the file", "dictionary"),
            ("id: [unclosed\n", "cannot be read", "line"),
            ("? [a, b]\n: c\n", "cannot be read", "cannot be a key"),
            ("id: 2026-02-30\n", "cannot be read", "not possible"),
            ("id: !!python/object/apply:os.getcwd []\n", "cannot be read", "python/object"),
        ],
    )
    def test_what_is_wrong_names_file_key_and_remedy(
        self, front: str, key: str, remedy: str, tmp_path: Path
    ):
        message = fault(write(tmp_path, front))
        assert key in message
        assert remedy in message

    def test_several_faults_are_told_at_once(self, tmp_path: Path):
        message = fault(write(tmp_path, FRONT + "mode: x\nanswer: y\nzzz: 1\n"))
        for part in ("mode: Input should be", "answer: Input should be", "zzz: unknown key"):
            assert part in message

    def test_a_list_of_detectors_needs_a_violating_label(self, tmp_path: Path):
        message = fault(
            write(tmp_path, "id: spam\nlabels: {S0: {violation: false}}\ndetectors: [pii.email]\n")
        )
        assert "violation: true" in message


class TestBody:
    @pytest.mark.parametrize(
        "body",
        [
            b"# Body\n",
            b"# Body without a line end",
            b"# Body\r\n\r\nWindows lines.\r\n",
            b"\n\n  leading and trailing white space  \n\n",
            b"caf\xc3\xa9 \xf0\x9f\x98\x80\ttab\x0b\x0c\xe2\x80\xa8\n",
            b"--- \n---\na rule, and another front matter:\n---\nid: x\n---\n",
            b"mixed\rline\nends\r\n",
        ],
    )
    def test_it_is_what_stands_in_the_file_byte_for_byte(self, body: bytes, tmp_path: Path):
        policy = load_policy(write(tmp_path, body=body))
        assert prefix(policy).encode() == body
        assert policy.revision == hashlib.sha256(body).hexdigest()

    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \t\r\n"])
    def test_the_front_matter_may_have_windows_lines_too(self, end: bytes, tmp_path: Path):
        file = write(tmp_path)
        file.write_bytes(
            b"---" + end + FRONT.encode().replace(b"\n", b"\r\n") + b"---" + end + b"\r\nBody\r\n"
        )
        policy = load_policy(file)
        assert (policy.id, policy.body) == ("spam", "\r\nBody\r\n")

    def test_a_byte_order_mark_is_no_part_of_the_front_matter(self, tmp_path: Path):
        file = write(tmp_path)
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
        assert load_policy(file).body == "# Body\n"

    def test_the_front_matter_is_no_part_of_the_revision(self, tmp_path: Path):
        one = load_policy(write(tmp_path / "a"))
        two = load_policy(write(tmp_path / "b", FRONT + "title: Another\nmode: shadow\n"))
        assert one.revision == two.revision

    @pytest.mark.parametrize(
        ("raw", "remedy"),
        [
            (b"# Body\n", "begin the file with '---'"),
            (b"", "begin the file with '---'"),
            (b"---\n" + FRONT.encode() + b"# never closed\n", "begin the file with '---'"),
            (b" ---\n" + FRONT.encode() + b"---\nBody\n", "begin the file with '---'"),
            (b"---\n" + FRONT.encode() + b"---\n", "the body is empty"),
            (b"---\n" + FRONT.encode() + b"---\n \n\t\n", "the body is empty"),
            (b"---\n" + FRONT.encode() + b"---\ncaf\xe9\n", "utf-8"),
            (b"---\nid: caf\xe9\n---\nBody\n", "utf-8"),
        ],
    )
    def test_a_file_that_is_no_policy(self, raw: bytes, remedy: str, tmp_path: Path):
        file = write(tmp_path)
        file.write_bytes(raw)
        assert remedy in fault(file)

    def test_a_file_that_is_not_there(self, tmp_path: Path):
        assert "cannot be read" in fault(tmp_path / "spam" / "policy.md")


PLAIN = b"# Policy\r\nAnswer VALID or INVALID."


class TestPlainLayout:
    """OpenAI's and ROOST's: ``<id>/policy.txt``, the answer is VALID or INVALID."""

    def plain(self, folder: Path, body: bytes = PLAIN, name: str = "Spam") -> Path:
        file = folder / name / "policy.txt"
        file.parent.mkdir(parents=True)
        file.write_bytes(body)
        return file

    def test_it_loads(self, tmp_path: Path):
        policy = load_policy(self.plain(tmp_path))
        assert (policy.id, policy.title, policy.answer) == ("spam", "Spam", AnswerForm.BINARY)
        assert policy.labels == {
            "VALID": LabelRule("VALID", violation=False),
            "INVALID": LabelRule("INVALID", True, Action.BLOCK),
        }
        assert policy.body == "# Policy\r\nAnswer VALID or INVALID."

    def test_front_matter_in_it_is_text(self, tmp_path: Path):
        body = b"---\nid: x\n---\nBody\n"
        assert load_policy(self.plain(tmp_path, body)).body.encode() == body

    @pytest.mark.parametrize(
        ("body", "name", "part"),
        [(b" \n", "spam", "empty"), (b"x", "not an id!", "lower-case"), (b"\xff", "spam", "utf-8")],
    )
    def test_what_is_wrong_names_the_file(self, body: bytes, name: str, part: str, tmp_path: Path):
        assert part in fault(self.plain(tmp_path, body, name))

    def test_policy_md_goes_before_it(self, tmp_path: Path):
        self.plain(tmp_path, name="spam")
        write(tmp_path)
        (policy,) = load_policies(tmp_path)
        assert policy.answer is AnswerForm.JSON


class TestDirectory:
    def test_every_policy_by_the_name_of_its_folder(self, tmp_path: Path):
        for name in ("b", "a", "c"):
            write(tmp_path, FRONT.replace("spam", name), name=name)
        (tmp_path / "README.md").write_text("no policy")
        (tmp_path / "drafts").mkdir()
        (tmp_path / "drafts" / "notes.md").write_text("no policy")
        assert [policy.id for policy in load_policies(tmp_path)] == ["a", "b", "c"]

    def test_one_that_is_not_there_or_empty(self, tmp_path: Path):
        for folder, part in ((tmp_path / "none", "is no directory"), (tmp_path, "holds no <id>/policy.md")):
            with pytest.raises(PolicyError, match=part) as caught:
                load_policies(folder)
            assert str(caught.value).startswith(f"policies.directory: {folder}")

    def test_one_bad_policy_stops_all(self, tmp_path: Path):
        write(tmp_path)
        bad = write(tmp_path, "id: ham\n", name="ham")
        with pytest.raises(PolicyError, match="labels") as caught:
            load_policies(tmp_path)
        assert str(bad) in str(caught.value)

    def test_two_folders_of_one_id_name_the_directory(self, tmp_path: Path):
        for name in ("Spam", "spam"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "policy.txt").write_text("Body")
        with pytest.raises(PolicyError, match="'spam' is used twice") as caught:
            load_policies(tmp_path)
        assert str(tmp_path) in str(caught.value)


class TestYaml:
    def test_anchors_are_fine_repeated_keys_are_not(self):
        assert load_yaml("a: &x {b: 1}\nc: *x\n") == {"a": {"b": 1}, "c": {"b": 1}}
        for text in ("a: 1\na: 1\n", "x: {b: 1, c: 2, b: 3}\n", "1: a\n1: b\n", "- {a: 1, a: 2}\n"):
            with pytest.raises(yaml.YAMLError, match="stands twice"):
                load_yaml(text)

    @given(st.text(max_size=60))
    def test_any_text_is_a_value_or_a_yaml_error(self, text: str):
        try:
            value = load_yaml(text)
        except yaml.YAMLError:
            return
        assert repr(value) == repr(yaml.safe_load(text))


def test_describing_a_fault_never_tells_the_value():
    class Model(BaseModel):
        key: int
        inner: dict[str, int] = {}

    secret = "sk-" + "secret-value"
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"key": secret, "inner": {"x": secret}})
    message = describe(caught.value)
    assert "key: " in message
    assert "inner.x: " in message
    assert secret not in message


STARTERS = starter_policies()
NAMES = [
    "hate-harassment",
    "illicit-harm",
    "pii",
    "prompt-injection",
    "secrets",
    "self-harm",
    "sexual-content",
    "violence",
]


def golden(policy_id: str) -> list[dict[str, Any]]:
    lines = (STARTERS / policy_id / "golden.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


class TestStarterPolicies:
    def test_they_all_load(self):
        assert [policy.id for policy in load_policies(STARTERS)] == NAMES

    def test_their_rules_are_sound(self):
        policies = list(load_policies(STARTERS))
        classifier = EmbeddedClassifier(policies)
        assert all(classifier.identity(policy) for policy in policies)

    @pytest.mark.parametrize("name", NAMES)
    def test_each_has_a_golden_set_on_both_sides_of_its_boundary(self, name: str):
        policy = load_policy(STARTERS / name / "policy.md")
        cases = golden(name)
        assert len(cases) >= 40
        sides = [
            policy.labels[case["label"]].violation for case in cases
        ]  # a KeyError is an undeclared label
        assert sides.count(True) >= 10
        assert sides.count(False) >= 10
        assert {case["label"] for case in cases} == set(policy.labels)
        assert {Stage(case["stage"]) for case in cases} <= policy.stages
        for case in cases:
            assert set(case) in ({"text", "stage", "label"}, {"messages", "stage", "label"})
            texts = [case["text"]] if "text" in case else [m["content"] for m in case["messages"]]
            assert texts
            assert all(isinstance(text, str) and text.strip() for text in texts)

    @pytest.mark.parametrize("name", NAMES)
    def test_no_case_stands_twice(self, name: str):
        said = [json.dumps(case.get("text") or case["messages"]) + case["stage"] for case in golden(name)]
        assert len(said) == len(set(said))

    @pytest.mark.parametrize("name", NAMES)
    def test_the_body_names_every_label_and_only_what_is_declared(self, name: str):
        policy = load_policy(STARTERS / name / "policy.md")
        assert all(label in policy.body for label in policy.labels)
        assert policy.title
        assert policy.body.startswith("# ")
        assert "\r" not in policy.body

    def test_each_stage_has_policies(self):
        stages = {stage: [p for p in load_policies(STARTERS) if stage in p.stages] for stage in Stage}
        assert all(stages.values())
