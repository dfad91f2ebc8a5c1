"""How many requests are open at once, and how many may be."""

from __future__ import annotations

__all__ = ["Slots"]


class Slots:
    """How many requests may still be taken; shared by all who serve them."""

    __slots__ = ("_free",)

    def __init__(self, free: int) -> None:
        self._free = free

    def take(self) -> bool:
        """One slot, if any is free."""
        if not self._free:
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        """Give back a slot that was taken."""
        self._free += 1
