"""The threads of this process, for tests that see to it that none of ours is left."""

from __future__ import annotations

import threading


def threads() -> set[threading.Thread]:
    """Those that run, less AnyIO's workers: a loop that ends asks them to stop and does not wait."""
    return {thread for thread in threading.enumerate() if thread.name != "AnyIO worker thread"}
