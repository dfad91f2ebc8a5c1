"""The weights of the tiny model, set by hand so that it says what ``script`` lays down.

The architecture is gpt-oss: RMS norms, attention with a sink per head, rotary positions, a sliding
window in every other layer, a mixture of experts. Most of it stays zero, and a layer of zeros adds
nothing to the residual. What is left, for a token at any place:

1. Embedding. Slot 0 of the residual is always 1, and each token of the script has a slot of its own
   that says "this token is here". A token the script does not name is only the constant.
2. Attention, last layer, one head for each flag. A head looks back for one token. Its query is a
   bias, thus the same everywhere; its key is the slot of that token. A hit scores ``HIT``, anything
   else 0, and the sink ``SINK`` lies between: without a hit the sink takes all the weight and the
   head writes 0, with one or more hits they take it and the head writes 1 into the flag's slot.
3. Output. Each row of the output matrix is the score of one next token: ``SURE`` if the slot of its
   predecessor is up. At a fork both candidates have such a row; the flag lifts the second one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.real_server.script import FORKS, LAST_THOUGHT, STEPS, THOUGHT, TRIGGER, TRIGGERED

__all__ = ["SHAPE", "Shape", "Weights", "hand_made"]

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the model. The heads that read stand in the last layer, whose window is unlimited."""

    width: int = 64
    layers: int = 2
    heads: int = 2
    head_size: int = 64
    experts: int = 2
    experts_used: int = 1
    expert_width: int = 32
    window: int = 128
    context: int = 131_072
    # So large that the slowest pair of rotary dimensions stands still over the whole context: what a
    # head looks for is then found at any distance.
    rope_base: float = 1e12


SHAPE: Final = Shape()

CONSTANT: Final = 0  # the slot that is 1 for every token
FLAG_SLOTS: Final = {TRIGGERED: 1, THOUGHT: 2}
FIRST_TOKEN_SLOT: Final = 3

HIT: Final = 60.0
SINK: Final = 30.0  # exp(30) outweighs a hundred thousand scores of exp(0), exp(60) outweighs exp(30)

SURE: Final = 30.0
BEHIND: Final = 10.0  # by how much the second candidate of a fork loses without the flag
LIFT: Final = 20.0  # what the flag adds: more than BEHIND, less than SURE, so that it decides forks only

# Where a grammar forbids what the script wants to say next, every other token would score 0 alike and
# a constrained answer could go on for ever. So what ends a string, an object or a header is liked best.
LIKED: Final = {
    '"': 3.0,
    "}": 2.5,
    "]": 2.4,
    ",": 2.2,
    ":": 2.1,
    "0": 1.5,
    " ": -1.0,
    "\n": -2.0,
    "\\": -3.0,
}


def hand_made(token_id: Callable[[str], int], vocabulary: int, shape: Shape = SHAPE) -> Weights:
    """All tensors by their GGUF names. ``token_id`` maps a token's text to its row."""
    weights = _zeros(vocabulary, shape)
    slots = _slots()
    if FIRST_TOKEN_SLOT + len(slots) > shape.width:
        raise ValueError("the script has more tokens than the residual has slots")
    embedding = weights["token_embd.weight"]
    embedding[:, CONSTANT] = 1.0
    for token, slot in slots.items():
        embedding[token_id(token), slot] = 1.0
    _look_back_for(weights, shape, 0, slots[TRIGGER], FLAG_SLOTS[TRIGGERED])
    _look_back_for(weights, shape, 1, slots[LAST_THOUGHT], FLAG_SLOTS[THOUGHT])
    _speak(weights["output.weight"], token_id, slots)
    return weights


def _slots() -> dict[str, int]:
    """A slot of the residual for each token that something depends on."""
    tokens = [*(token for token, _ in STEPS), *(fork.at for fork in FORKS), TRIGGER, LAST_THOUGHT]
    return {token: FIRST_TOKEN_SLOT + i for i, token in enumerate(dict.fromkeys(tokens))}


def _look_back_for(weights: Weights, shape: Shape, head: int, token_slot: int, flag_slot: int) -> None:
    """Make ``head`` of the last layer write 1 into ``flag_slot`` if the token was read before."""
    layer = f"blk.{shape.layers - 1}."
    start = head * shape.head_size
    still = start + shape.head_size // 2 - 1  # of the rotary pair that turns slowest
    # The norm before attention divides by the root mean square. Where the token is found, two slots
    # (the constant and the token's own) are 1, so that each becomes sqrt(width / 2).
    normed = sqrt(shape.width / 2)
    weights[layer + "attn_q.bias"][still] = 1.0
    weights[layer + "attn_k.weight"][still, token_slot] = HIT * sqrt(shape.head_size) / normed
    weights[layer + "attn_v.weight"][start, CONSTANT] = 1.0 / normed
    weights[layer + "attn_output.weight"][flag_slot, start] = 1.0
    weights[layer + "attn_sinks.weight"][head] = SINK


def _speak(output: NDArray[np.float32], token_id: Callable[[str], int], slots: dict[str, int]) -> None:
    """Fill the rows that score the next token."""
    for token, liking in LIKED.items():
        output[token_id(token), CONSTANT] = liking
    for token, following in STEPS:
        output[token_id(following), slots[token]] = SURE
    for fork in FORKS:
        output[token_id(fork.otherwise), slots[fork.at]] = SURE
        output[token_id(fork.then), slots[fork.at]] = SURE - BEHIND
        output[token_id(fork.then), FLAG_SLOTS[fork.flag]] = LIFT


def _zeros(vocabulary: int, shape: Shape) -> Weights:
    """Every tensor of the architecture; norms are 1 (they only scale), all else is 0."""
    width, inner = shape.width, shape.heads * shape.head_size
    experts, expert_width = shape.experts, shape.expert_width
    sizes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, width),
        "output.weight": (vocabulary, width),
    }
    for layer in (f"blk.{number}." for number in range(shape.layers)):
        for name in ("attn_q", "attn_k", "attn_v"):
            sizes |= {f"{layer}{name}.weight": (inner, width), f"{layer}{name}.bias": (inner,)}
        sizes |= {layer + "attn_output.weight": (width, inner), layer + "attn_output.bias": (width,)}
        sizes |= {layer + "attn_sinks.weight": (shape.heads,)}
        sizes |= {layer + "ffn_gate_inp.weight": (experts, width), layer + "ffn_gate_inp.bias": (experts,)}
        for name in ("ffn_gate_exps", "ffn_up_exps"):
            sizes |= {f"{layer}{name}.weight": (experts, expert_width, width)}
            sizes |= {f"{layer}{name}.bias": (experts, expert_width)}
        sizes |= {layer + "ffn_down_exps.weight": (experts, width, expert_width)}
        sizes |= {layer + "ffn_down_exps.bias": (experts, width)}
    weights = {name: np.zeros(size, np.float32) for name, size in sizes.items()}
    norms = ["output_norm"]
    norms += [
        f"blk.{n}.{name}" for n in range(shape.layers) for name in ("attn_norm", "post_attention_norm")
    ]
    return weights | {f"{name}.weight": np.ones(width, np.float32) for name in norms}
