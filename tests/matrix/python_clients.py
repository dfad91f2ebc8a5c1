"""The Python SDKs of OpenAI and Anthropic, used as any app does; what they sent and got is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx
import httpx2
import openai

from tests.e2e.conftest import CALLER_KEY
from tests.matrix.cells import Play

KEY_HEADER = "x-cell"


@dataclass
class Exchange:
    """One HTTP request of a client's, and its answer, both as bytes."""

    sent: bytes
    headers: dict[str, str] = field(default_factory=dict)  # of the answer
    got: bytearray = field(default_factory=bytearray)


@dataclass
class Seen:
    """What a client's library gave to its user: objects, or an error; and what went over the wire."""

    objects: list[Any] = field(default_factory=list)
    status: int = 200
    error: Any = None
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        """Those of the answer that tell of the guard."""
        told = self.exchanges[-1].headers
        return {name: value for name, value in told.items() if name.startswith("x-guardrail-")}


Tape = dict[str, list[Exchange]]


def recording(http: Any, tape: Tape) -> Any:
    """A client of httpx or httpx2 (the SDKs use one each) that keeps what it sends and gets."""

    class Kept(http.SyncByteStream):  # type: ignore[misc]  # a class of a library that is only known at run time
        def __init__(self, stream: Any, exchange: Exchange) -> None:
            self._stream = stream
            self._exchange = exchange

        def __iter__(self) -> Iterator[bytes]:
            for part in self._stream:
                self._exchange.got += part
                yield part

        def close(self) -> None:
            self._stream.close()

    class Recording(http.HTTPTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            exchange = Exchange(request.read())
            tape.setdefault(request.headers[KEY_HEADER], []).append(exchange)
            response = super().handle_request(request)
            exchange.headers.update(response.headers)
            response.stream = Kept(response.stream, exchange)
            return response

    return http.Client(transport=Recording(limits=http.Limits(max_connections=None)), timeout=60)


class PythonClients:
    """The SDKs, with their own retries, each on every proxy."""

    def __init__(self, roots: Mapping[str, str]) -> None:
        self._tape: Tape = {}
        self._closing = ExitStack()
        self._openai: dict[str, openai.OpenAI] = {}
        self._anthropic: dict[str, anthropic.Anthropic] = {}
        for name, root in roots.items():
            http = self._closing.enter_context(recording(httpx, self._tape))
            self._openai[name] = openai.OpenAI(base_url=f"{root}/v1", api_key=CALLER_KEY, http_client=http)
            http2 = self._closing.enter_context(recording(httpx2, self._tape))
            self._anthropic[name] = anthropic.Anthropic(
                base_url=root, api_key=CALLER_KEY, http_client=http2
            )

    def close(self) -> None:
        self._closing.close()

    def play(self, plays: Mapping[Play, tuple[str, dict[str, Any]]]) -> dict[Play, Seen]:
        """Play these with the proxy and the request named, several at a time."""
        with ThreadPoolExecutor(8) as pool:
            seen = pool.map(lambda one: self._one(one, *plays[one]), plays)
            return dict(zip(plays, seen, strict=True))

    def _one(self, play: Play, proxy: str, request: dict[str, Any]) -> Seen:
        seen = Seen()
        more = {**request, "extra_headers": {KEY_HEADER: play.key}}
        try:
            if play.client == "anthropic-python":
                self._ask_anthropic(play, self._anthropic[proxy], more, seen)
            else:
                self._ask_openai(play, self._openai[proxy], more, seen)
        except (openai.APIStatusError, anthropic.APIStatusError) as error:
            seen.status, seen.error = error.status_code, error.body
        except (openai.APIError, anthropic.APIError) as error:
            seen.status, seen.error = 0, error.body or repr(error)
        seen.exchanges = self._tape[play.key]
        return seen

    def _ask_openai(self, play: Play, sdk: openai.OpenAI, request: dict[str, Any], seen: Seen) -> None:
        resource: Any = sdk
        for name in play.cell.dialect.split("."):
            resource = getattr(resource, name)
        if play.cell.streaming:
            request = {**request, "stream": True}
        made = resource.create(**request)
        for one in made if play.cell.streaming else [made]:
            seen.objects.append(one.to_dict())

    def _ask_anthropic(
        self, play: Play, sdk: anthropic.Anthropic, request: dict[str, Any], seen: Seen
    ) -> None:
        if play.cell.streaming:
            with sdk.messages.stream(**request) as events:
                seen.objects.append(events.get_final_message().to_dict())
            return
        counting = play.cell.dialect == "messages.count_tokens"
        made: Any = (sdk.messages.count_tokens if counting else sdk.messages.create)(**request)
        seen.objects.append(made.to_dict())
