"""The twin of guardrail/backends/litellm_library.py."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_without_litellm_the_message_names_the_remedy():
    """In a process of its own, where the import is made to fail whether it is installed or not."""
    code = (
        "import sys; sys.modules['litellm'] = None\n"
        "from guardrail.errors import ConfigError\n"
        "try:\n    import guardrail.backends.litellm\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'guardrail[litellm]'" in told.stdout, told.stderr


def test_with_it_nothing_is_fetched_and_nothing_printed():
    """LiteLLM asks for its price list while it is imported, unless it is told that it has one."""
    code = (
        "import socket\n"
        "def refuse(*_, **__): raise AssertionError('the network was asked')\n"
        "socket.getaddrinfo = socket.create_connection = refuse\n"
        "from guardrail.backends.litellm_library import litellm\n"
        "assert litellm.suppress_debug_info is True\n"
    )
    told = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, timeout=120)
    if b"pip install" in told.stderr:
        pytest.skip("the extra guardrail[litellm] is not installed")
    assert (told.returncode, told.stdout) == (0, b""), told.stderr
