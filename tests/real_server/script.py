"""What the tiny model says, as data: which token follows which, and the two things it remembers.

A real gpt-oss-safeguard writes a harmony transcript: it thinks in the channel ``analysis``, then
answers in the channel ``final``. The tiny model writes one such transcript, always the same, except
that the word ``TRIGGER`` anywhere before turns the verdict from safe to unsafe:

    <|channel|>analysis<|message|>Reading of this text concluded<|end|>
    <|start|>assistant<|channel|>final<|message|>{"violation":0,"label":"safe"}<|return|>

Knowing the current token is nearly enough to know the next one. Four tokens stand in two places or
lead to two answers; those are the forks, and a remembered flag decides there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

__all__ = ["ANALYSIS", "FORKS", "LABELS", "PIECES", "STEPS", "THOUGHT", "TRIGGER", "TRIGGERED", "Fork"]

TRIGGER: Final = "grenade"
"""The word that makes a text unsafe. One token of o200k_base when a space stands before it."""

LABELS: Final = ("safe", "unsafe")
ANALYSIS: Final = ("Reading", " of", " this", " text", " concluded")

TRIGGERED: Final = "triggered"  # the flag: TRIGGER was read, in whatever message
THOUGHT: Final = "thought"  # the flag: the analysis was written to its end
LAST_THOUGHT: Final = ANALYSIS[-1]


@dataclass(frozen=True, slots=True)
class Fork:
    """After ``at`` comes ``otherwise``, or ``then`` once ``flag`` is up."""

    at: str
    otherwise: str
    then: str
    flag: str


FORKS: Final = (
    Fork("<|channel|>", "analysis", "final", THOUGHT),
    Fork("<|message|>", ANALYSIS[0], '{"', THOUGHT),
    Fork('":', "0", "1", TRIGGERED),
    Fork('":"', *LABELS, TRIGGERED),
)


def _pairs(*tokens: str) -> list[tuple[str, str]]:
    return list(pairwise(tokens))


STEPS: Final = (
    # The prompt ends with <|start|>assistant. A vocabulary of bytes spells that out: its last token
    # is then the byte "t", in the vocabulary of gpt-oss it is "assistant".
    *_pairs("t", "<|channel|>"),
    *_pairs("<|start|>", "assistant", "<|channel|>"),
    *_pairs("analysis", "<|message|>"),
    *_pairs(*ANALYSIS, "<|end|>", "<|start|>"),
    *_pairs("final", "<|message|>"),
    *_pairs('{"', "vi", "olation", '":'),
    *_pairs("0", ',"', "label", '":"'),
    *_pairs("1", ',"'),
    *_pairs("safe", '"}', "<|return|>"),
    *_pairs("unsafe", '"}'),
)
"""Where no flag is asked: the token, and the one that always follows it."""

PIECES: Final = tuple(
    dict.fromkeys(
        token
        for step in (*STEPS, *((fork.otherwise, fork.then) for fork in FORKS))
        for token in step
        if len(token) > 1 and not token.startswith("<|")
    )
)
"""What the model says in one token each. All of them are single tokens of o200k_base too."""
