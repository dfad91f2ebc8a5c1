"""What of a streamed response has left, and the events that close it where it ends before its time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from guardrail.core.conversation import Address
from guardrail.wire.chat_chunks import index_of
from guardrail.wire.responses_edits import agreed
from guardrail.wire.responses_events import ADDING, ANNOTATED, CLOSING, PARTS_OF, WHOLES

__all__ = ["Sent", "Text"]

_MIDDLE_OF: Final = {adding.part: middle for middle, adding in ADDING.items() if adding.part}
_SAID: Final = frozenset({"message", "reasoning"})
# Items that know no state "incomplete".
_FAIL: Final = frozenset({"web_search_call", "image_generation_call"})


class Text:
    """One text as it left. ``same``: up to where it is what had come; None where all of it is."""

    __slots__ = ("_came", "_parts", "same")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._came = 0
        self.same: int | None = None

    def add(self, piece: str, new: str) -> None:
        """A piece of it left as ``new``."""
        if new != piece and self.same is None:
            self.same = self._came + agreed(piece, new)
        self._came += len(piece)
        self._parts.append(new)

    def restart(self) -> None:
        """It is said anew, as another one."""
        self._parts, self._came, self.same = [], 0, None

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._parts)


class Sent:
    """The response, its items and their parts as they left.

    ``texts`` are told apart by their place (see ``guardrail.wire.responses_events``).
    """

    def __init__(self) -> None:
        self.response: dict[str, Any] | None = None
        self.texts: dict[Address, Text] = {}
        self._items: dict[int, dict[str, Any]] = {}
        self._parts: dict[Address, dict[str, Any]] = {}
        self._closed: set[Address] = set()  # places of items, parts and texts that are done

    @property
    def next_index(self) -> int:
        """The place of a new item behind all others."""
        return max(self._items, default=-1) + 1

    def note(self, kind: str, body: dict[str, Any]) -> None:
        """An event of this type left as ``body``."""
        head, _, end = kind.rpartition(".")
        at = index_of(body, "output_index")
        if kind in WHOLES:
            self.response = body.get("response") or self.response
        elif head == "response.output_item" and isinstance(item := body.get("item"), dict):
            self._items[at] = item
            self._close((at,), end)
        elif head in CLOSING and end in ("added", "done") and isinstance(part := body.get("part"), dict):
            place: Address = (at, PARTS_OF[CLOSING[head]], index_of(body, CLOSING[head]))
            self._parts[place] = part
            self._close(place, end)
        elif kind == ANNOTATED:
            part = self._part(body, "output_text")
            part["annotations"] = [*(part.get("annotations") or ()), body.get("annotation")]
        elif (middle := head.removeprefix("response.")) in ADDING and end in ("delta", "done"):
            adding = ADDING[middle]
            place = (at,)
            if adding.numbered:
                self._part(body, middle)
                place = (at, adding.parts, index_of(body, adding.numbered))
            elif at not in self._items:
                self._items[at] = {"id": body.get("item_id"), "type": adding.item}
            self._close((*place, adding.key), end)

    def _close(self, place: Address, end: str) -> None:
        if end == "done":
            self._closed.add(place)

    def _part(self, body: dict[str, Any], middle: str) -> dict[str, Any]:
        """The part that an event tells of, with its item; some servers do not send what begins them."""
        adding = ADDING[middle]
        at = index_of(body, "output_index")
        item: dict[str, Any] = {"id": body.get("item_id"), "type": adding.item, adding.parts: []}
        if adding.item == "message":
            item["role"] = "assistant"
        self._items.setdefault(at, item)
        place = (at, adding.parts, index_of(body, adding.numbered))
        return self._parts.setdefault(place, {"type": adding.part, adding.key: ""})

    def close(self, status: str, *, parsed: bool) -> Iterator[dict[str, Any]]:
        """The events that close what is open; messages and reasoning are in the state ``status`` then.

        ``parsed``: clients parse every text that is done. So a message that broke off has none in the end.
        """
        for at in sorted(self._items):
            if (at,) in self._closed:
                continue
            item = {**self._items[at]}
            where = {"output_index": at, "item_id": item.get("id")}
            for place in sorted(place for place in self._parts if place[0] == at):
                part = self._said(place)
                parts = str(place[1])
                item[parts] = [*(item.get(parts) or ())[: int(place[2])], part]
                if place not in self._closed:
                    yield from self._close_part(place, part, where, parsed=parsed)
            for middle, adding in ADDING.items():
                text = self.texts.get((at, adding.key))
                if not adding.numbered and adding.item == item.get("type") and text is not None:
                    item[adding.key] = text.text
                    if (at, adding.key) not in self._closed:
                        named = {"name": item.get("name")} if adding.item == "function_call" else {}
                        yield {"type": f"response.{middle}.done", **where, **named, adding.key: text.text}
            kind = str(item.get("type"))
            item["status"] = status if kind in _SAID else "incomplete"
            if kind in _FAIL:
                item["status"] = "failed"
            if parsed and item.get("type") == "message":
                item["content"] = []
            self._items[at] = item
            self._closed.add((at,))
            yield {"type": "response.output_item.done", "output_index": at, "item": item}

    @property
    def output(self) -> list[dict[str, Any]]:
        """All items; to be asked when they are closed."""
        return [self._items[at] for at in sorted(self._items)]

    def _said(self, place: Address) -> dict[str, Any]:
        """A part with the text that left in it."""
        part = self._parts[place]
        middle = _MIDDLE_OF.get(str(part.get("type")))
        if middle is None or place in self._closed:
            return part
        key = ADDING[middle].key
        text = self.texts.get((*place, key))
        return part if text is None else {**part, key: text.text}

    def _close_part(
        self, place: Address, part: dict[str, Any], where: dict[str, Any], *, parsed: bool
    ) -> Iterator[dict[str, Any]]:
        index = "summary_index" if place[1] == "summary" else "content_index"
        where = {**where, index: place[2]}
        middle = _MIDDLE_OF.get(str(part.get("type")))
        if middle and (*place, ADDING[middle].key) not in self._closed:
            key = ADDING[middle].key
            spelled: dict[str, Any] = {"logprobs": []} if middle == "output_text" else {}
            if not (parsed and spelled):
                yield {"type": f"response.{middle}.done", **where, key: part.get(key, ""), **spelled}
        name = "reasoning_summary_part" if index == "summary_index" else "content_part"
        yield {"type": f"response.{name}.done", **where, "part": part}
