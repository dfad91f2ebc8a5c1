"""The twin of guardrail/ports.py: whatever ships as a port's implementation has its shape."""

from __future__ import annotations

import inspect
from typing import get_type_hints

import pytest

from guardrail import ports
from guardrail.backends.audit_jsonl import JsonlSink
from guardrail.backends.embedded import EmbeddedClassifier
from guardrail.backends.judge import JudgeClassifier
from guardrail.backends.memory_cache import MemoryCache, MemoryHistory
from guardrail.backends.metrics import Metrics
from guardrail.backends.redis_cache import RedisCache, RedisHistory
from guardrail.engine.cascade import Cascade, WithEffort
from guardrail.engine.chunked import Chunked
from guardrail.engine.fallback import Fallback
from guardrail.engine.replicas import Replicas
from guardrail.ports import AuditSink, Classifier, HistoryCache, Observer, VerdictCache
from guardrail.testing import MemorySink, ScriptedClassifier

PORTS = (AuditSink, Classifier, HistoryCache, Observer, VerdictCache)
SHIPPED = [
    (Classifier, JudgeClassifier),
    (Classifier, EmbeddedClassifier),
    (Classifier, Cascade),
    (Classifier, Chunked),
    (Classifier, Fallback),
    (Classifier, Replicas),
    (Classifier, WithEffort),
    (Classifier, ScriptedClassifier),
    (VerdictCache, MemoryCache),
    (VerdictCache, RedisCache),
    (HistoryCache, MemoryHistory),
    (HistoryCache, RedisHistory),
    (AuditSink, Metrics),
    (Observer, Metrics),
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
        theirs = list(inspect.signature(own).parameters.values())
        asked = list(inspect.signature(wanted).parameters)  # type: ignore[arg-type]
        assert [parameter.name for parameter in theirs[: len(asked)]] == asked
        assert all(parameter.default is not parameter.empty for parameter in theirs[len(asked) :])
        assert get_type_hints(own).items() >= get_type_hints(wanted).items()
