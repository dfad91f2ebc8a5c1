"""Control tokens of chat templates in text that has no business to hold them."""

from __future__ import annotations

from typing import Final

from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.folding import folded_spans
from guardrail.detectors.patterns import Patterns

__all__ = ["SPECIAL_TOKENS", "find_special_tokens"]

_LONGEST: Final = 64

# What NFKC leaves of the brackets, bars and underscores that pass for ASCII's (the full-width forms
# are ASCII after folding; U+2581 is the word separator of SentencePiece, which DeepSeek uses).
_OPEN: Final = r"[<‹〈⟨]\s?[|¦∣│ǀ❘]\s?"  # noqa: RUF001
_CLOSE: Final = r"\s?[|¦∣│ǀ❘]\s?[>›〉⟩]"  # noqa: RUF001
_NAMES: Final = (
    # harmony (OpenAI, "harmony response format"): gpt-oss and gpt-oss-safeguard.
    "start|end|message|channel|constrain|return|call"
    # ChatML, tiktoken's cl100k_base and o200k_base.
    "|im_start|im_end|im_sep|endoftext|endofprompt|startoftext|fim_prefix|fim_middle|fim_suffix"
    # Llama 3 and 4 (Meta's model cards, "prompt formats").
    "|begin_of_text|end_of_text|start_header_id|end_header_id|header_start|header_end|eot_id|eot"
    "|eom_id|eom|python_tag|finetune_right_pad_id"
    # Phi-3 and 4, Zephyr, Command R, DeepSeek, GLM.
    "|system|user|assistant|tool|observation|start_of_turn_token|end_of_turn_token|system_token"
    "|user_token|chatbot_token|begin_of_sentence|end_of_sentence"
)
_PATTERNS: Final = Patterns(
    [
        f"(?i){_OPEN}(?:{_NAMES.replace('_', '[_▁ ]')}){_CLOSE}",
        # Llama 2 and Mistral 7B. The bare <s> is HTML's strike-through: only where the template
        # has it, at the head of a line and before [INST], or between two turns.
        r"\[/?INST\]|<</?SYS>>|(?m:^)<s>\s{0,3}\[INST\]|</s>\s{0,3}<s>",
        # Mistral's later templates; Gemma.
        r"\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS)\]|<(?:start|end)_of_turn>",
    ]
)


def find_special_tokens(text: str) -> list[tuple[int, int]]:
    """Spans of control tokens and of what looks like one, such as ``<|start|>`` in full width."""
    return tidy(((start, end) for _, start, end in folded_spans(_PATTERNS, text)), _LONGEST)


SPECIAL_TOKENS: Final = Triggered(
    Detector("injection.special_tokens", find_special_tokens, _LONGEST),
    rf"{_OPEN}\w|\[/?INST\]|<</?SYS>>|</?s>|\[/?[A-Z]{{4,9}}_[A-Z]{{5,7}}\]|_of_turn>",
    folded=True,
)
