"""Writes the tiny model as a GGUF file of under a megabyte, which llama.cpp runs like any gpt-oss.

    python -m tests.real_server.tiny_gpt_oss tiny.gguf

What it says is laid down in ``script``, how weights make it say so in ``weights``; here are its
vocabulary, its chat template and the file. Nothing is trained, drawn at random or downloaded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.real_server.script import PIECES, TRIGGER
from tests.real_server.weights import SHAPE, Shape, Weights, hand_made

if TYPE_CHECKING:
    from gguf import GGUFWriter

__all__ = ["CHAT_TEMPLATE", "LONG_RUNS", "SPECIALS", "Vocabulary", "spell", "write_gguf"]

SPECIALS: Final = (
    "<|endoftext|>",
    "<|return|>",
    "<|constrain|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|call|>",
)

# The frame of a harmony prompt as the template of gpt-oss builds it: the reasoning effort stands in the
# system message and thus before the policy, the first system (or developer) message is the developer's,
# later ones are dropped without a word. The date is fixed, so that no test depends on the day.
CHAT_TEMPLATE: Final = """\
{%- set effort = reasoning_effort if reasoning_effort is defined and reasoning_effort else "medium" -%}
{{- "<|start|>system<|message|>You are a tiny model with one thing to say.\\n" -}}
{{- "Current date: 2026-01-01\\n\\nReasoning: " + effort + "\\n\\n" -}}
{{- "# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>" -}}
{%- for message in messages -%}
  {%- if message.role in ("system", "developer") -%}
    {%- if loop.first -%}
      {{- "<|start|>developer<|message|># Instructions\\n\\n" + message.content + "\\n\\n<|end|>" -}}
    {%- endif -%}
  {%- elif message.role == "assistant" -%}
    {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|end|>" -}}
  {%- else -%}
    {{- "<|start|>" + message.role + "<|message|>" + message.content + "<|end|>" -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|start|>assistant" -}}{%- endif -%}
"""

# Characters of which up to 64 in a row are one token. The vocabulary of gpt-oss has such tokens for
# spaces and many signs; with them, tests of endless runs need no endless context.
LONG_RUNS: Final = ("x", " ", "!", "/", "\n", "\x1c", "\u0301", "\u200b", "漢", "😀")
DOUBLINGS: Final = 6

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # GGUF's token types


def _byte_letters() -> tuple[str, ...]:
    """GPT-2's alphabet: each byte as one printable letter, the unprintable ones moved up from 256."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(256, 512))
    return tuple(chr(byte if byte in printable else next(moved)) for byte in range(256))


_LETTERS: Final = _byte_letters()


def spell(text: str | bytes) -> str:
    """``text`` as a byte-level BPE vocabulary writes it down."""
    raw = text.encode() if isinstance(text, str) else text
    return "".join(_LETTERS[byte] for byte in raw)


def _merges() -> Iterator[tuple[str, str]]:
    """First the bytes of each character of ``LONG_RUNS``, then one with one, two with two, and so on."""
    for character in LONG_RUNS:
        letters = spell(character)
        for end in range(1, len(letters)):
            yield letters[:end], letters[end]
        for doubling in range(DOUBLINGS):
            half = letters * 2**doubling
            yield half, half


class Vocabulary:
    """Single bytes, long runs, harmony's control tokens, the trigger, and the pieces the model says.

    A prompt is read byte by byte, as there are no merges for anything but runs. So the pieces occur in
    what the model says and never in what it reads, and no prompt can raise a flag that looks for one.
    The trigger is a user-defined token: the tokenizer finds it whole, anywhere in a text.
    """

    def __init__(self) -> None:
        merges = list(_merges())
        self.merges = [f"{left} {right}" for left, right in merges]
        typed = [(letter, NORMAL) for letter in _LETTERS]
        typed += [(left + right, NORMAL) for left, right in merges]
        typed += [(special, CONTROL) for special in SPECIALS]
        typed += [(spell(piece), NORMAL) for piece in PIECES]
        typed.append((TRIGGER, USER_DEFINED))
        self.tokens = [token for token, _ in typed]
        self.types = [kind for _, kind in typed]
        self._ids = {token: number for number, token in enumerate(self.tokens)}

    def id(self, text: str) -> int:
        """The row of a token, given as plain text."""
        return self._ids[text if text in SPECIALS or text == TRIGGER else spell(text)]


def write_gguf(path: Path) -> None:
    """Write the model to ``path``."""
    vocabulary = Vocabulary()
    _write(path, vocabulary, hand_made(vocabulary.id, len(vocabulary.tokens)), SHAPE)


def _write(path: Path, vocabulary: Vocabulary, weights: Weights, shape: Shape) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "gpt-oss")
    writer.add_name("tiny-gpt-oss")
    _add_shape(writer, shape)
    _add_vocabulary(writer, vocabulary)
    for name, tensor in weights.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: GGUFWriter, shape: Shape) -> None:
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_sliding_window(shape.window)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_feed_forward_length(shape.expert_width)
    writer.add_expert_feed_forward_length(shape.expert_width)
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.experts_used)


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-4o")  # the pre-tokenizer of gpt-oss, with the bug of long runs
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.id("<|start|>"))
    writer.add_eos_token_id(vocabulary.id("<|return|>"))
    writer.add_pad_token_id(vocabulary.id("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


if __name__ == "__main__":
    write_gguf(Path(sys.argv[1]))
