"""Reads ``guardrail.yaml``: interpolation, validation, and messages that name file, key and remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from guardrail.backends.policy_files import describe, load_yaml
from guardrail.config.presidio import PresidioConfig
from guardrail.config.sections import Config
from guardrail.errors import ConfigError

__all__ = ["load_config"]

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_QUOTED: Final = re.compile(r" '(?!<)[^']{2,}'")


def load_config(path: str | Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read, interpolate and validate one file; relative paths in it are relative to it.

    Raises ``ConfigError`` that names the file, the key and the remedy, never a value.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        value = load_yaml(text)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: is no UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: is no YAML: {_found(error, text)}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{file}: is no mapping; begin with 'version: 1'")
    variables = os.environ if environ is None else environ
    try:
        config = Config.model_validate(_interpolate(value, variables, ""))
    except _Unset as error:
        raise ConfigError(
            f"{file}: {error.key}: the environment variable {error.name} is not set; "
            f"set it or write ${{{error.name}:-default}}"
        ) from None
    except ValidationError as error:
        raise ConfigError(f"{file}: {describe(error)}") from None
    config = _anchored(config, file.resolve().parent)
    config._file = file  # noqa: SLF001 - no key of the file
    return config


def _found(error: yaml.YAMLError, text: str) -> str:
    """PyYAML's finding and its line, without the piece of the file that it quotes (it may be a secret)."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"line {text.count(chr(10), 0, error.position) + 1}: {error.reason}"
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return type(error).__name__
    mark, problem = error.problem_mark, error.problem or ""
    if "stands twice" not in problem:  # our own finding names a key; PyYAML's may quote an alias or a tag
        problem = _QUOTED.sub("", problem)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


class _Unset(Exception):
    def __init__(self, key: str, name: str) -> None:
        self.key = key
        self.name = name


def _interpolate(value: Any, variables: Mapping[str, str], key: str) -> Any:
    if isinstance(value, dict):
        return {k: _interpolate(v, variables, f"{key}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list):
        return [_interpolate(v, variables, f"{key}[{i}]") for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        found = variables.get(match[1])
        if found or match[2] is None:
            if found is None:
                raise _Unset(key, match[1])
            return found
        return match[2]

    return _VARIABLE.sub(replace, value)


def _anchored(config: Config, folder: Path) -> Config:
    policies = config.policies.model_copy(update={"directory": folder / config.policies.directory})
    sinks = [s.model_copy(update={"path": folder / s.path}) for s in config.audit.sinks]
    audit = config.audit.model_copy(update={"sinks": sinks})
    presidio = _with_folder(config.presidio, folder) if config.presidio else None
    return config.model_copy(update={"policies": policies, "audit": audit, "presidio": presidio})


def _with_folder(config: PresidioConfig, folder: Path) -> PresidioConfig:
    """A name stays a name, unless it is that of a folder beside the file."""
    path = folder / config.model
    named = config.model.isidentifier() and not path.is_dir()
    return config if named else config.model_copy(update={"model": str(path)})
