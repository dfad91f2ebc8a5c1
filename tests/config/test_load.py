"""The twin of guardrail/config/load.py: what a guardrail.yaml may say, and what of it is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from guardrail.backends.presets import PRESETS
from guardrail.config import Config, FailConfig, load_config
from guardrail.core.policy import FailMode
from guardrail.errors import ConfigError, FailureCode

# The example of the contract, word for word; its comments are cut.
EXAMPLE = """
version: 1
server: {host: 127.0.0.1, port: 8080}
upstream:
  kind: openai                         # openai | litellm | demo
  base_url: https://api.openai.com/v1
  api_key: ${OPENAI_API_KEY:-}         # empty: the caller's own Authorization is forwarded
classifier:
  kind: judge                          # judge | litellm | embedded
  preset: vllm                         # vllm | ollama | …
  base_url: http://127.0.0.1:8000/v1   # or a list: replicas
  model: openai/gpt-oss-safeguard-20b
  api_key: ${SAFEGUARD_API_KEY:-}
  reasoning_effort: low
  max_tokens: 2048
  timeout_s: 5
policies:
  directory: policies
  input: [prompt-injection, illicit-harm, pii]
  output: [illicit-harm, pii]
on_error: {input: closed, output: closed}      # or per error class
streaming: {release: window, window_chars: 400, overlap_chars: 120, max_held_chars: 16384}
cache: {max_entries: 10000, ttl_s: 600}        # redis_url: redis://… shares verdicts between processes
refusal: {input: {style: completion}, output: {style: completion}, message: "I can't help with that."}
audit: {sinks: [{kind: jsonl, path: audit.jsonl, content: fingerprint}]}   # none | fingerprint | full
limits: {max_body_bytes: 1048576, max_concurrent_requests: 512, max_concurrent_checks: 64}
"""
SMALLEST = "version: 1\npolicies: {input: [pii]}\n"
SECRET = "sk-" + "zebra" * 4


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "guardrail.yaml"


def load(file: Path, text: str, **environ: str) -> Config:
    file.write_text(text)
    return load_config(file, environ)


def refused(file: Path, text: str, **environ: str) -> str:
    """The one message; it names the file, is one line, and quotes no secret."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file, environ)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert SECRET not in message
    assert "zebra" not in message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return message.removeprefix(f"{file}: ")


def merged(key: str, value: Any) -> str:
    """The smallest file with one dotted key set."""
    whole = yaml.safe_load(SMALLEST)
    place = whole
    *way, last = key.split(".")
    for step in way:
        place = place.setdefault(step, {})
    place[last] = value
    if key.startswith("upstream.") and key != "upstream.base_url":
        place.setdefault("base_url", "http://127.0.0.1:1/v1")
    return yaml.safe_dump(whole)


class TestExample:
    def test_it_loads_with_every_value_in_its_place(self, file: Path):
        config = load(file, EXAMPLE, OPENAI_API_KEY=SECRET)
        assert config.upstream is not None
        assert (config.upstream.kind, config.upstream.api_key) == ("openai", SECRET)
        assert config.upstream.base_url == "https://api.openai.com/v1"
        judge = config.classifier
        assert (judge.kind, judge.preset, judge.api_key) == ("judge", "vllm", "")
        assert (judge.base_url, judge.model) == ("http://127.0.0.1:8000/v1", "openai/gpt-oss-safeguard-20b")
        assert (judge.reasoning_effort, judge.max_tokens, judge.timeout_s) == ("low", 2048, 5.0)
        assert config.policies.input == ["prompt-injection", "illicit-harm", "pii"]
        assert config.policies.output == ["illicit-harm", "pii"]
        assert config.on_error.input == config.on_error.output == FailConfig(default=FailMode.CLOSED)
        streaming = config.streaming
        assert (streaming.window_chars, streaming.overlap_chars, streaming.max_held_chars) == (
            400,
            120,
            16384,
        )
        assert (config.cache.max_entries, config.cache.ttl_s) == (10000, 600.0)
        assert config.refusal.message == "I can't help with that."
        assert config.audit.sinks[0].content == "fingerprint"
        assert config.limits.max_concurrent_checks == 64

    def test_it_says_what_is_said_by_default_anyway(self, file: Path):
        example = load(file, EXAMPLE).model_dump()
        smallest = load(file, SMALLEST).model_dump()
        for key in ("server", "on_error", "streaming", "cache", "refusal", "limits"):
            assert example[key] == smallest[key], key

    def test_the_schema_for_editors_accepts_it_as_it_is_written(self):
        schema = Config.model_json_schema()
        json.dumps(schema)
        assert list(_faults(yaml.safe_load(EXAMPLE), schema, schema)) == []

    def test_the_schema_refuses_what_loading_refuses(self):
        schema = Config.model_json_schema()
        for key, value in (
            ("surprise", 1),
            ("server.port", 70000),
            ("unreadable", "maybe"),
            ("version", 2),
        ):
            assert list(_faults(yaml.safe_load(merged(key, value)), schema, schema)), key

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("upstream.kind", kind) for kind in ("openai", "litellm", "demo")),
            *(("classifier.kind", kind) for kind in ("judge", "litellm", "embedded")),
            *(("classifier.preset", preset) for preset in PRESETS),
            ("classifier.base_url", ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"]),
            ("classifier.fallback", {"preset": "groq", "api_key": "k"}),
            ("classifier.escalation", {"reasoning_effort": "high"}),
            ("classifier.hedge", {"quantile": 0.9}),
            ("classifier.prices", {"prompt": 0.1, "completion": 0.3}),
            ("on_error", {"policies": {"pii": {"output": "open"}}}),
            ("cache.redis_url", "redis://127.0.0.1:6379/0"),
            *(("history.blocked_turns", word) for word in ("drop", "block")),
            *(("input_check", word) for word in ("before", "beside")),
            ("metrics.enabled", False),
            ("classifier.reasoning_effort", "high"),
            ("on_error", {"input": {"default": "closed", "timeout": "open"}, "output": "open"}),
            ("streaming.release", "whole"),
            ("refusal.output.style", "error"),
            (
                "audit.sinks",
                [{"kind": "jsonl", "path": "a", "content": content} for content in ("none", "full")],
            ),
            # "Config keys besides the example"
            *(("unreadable", word) for word in ("block", "flag", "pass")),
            *(("strict", word) for word in (True, False)),
            ("paths.allow", ["/v1/embeddings", "/v1/files/*"]),
            *(("refusal.input.finish_reason", word) for word in ("content_filter", "stop")),
            ("refusal.output.status", 422),
            ("upstream", {"kind": "litellm", "litellm": {"api_base": "http://127.0.0.1:1"}}),
            ("trusted_roles", ["system"]),
        ],
    )
    def test_every_other_key_and_value_loads_too(self, file: Path, key: str, value: Any):
        config = load(file, merged(key, value)).model_dump(mode="json")
        assert key.split(".")[0] in config


class TestRefusals:
    @pytest.mark.parametrize(
        "key",
        [
            "surprise",
            "server.prot",
            "classifier.apikey",
            "on_error.inputs",
            "on_error.input.auth",
            "refusal.input.code",
        ],
    )
    def test_an_unknown_key_is_named_with_what_to_do(self, file: Path, key: str):
        message = refused(file, merged(key, SECRET))
        assert message == f"{key}: unknown key; remove it or check its spelling"

    def test_an_unknown_key_of_a_sink_is_named_with_its_place(self, file: Path):
        sinks = [{"kind": "jsonl", "path": "a"}, {"kind": "jsonl", "path": "b", "mode": SECRET}]
        assert refused(file, merged("audit.sinks", sinks)).startswith("audit.sinks.1.mode: unknown key")

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("version", 2),
            ("version", None),
            ("server.port", 65536),
            ("server.port", -1),
            ("server.port", SECRET),
            ("server.host", 7),
            ("upstream.kind", SECRET),
            ("upstream.base_url", SECRET),
            ("upstream.base_url", ""),
            ("upstream.api_key", [SECRET]),
            ("upstream.litellm", {"api_key": SECRET}),
            ("classifier.kind", SECRET),
            ("classifier.preset", SECRET),
            ("classifier.api_key", {"key": SECRET}),
            ("classifier.api_key", 12345),
            ("classifier.reasoning_effort", "none"),
            ("classifier.max_tokens", 255),
            ("classifier.max_tokens", 0.5),
            ("classifier.timeout_s", 0),
            ("classifier.timeout_s", -1),
            ("classifier.timeout_s", float("nan")),
            ("classifier.timeout_s", float("inf")),
            ("classifier.timeout_s", 3601),
            ("policies.directory", 7),
            ("policies.input", "pii"),
            ("policies.input", [7]),
            ("policies.input", ["pii", "pii"]),
            ("policies.output", ["pii", "secrets", "pii"]),
            ("policies.input", []),
            ("on_error", SECRET),
            ("on_error.input", SECRET),
            ("on_error.input", {"timeout": SECRET}),
            ("on_error.output", 7),
            ("streaming.release", "never"),
            ("streaming.window_chars", 0),
            ("streaming.window_chars", 49),
            ("streaming.overlap_chars", -1),
            ("streaming.max_held_chars", 10),
            ("streaming", {"window_chars": 900, "overlap_chars": 200, "max_held_chars": 1000}),
            ("cache.max_entries", -1),
            ("cache.ttl_s", 0),
            ("cache.ttl_s", float("nan")),
            ("refusal.message", ""),
            ("refusal.input.style", "shrug"),
            ("refusal.input.status", 200),
            ("refusal.output.status", 500),
            ("refusal.input.finish_reason", "length"),
            ("audit.sinks", {"kind": "jsonl"}),
            ("audit.sinks", [{"kind": "jsonl"}]),
            ("audit.sinks", [{"kind": "syslog", "path": "a"}]),
            ("audit.sinks", [{"kind": "jsonl", "path": "a", "content": SECRET}]),
            ("limits.max_body_bytes", 0),
            ("limits.max_concurrent_requests", 0),
            ("limits.max_concurrent_checks", -5),
            ("paths.allow", "/v1/files"),
            ("paths.allow", ["v1/files"]),
            ("unreadable", "redact"),
            ("strict", "perhaps"),
            ("trusted_roles", "system"),
        ],
    )
    def test_a_bad_value_is_one_message_with_its_key_and_without_the_value(
        self, file: Path, key: str, value: Any
    ):
        message = refused(file, merged(key, value))
        assert "\n" not in message
        assert message.startswith(key.split(".")[0])
        assert len(message) > len(key) + 10

    def test_several_findings_are_one_message(self, file: Path):
        message = refused(
            file, "version: 1\npolicies: {input: [pii]}\nserver: {port: x, prot: 1}\nstrict: maybe\n"
        )
        assert "\n" not in message
        for key in ("server.port: ", "server.prot: ", "strict: "):
            assert key in message

    @pytest.mark.parametrize("text", ["version: 1\n", "policies: {input: [pii]}\n"])
    def test_a_missing_key_is_named(self, file: Path, text: str):
        message = refused(file, text)
        assert "version" in message or "policies" in message

    @pytest.mark.parametrize("text", ["", "7", "- version: 1", SECRET, "null"])
    def test_a_file_that_is_no_mapping_is_told_how_to_begin(self, file: Path, text: str):
        assert refused(file, text) == "is no mapping; begin with 'version: 1'"

    @pytest.mark.parametrize(
        ("text", "key"),
        [
            (SMALLEST + "strict: true\nstrict: false\n", "strict"),
            ("version: 1\npolicies: {input: [pii], input: [secrets]}\n", "input"),
            (SMALLEST + "server: {port: 1, 'port': 2}\n", "port"),
        ],
    )
    def test_a_key_that_stands_twice_is_named_with_its_line(self, file: Path, text: str, key: str):
        message = refused(file, text)
        assert f"'{key}'" in message
        assert "twice" in message
        assert "line " in message
        assert "\n" not in message

    @pytest.mark.parametrize(
        "broken",
        [
            f'api_key: "{SECRET}',
            f"api_key: '{SECRET}\n",
            f"api_key: {SECRET}: x",
            f"api_key: {SECRET}\n\tx: 1",
            f'api_key: "\\q{SECRET}"',
            f"api_key: [{SECRET}",
            f"api_key: {{{SECRET}",
            f"api_key: *{SECRET}",
            f"api_key: !{SECRET} x",
            f"api_key: @{SECRET}",
            f"api_key: %{SECRET}",
            f"api_key: {SECRET}\x07",
            f"api_key: {{{{ {SECRET} }}}}",
            f"? {{{SECRET}: 1}}\n  : 2",
            f"api_key: x\n{SECRET}",
            "api_key: 2026-13-45",
            f"api_key: !!int {SECRET}",
        ],
    )
    def test_what_is_no_yaml_is_one_line_that_says_where_without_quoting_it(self, file: Path, broken: str):
        message = refused(file, f"{SMALLEST}classifier:\n  {broken}\n")
        assert "\n" not in message
        assert "line" in message

    def test_bytes_that_are_no_text_are_refused(self, file: Path):
        file.write_bytes(b"version: \xff\xfe")
        with pytest.raises(ConfigError, match=r"guardrail\.yaml: ") as caught:
            load_config(file)
        assert "\n" not in str(caught.value)

    def test_a_file_that_is_not_there_or_is_a_folder_is_named(self, tmp_path: Path):
        for path in (tmp_path / "nowhere.yaml", tmp_path):
            with pytest.raises(ConfigError) as caught:
                load_config(path)
            assert str(caught.value).startswith(f"{path}: cannot be read: ")


class TestVariables:
    def test_they_are_filled_in_everywhere(self, file: Path):
        text = (
            "version: 1\npolicies: {input: ['${ONE}', 'b-${TWO}-${ONE}']}\nserver: {port: '${PORT}'}\n"
            "upstream: {kind: openai, base_url: '${URL}/v1', api_key: '${KEY}'}\n"
        )
        config = load(file, text, ONE="x", TWO="y", URL="http://127.0.0.1:1", KEY=SECRET, PORT="99")
        assert config.policies.input == ["x", "b-y-x"]
        assert config.upstream is not None
        assert (config.upstream.base_url, config.upstream.api_key) == ("http://127.0.0.1:1/v1", SECRET)
        assert config.server.port == 99

    @pytest.mark.parametrize(
        ("written", "environ", "read"),
        [
            ("${NAME:-fallback}", {}, "fallback"),
            ("${NAME:-fallback}", {"NAME": "set"}, "set"),
            ("${NAME:-fallback}", {"NAME": ""}, "fallback"),
            ("${NAME:-}", {}, ""),
            ("${NAME:-a:-b}", {}, "a:-b"),
            ("${NAME:-http://127.0.0.1:1/v1}", {}, "http://127.0.0.1:1/v1"),
            ("${NAME}", {"NAME": ""}, ""),
            ("${NAME}", {"NAME": "${OTHER}"}, "${OTHER}"),
            ("$NAME ${} ${1} ${a-b}", {}, "$NAME ${} ${1} ${a-b}"),
        ],
    )
    def test_a_default_holds_where_the_variable_is_unset_or_empty(
        self, file: Path, written: str, environ: dict[str, str], read: str
    ):
        text = f"{SMALLEST}classifier: {{api_key: '{written}'}}\n"
        assert load(file, text, **environ).classifier.api_key == read

    @pytest.mark.parametrize(
        ("text", "key"),
        [
            ("classifier: {api_key: '${NOT_SET}'}", "classifier.api_key"),
            ("refusal: {message: 'a ${NOT_SET} b'}", "refusal.message"),
            ("audit: {sinks: [{kind: jsonl, path: '${NOT_SET}'}]}", "audit.sinks[0].path"),
        ],
    )
    def test_an_unset_one_is_one_message_with_key_name_and_remedy(self, file: Path, text: str, key: str):
        message = refused(file, SMALLEST + text)
        assert message == (
            f"{key}: the environment variable NOT_SET is not set; set it or write ${{NOT_SET:-default}}"
        )

    def test_a_bad_value_out_of_a_variable_is_not_quoted(self, file: Path):
        message = refused(file, SMALLEST + "server: {port: '${PORT}'}", PORT=SECRET)
        assert message.startswith("server.port: ")

    def test_without_a_mapping_the_environment_of_the_process_counts(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("GUARDRAIL_TEST_KEY", SECRET)
        file.write_text(SMALLEST + "classifier: {api_key: '${GUARDRAIL_TEST_KEY}'}")
        assert load_config(file).classifier.api_key == SECRET

    @given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])))
    def test_a_value_comes_through_unchanged_whatever_it_is(self, value: str):
        from guardrail.config.load import _interpolate

        assert _interpolate({"a": ["${X}"]}, {"X": value}, "") == {"a": [value]}


class TestPaths:
    def test_relative_ones_are_relative_to_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        folder = tmp_path / "etc"
        folder.mkdir()
        text = SMALLEST + "audit: {sinks: [{kind: jsonl, path: logs/a.jsonl}, {kind: jsonl, path: /var/b}]}"
        (folder / "guardrail.yaml").write_text(text)
        monkeypatch.chdir(tmp_path)
        config = load_config("etc/guardrail.yaml", {})
        assert config.policies.directory == folder / "policies"
        assert [sink.path for sink in config.audit.sinks] == [folder / "logs/a.jsonl", Path("/var/b")]
        assert config.policies.directory.is_absolute()

    @pytest.mark.parametrize(
        ("model", "expected"),
        [
            ("en_core_web_lg", "en_core_web_lg"),
            ("pipeline", "{folder}/pipeline"),
            ("./other", "{folder}/other"),
            ("models/en", "{folder}/models/en"),
            ("/var/models/en", "/var/models/en"),
        ],
    )
    def test_a_pipeline_is_a_package_unless_it_is_a_folder_beside_the_file(
        self, tmp_path: Path, model: str, expected: str
    ):
        (tmp_path / "pipeline").mkdir()
        file = tmp_path / "guardrail.yaml"
        file.write_text(SMALLEST + f"presidio: {{model: {model}}}\n")
        presidio = load_config(file, {}).presidio
        assert presidio is not None
        assert presidio.model == expected.format(folder=tmp_path)


class TestModels:
    def test_they_are_frozen(self, file: Path):
        config = load(file, SMALLEST)
        with pytest.raises(ValidationError):
            config.strict = True  # type: ignore[misc]

    def test_no_secret_shows_in_a_repr(self, file: Path):
        upstream = f"upstream: {{kind: litellm, api_key: {SECRET}, litellm: {{api_key: {SECRET}}}}}\n"
        config = load(file, f"{SMALLEST}{upstream}classifier: {{api_key: {SECRET}}}\n")
        assert SECRET not in f"{config!r}{config}"

    def test_the_classes_of_failure_that_are_named_are_the_ones_that_count(self):
        fail = FailConfig(timeout=FailMode.OPEN, internal=FailMode.CLOSED)
        assert fail.by_code() == {FailureCode.TIMEOUT: FailMode.OPEN, FailureCode.INTERNAL: FailMode.CLOSED}

    def test_every_class_of_failure_but_auth_can_be_named(self):
        assert set(FailConfig.model_fields) == {"default", *FailureCode} - {"auth"}


_KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def _faults(value: Any, schema: Any, root: Any, at: str = "$") -> Iterator[str]:
    """A small JSON Schema validator: the keywords that pydantic writes for our models."""
    if "$ref" in schema:
        schema = {**root["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
    if "anyOf" in schema and not any(not list(_faults(value, s, root, at)) for s in schema["anyOf"]):
        yield f"{at}: none of anyOf"
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        yield f"{at}: another value is expected"
    if "type" in schema and not isinstance(value, _KINDS[schema["type"]]):
        yield f"{at}: no {schema['type']}"
    if isinstance(value, int | float):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        if not low <= value <= high or value <= schema.get("exclusiveMinimum", value - 1):
            yield f"{at}: out of range"
    if isinstance(value, dict):
        yield from _faults_inside(value, schema, root, at)
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _faults(item, schema["items"], root, f"{at}[{index}]")


def _faults_inside(value: dict[str, Any], schema: Any, root: Any, at: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    if schema.get("additionalProperties") is False:
        yield from (f"{at}.{key}: unknown" for key in value.keys() - properties.keys())
    yield from (f"{at}.{key}: missing" for key in schema.get("required", ()) if key not in value)
    for key in value.keys() & properties.keys():
        yield from _faults(value[key], properties[key], root, f"{at}.{key}")
