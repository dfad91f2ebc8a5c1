"""The twin of guardrail/ports.py: whatever ships as a port's implementation has its shape."""

from __future__ import annotations

import inspect
from typing import get_type_hints

import pytest

from guardrail import ports
from guardrail.backends.audit_jsonl import JsonlSink
from guardrail.backends.embedded import EmbeddedClassifier
from guardrail.backends.judge import JudgeClassifier
from guardrail.backends.memory_cache import MemoryCache
from guardrail.engine.cascade import Cascade
from guardrail.ports import AuditSink, Classifier, VerdictCache
from guardrail.testing import MemorySink, ScriptedClassifier

PORTS = (AuditSink, Classifier, VerdictCache)
SHIPPED = [
    (Classifier, JudgeClassifier),
    (Classifier, EmbeddedClassifier),
    (Classifier, Cascade),
    (Classifier, ScriptedClassifier),
    (VerdictCache, MemoryCache),
    (AuditSink, JsonlSink),
    (AuditSink, MemorySink),
]


def methods(port: type) -> dict[str, object]:
    return {
        name: thing for name, thing in vars(port).items() if not name.startswith("_") and callable(thing)
    }


def test_these_are_all_the_ports():
    assert set(ports.__all__) == {port.__name__ for port in PORTS}


@pytest.mark.parametrize("port", PORTS)
def test_a_port_is_small(port: type):
    assert 1 <= len(methods(port)) <= 3


@pytest.mark.parametrize(("port", "shipped"), SHIPPED, ids=lambda cls: cls.__name__)
def test_an_implementation_has_the_ports_methods_parameters_and_types(port: type, shipped: type):
    for name, wanted in methods(port).items():
        own = getattr(shipped, name)
        assert inspect.iscoroutinefunction(own) is inspect.iscoroutinefunction(wanted)
        assert list(inspect.signature(own).parameters) == list(inspect.signature(wanted).parameters)  # type: ignore[arg-type]
        assert get_type_hints(own) == get_type_hints(wanted)
