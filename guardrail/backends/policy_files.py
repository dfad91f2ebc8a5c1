"""Policies from files: ``policies/<id>/policy.md``, or OpenAI's and ROOST's ``policy.txt``.

The front matter decides, the body is what the judge reads, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from guardrail.core.policy import (
    Action,
    AnswerForm,
    Effort,
    LabelRule,
    Mode,
    Policy,
    PolicySet,
    Stage,
    Strategy,
)
from guardrail.errors import PolicyError

__all__ = ["describe", "load_policies", "load_policy", "load_yaml", "starter_policies"]

_FRONT: Final = re.compile(rb"(?:\xef\xbb\xbf)?---[ \t]*\r?\n(.*?\r?\n)---[ \t]*\r?\n", re.DOTALL)


def _action(value: object) -> object:
    if isinstance(value, str) and value.upper() in Action.__members__:
        return Action[value.upper()]
    raise ValueError("write flag, redact or block")  # numbers and YAML's yes are no actions


def _mode(value: object) -> object:
    return "off" if value is False else value  # YAML reads a bare off as false


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Label(_Strict):
    violation: bool
    action: Annotated[Action, BeforeValidator(_action)] = Action.PASS
    escalate: bool = False
    strategy: Strategy | None = None


class _FrontMatter(_Strict):
    id: str
    title: str = ""
    version: str = "0"
    stages: list[Stage] = list(Stage)
    labels: dict[str, _Label]
    answer: AnswerForm = AnswerForm.JSON
    reasoning_effort: Effort = Effort.LOW
    mode: Annotated[Mode, BeforeValidator(_mode)] = Mode.ENFORCE
    detectors: list[str] | dict[str, str] = {}
    phrases: dict[str, list[str]] = {}
    prefilter: list[str] = []
    cache_ttl_s: Annotated[float, Field(ge=0)] | None = None
    covers: list[str] | dict[str, list[str]] = {}
    refusal: str | dict[str, str] = {}


class _UniqueKeys(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; here that is an error."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError:  # such as the 30th of February
            raise yaml.constructor.ConstructorError(
                None, None, "a value is not possible", node.start_mark
            ) from None

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "a list or a mapping cannot be a key", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """Safe YAML without repeated keys. Raises ``yaml.YAMLError``."""
    return yaml.load(text, _UniqueKeys)  # noqa: S506 - a subclass of SafeLoader


def describe(error: ValidationError) -> str:
    """Pydantic's findings as ``key: what is wrong``, without the values (they may be secrets)."""
    found = []
    for item in error.errors(include_url=False, include_input=False):
        key = ".".join(str(step) for step in item["loc"]) or "the file"
        if item["type"] == "extra_forbidden":
            found.append(f"{key}: unknown key; remove it or check its spelling")
        else:
            found.append(f"{key}: {item['msg']}")
    return "; ".join(found)


def starter_policies() -> Path:
    """The directory of the starter policies: inside an installed package, at a checkout's top."""
    package = Path(__file__).parent.parent
    installed = package / "starter_policies"
    return installed if installed.is_dir() else package.parent / "policies"


def load_policies(directory: Path) -> PolicySet:
    """Every policy of a directory, by folder name. Raises ``PolicyError`` naming the file."""
    if not directory.is_dir():
        raise PolicyError(f"policies.directory: {directory} is no directory; create it or change it")
    files = sorted(
        next(file for name in ("policy.md", "policy.txt") if (file := folder / name).is_file())
        for folder in directory.iterdir()
        if any((folder / name).is_file() for name in ("policy.md", "policy.txt"))
    )
    if not files:
        raise PolicyError(f"policies.directory: {directory} holds no <id>/policy.md")
    policies = [load_policy(file) for file in files]
    try:
        return PolicySet(policies)
    except PolicyError as error:
        raise PolicyError(f"policies.directory: {directory}: {error}") from None


def load_policy(file: Path) -> Policy:
    """One policy. Raises ``PolicyError`` naming the file, the key and the remedy."""
    try:
        raw = file.read_bytes()
        name = file.parent.name
        return _plain(name, raw.decode()) if file.suffix == ".txt" else _with_front_matter(name, raw)
    except ValidationError as error:
        raise PolicyError(f"{file}: {describe(error)}") from None
    except PolicyError as error:
        raise PolicyError(f"{file}: {error}") from None
    except (UnicodeDecodeError, yaml.YAMLError, OSError) as error:
        raise PolicyError(f"{file}: cannot be read: {error}") from None


def _with_front_matter(name: str, raw: bytes) -> Policy:
    front = _FRONT.match(raw)
    if front is None:
        raise PolicyError("the front matter is missing; begin the file with '---'")
    matter = _FrontMatter.model_validate(load_yaml(front[1].decode()))
    if matter.id != name:
        raise PolicyError(f"id {matter.id!r} is not the name of its folder; rename one")
    return _policy(matter, raw[front.end() :].decode())


def _policy(matter: _FrontMatter, body: str) -> Policy:
    labels = {
        name: LabelRule(name, label.violation, label.action, label.escalate, label.strategy)
        for name, label in matter.labels.items()
    }
    strictest = max(
        (rule for rule in labels.values() if rule.violation),
        key=lambda rule: rule.action,
        default=None,
    )
    detectors = matter.detectors
    if isinstance(detectors, list):
        detectors = dict.fromkeys(detectors, strictest.label if strictest else "")
    return Policy(
        id=matter.id,
        body=body,
        labels=labels,
        title=matter.title,
        version=matter.version,
        stages=frozenset(matter.stages),
        answer=matter.answer,
        reasoning_effort=matter.reasoning_effort,
        mode=matter.mode,
        detectors=detectors,
        phrases=_phrases(matter.phrases),
        prefilter=frozenset(matter.prefilter),
        cache_ttl_s=matter.cache_ttl_s,
        covers=_covers(matter.covers, labels),
        refusal={"": matter.refusal} if isinstance(matter.refusal, str) else _refusal(matter.refusal),
    )


def _phrases(listed: dict[str, list[str]]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for label, patterns in listed.items():
        for pattern in patterns:
            if labels.setdefault(pattern, label) != label:
                raise PolicyError(
                    f"phrases: {pattern!r} stands under {labels[pattern]} and {label}; remove one"
                )
    return labels


def _covers(listed: list[str] | dict[str, list[str]], labels: dict[str, LabelRule]) -> dict[str, list[str]]:
    """A list holds for every label that is a violation."""
    if isinstance(listed, dict):
        return listed
    return {name: listed for name, rule in labels.items() if rule.violation} if listed else {}


def _refusal(texts: dict[str, str]) -> dict[str, str]:
    """Texts by language, as headers compare them; ``default`` is for all others."""
    return {"" if tag == "default" else tag.lower(): text for tag, text in texts.items()}


def _plain(policy_id: str, body: str) -> Policy:
    """OpenAI's and ROOST's layout: no front matter, the answer is VALID or INVALID."""
    labels = {
        "VALID": LabelRule("VALID", violation=False),
        "INVALID": LabelRule("INVALID", violation=True, action=Action.BLOCK),
    }
    return Policy(id=policy_id.lower(), body=body, labels=labels, title=policy_id, answer=AnswerForm.BINARY)
