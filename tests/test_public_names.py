"""The public names of the package: what the contract promises is there, and importing it is cheap.

This is the twin of ``guardrail/__init__.py``.
"""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys

import pytest

import guardrail
from guardrail.errors import GuardrailError

PROMISED = {
    "CompletionFilter",
    "Decision",
    "GuardrailEngine",
    "GuardrailMiddleware",
    "PolicyViolation",
    "PromptFilter",
}


def test_the_names_are_those_of_the_contract_and_sorted():
    assert set(guardrail.__all__) == PROMISED
    assert guardrail.__all__ == sorted(guardrail.__all__)
    for name in guardrail.__all__:
        assert inspect.isclass(getattr(guardrail, name)), name


def test_nothing_public_stands_beside_them_but_the_rooms():
    modules = {name for name, value in vars(guardrail).items() if inspect.ismodule(value)}
    assert {name for name in vars(guardrail) if not name.startswith("_")} - modules == PROMISED


@pytest.mark.parametrize("name", ["GuardrailMiddleware", "PromptFilter", "CompletionFilter"])
def test_each_door_can_be_built_from_a_configuration(name: str):
    assert inspect.ismethod(getattr(guardrail, name).from_config)


@pytest.mark.parametrize("name", ["PromptFilter", "CompletionFilter"])
def test_a_filter_has_every_call_that_is_promised(name: str):
    guard = getattr(guardrail, name)
    for call in ("__call__", "invoke", "check", "close", "__enter__", "__exit__"):
        assert not inspect.iscoroutinefunction(getattr(guard, call)), call
    for call in ("ainvoke", "acheck", "aclose", "__aenter__", "__aexit__"):
        assert inspect.iscoroutinefunction(getattr(guard, call)), call


def test_a_violation_is_an_error_of_ours_and_comes_from_a_decision():
    assert issubclass(guardrail.PolicyViolation, GuardrailError)
    assert callable(guardrail.Decision.raise_for_block)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("guardrail.testing", ["ScriptedClassifier", "MemorySink", "drive_asgi"]),
        ("guardrail.errors", ["GuardrailError", "ConfigError", "ClassifierError", "PolicyViolation"]),
    ],
)
def test_the_other_modules_of_the_contract_are_there(module: str, names: list[str]):
    found = importlib.import_module(module)
    assert [name for name in names if not hasattr(found, name)] == []


def _imported_by(statement: str) -> set[str]:
    """The top-level modules that one statement imports, in an interpreter of its own."""
    names = "sorted({m.split('.')[0] for m in sys.modules})"
    code = f"import sys, json; {statement}; print(json.dumps({names}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return set(json.loads(done.stdout))


def test_importing_the_package_imports_no_client_library():
    imported = _imported_by("import guardrail")
    assert "guardrail" in imported
    heavy = {"litellm", "openai", "aiohttp", "httpx", "redis", "uvicorn", "rich", "click", "langchain_core"}
    assert imported & heavy == set()


def test_importing_the_test_doubles_imports_none_either():
    imported = _imported_by("import guardrail.testing")
    assert imported & {"litellm", "openai", "aiohttp", "pytest"} == set()


def test_help_of_the_command_imports_no_command():
    imported = _imported_by("from guardrail.cli import cli; cli.get_help(__import__('click').Context(cli))")
    assert "guardrail" in imported
    assert imported & {"litellm"} == set()


def test_importing_the_package_writes_nothing_and_starts_nothing():
    code = "import threading, guardrail; print(threading.active_count())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
