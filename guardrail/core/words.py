"""Words, which are any texts, found in another text, in one pass however many they are and however alike.

This is the automaton of Aho and Corasick ("Efficient string matching", 1975), of the words read backwards:
run from a text's end to its start, it tells at each place the longest word that begins there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

__all__ = ["Words"]

_START: Final = 0


class Words:
    """Words to look for; more may come between two searches.

    Each search first takes in what is new, together with the automata that are not larger than that: so
    there are few of them, and no word is taken in often.
    """

    __slots__ = ("_automata", "_new")

    def __init__(self) -> None:
        self._new: list[str] = []
        self._automata: list[_Automaton] = []  # the largest first

    def add(self, word: str) -> None:
        """Look for this one too; it must not be empty."""
        self._new.append(word)

    def find(self, text: str) -> list[tuple[int, int]]:
        """Every place ``text[start:end]`` where a word stands, of those that begin there the longest."""
        if self._new:
            self._take_in()
        ends: dict[int, int] = {}
        for automaton in self._automata:
            for start, end in automaton.find(text):
                if end > ends.get(start, start):
                    ends[start] = end
        return list(ends.items())

    def _take_in(self) -> None:
        words, size = self._new, sum(map(len, self._new))
        while self._automata and self._automata[-1].size <= size:
            last = self._automata.pop()
            words, size = [*last.words, *words], last.size + size
        self._automata.append(_Automaton(words, size))
        self._new = []


class _Automaton:
    """A state stands for an end of a word, the longest with which what was read so far begins."""

    __slots__ = ("_longest", "_shorter", "_steps", "size", "words")

    def __init__(self, words: Sequence[str], size: int) -> None:
        self.words = words
        self.size = size  # of all words, in characters
        self._steps: dict[str, dict[int, int]] = {}  # character, state -> state
        self._shorter = [_START]  # state -> the next shorter one that fits as well
        self._longest = [0]  # state -> the length of the longest word that fits
        reached = [(word, _START) for word in words]
        depth = 0
        while reached:  # all words by one more character, because states refer to shorter ones
            depth += 1
            reached = [(word, self._extended(state, word[-depth])) for word, state in reached]
            for word, state in reached:
                if len(word) == depth:
                    self._longest[state] = depth
            reached = [(word, state) for word, state in reached if len(word) > depth]

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """From where to where the longest word stands at each place, the last place first."""
        state = _START
        for start in range(len(text) - 1, -1, -1):
            step = self._steps.get(text[start])
            state = _START if step is None else self._next(step, state)
            if self._longest[state]:
                yield start, start + self._longest[state]

    def _extended(self, state: int, character: str) -> int:
        step = self._steps.setdefault(character, {})
        known = step.get(state)
        if known is not None:
            return known
        shorter = self._next(step, self._shorter[state])
        made = step[state] = len(self._shorter)
        self._shorter.append(shorter)
        self._longest.append(self._longest[shorter])
        return made

    def _next(self, step: dict[int, int], state: int) -> int:
        while state != _START and state not in step:
            state = self._shorter[state]
        return step.get(state, _START)
