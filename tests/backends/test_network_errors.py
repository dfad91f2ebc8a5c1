"""The twin of guardrail/backends/network_errors.py: the tree as it is drawn."""

from __future__ import annotations

import inspect

from guardrail.backends import network_errors
from guardrail.backends.network_errors import NetworkError


def test_the_tree_is_the_one_that_is_drawn():
    classes = dict(inspect.getmembers(network_errors, inspect.isclass))
    drawn = [line.split()[:2] for line in (network_errors.__doc__ or "").splitlines() if "──" in line]
    assert {name for _, name in drawn} == {cls.__name__ for cls in NetworkError.__subclasses__()}
    assert classes.keys() == {"NetworkError", *(name for _, name in drawn)} == {*network_errors.__all__}


def test_none_is_caught_with_the_failures_of_the_system():
    assert NetworkError.__mro__ == (NetworkError, Exception, BaseException, object)
