"""AuditSink: one JSON object a line in a file.

``record`` only appends to a queue; a thread writes. It wakes a few times a second at most, so a busy
server pays for one write per batch, not for one per decision.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Literal

import anyio
import orjson

from guardrail.core.record import DecisionRecord, to_json
from guardrail.errors import ConfigError

__all__ = ["JsonlSink"]

FLUSH_S: Final = 0.1
MAX_WAITING: Final = 100_000  # records; beyond that the oldest are dropped and counted

_log = logging.getLogger("guardrail.audit")


class JsonlSink:
    """Appends records to ``path``. ``content``: ``none``, ``fingerprint`` or ``full`` text.

    Raises ``ConfigError`` when the file cannot be opened. Records of the last 0.1 s are lost when the
    process is killed; ``aclose`` writes them all.
    """

    def __init__(self, path: Path, content: Literal["none", "fingerprint", "full"] = "fingerprint") -> None:
        try:
            self._file = path.open("ab")
        except OSError as error:
            raise ConfigError(
                f"audit.sinks: cannot write {path}: {error.strerror}; create its folder or change path"
            ) from None
        self._content = content
        self._waiting: deque[DecisionRecord] = deque(maxlen=MAX_WAITING)
        self._wake = threading.Event()
        self._stopping = False
        self._written: Future[None] = Future()  # all that there will be
        self._written.set_running_or_notify_cancel()  # so that none who waits for it can cancel it
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="guardrail-audit", daemon=True)
        self._thread.start()

    def record(self, record: DecisionRecord) -> None:
        """Queue one record."""
        if len(self._waiting) == MAX_WAITING:
            self.dropped += 1
        self._waiting.append(record)
        if not self._wake.is_set():
            self._wake.set()

    async def aclose(self) -> None:
        """Write what waits and close the file, in a scope that is cancelled too."""
        self._stopping = True
        self._wake.set()
        with anyio.CancelScope(shield=True):
            await asyncio.wrap_future(self._written)
        self._thread.join()  # it has nothing more to do
        try:
            self._file.close()
        except OSError as error:  # what the disk did not take is counted already
            _log.error("audit file: %s", error.strerror)

    def _run(self) -> None:
        pause = threading.Event()
        try:
            while not self._stopping:
                self._wake.wait()
                if not self._stopping:
                    pause.wait(FLUSH_S)
                self._wake.clear()
                self._write()
            self._write()
        finally:
            self._written.set_result(None)

    def _write(self) -> None:
        lines = []
        while self._waiting:
            lines.append(_line(to_json(self._waiting.popleft(), self._content)))
        if not lines:
            return
        try:
            self._file.write(b"\n".join(lines) + b"\n")
            self._file.flush()
        except OSError as error:
            self.dropped += len(lines)
            _log.error("audit file: %d records lost: %s", len(lines), error.strerror)


def _line(record: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(record)
    except TypeError:  # a lone surrogate, which UTF-8 cannot carry: as an escape
        return json.dumps(record).encode()
