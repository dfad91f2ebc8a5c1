"""Writes the tiny model as a Hugging Face folder, which vLLM serves; see vllm.md.

    python -m tests.real_server.hf_folder FOLDER o200k_base.tiktoken

vLLM renders the prompts of a gpt-oss with the openai-harmony library, whose token ids are those of
o200k_harmony. So this form of the model has that vocabulary of 201,088 tokens instead of bytes, and
about 100 MB. It needs numpy and safetensors, which come with vLLM.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.real_server.script import TRIGGER
from tests.real_server.tiny_gpt_oss import CHAT_TEMPLATE, spell
from tests.real_server.weights import SHAPE, Shape, Weights, hand_made

__all__ = ["write_folder"]

VOCABULARY: Final = 201_088
# github.com/openai/harmony, src/tiktoken_ext: o200k_harmony's control tokens.
CONTROL: Final = {
    "<|startoftext|>": 199_998,
    "<|endoftext|>": 199_999,
    "<|return|>": 200_002,
    "<|constrain|>": 200_003,
    "<|channel|>": 200_005,
    "<|start|>": 200_006,
    "<|end|>": 200_007,
    "<|message|>": 200_008,
    "<|call|>": 200_012,
}


def write_folder(folder: Path, encoding: Path) -> None:
    """Write config.json, the tokenizer's files and model.safetensors; ``encoding`` is tiktoken's file."""
    from safetensors.numpy import save_file

    ranks = _ranks(encoding)

    def token_id(text: str) -> int:
        # Behind a space the trigger is one token here; a byte vocabulary has it without.
        return (
            CONTROL[text] if text in CONTROL else ranks[(" " + text if text == TRIGGER else text).encode()]
        )

    folder.mkdir(parents=True, exist_ok=True)
    weights = hand_made(token_id, VOCABULARY)
    save_file(_renamed(weights, SHAPE), folder / "model.safetensors", {"format": "pt"})
    _write_json(folder / "config.json", _config(SHAPE))
    stops = [CONTROL[token] for token in ("<|return|>", "<|call|>", "<|endoftext|>")]
    _write_json(folder / "generation_config.json", {"eos_token_id": stops, "do_sample": False})
    _write_json(folder / "tokenizer.json", _tokenizer(ranks))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|return|>",
        "pad_token": "<|endoftext|>",
        "chat_template": CHAT_TEMPLATE,
    }
    _write_json(folder / "tokenizer_config.json", settings)


def _write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _ranks(encoding: Path) -> dict[bytes, int]:
    """Token bytes to id, from lines of base64 and number."""
    lines = (line.split() for line in encoding.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def _renamed(weights: Weights, shape: Shape) -> Weights:
    """The tensors by transformers' names. The experts are zero, so their other layout is no matter."""
    names = {"token_embd.weight": "model.embed_tokens.weight"}
    names |= {"output.weight": "lm_head.weight", "output_norm.weight": "model.norm.weight"}
    tensors = {new: weights[old] for old, new in names.items()}
    for number in range(shape.layers):
        old, new = f"blk.{number}.", f"model.layers.{number}."
        tensors[new + "input_layernorm.weight"] = weights[old + "attn_norm.weight"]
        tensors[new + "post_attention_layernorm.weight"] = weights[old + "post_attention_norm.weight"]
        for ours, theirs in (("q", "q"), ("k", "k"), ("v", "v"), ("output", "o")):
            for part in ("weight", "bias"):
                tensors[f"{new}self_attn.{theirs}_proj.{part}"] = weights[f"{old}attn_{ours}.{part}"]
        tensors[new + "self_attn.sinks"] = weights[old + "attn_sinks.weight"]
        for part in ("weight", "bias"):
            tensors[f"{new}mlp.router.{part}"] = weights[f"{old}ffn_gate_inp.{part}"]
        tensors |= _no_experts(new + "mlp.experts.", shape)
    return tensors


def _no_experts(name: str, shape: Shape) -> Weights:
    experts, width, expert_width = shape.experts, shape.width, shape.expert_width
    sizes: dict[str, tuple[int, ...]] = {
        "gate_up_proj": (experts, width, 2 * expert_width),
        "gate_up_proj_bias": (experts, 2 * expert_width),
        "down_proj": (experts, expert_width, width),
        "down_proj_bias": (experts, width),
    }
    return {name + part: np.zeros(size, np.float32) for part, size in sizes.items()}


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "dtype": "float32",
        "vocab_size": VOCABULARY,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "layer_types": ["full_attention" if n % 2 else "sliding_attention" for n in range(shape.layers)],
        "sliding_window": shape.window,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head_size,
        "attention_bias": True,
        "intermediate_size": shape.expert_width,
        "num_local_experts": shape.experts,
        "num_experts_per_tok": shape.experts_used,
        "hidden_act": "silu",
        "swiglu_limit": 7.0,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "max_position_embeddings": shape.context,
        "initial_context_length": 4096,
        "rope_theta": shape.rope_base,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": shape.rope_base,
            "factor": 1.0,  # no stretching
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
            "original_max_position_embeddings": shape.context,
        },
        "eos_token_id": CONTROL["<|return|>"],
        "pad_token_id": CONTROL["<|endoftext|>"],
    }


def _tokenizer(ranks: dict[bytes, int]) -> dict[str, Any]:
    """Enough to turn ids into text. It has no merges: harmony, not this, turns prompts into ids."""
    vocabulary = {spell(token): rank for token, rank in ranks.items()}
    taken = set(ranks.values())
    names = {number: name for name, number in CONTROL.items()}
    added = [
        {
            "id": number,
            "content": names.get(number, f"<|reserved_{number}|>"),
            "special": True,
            "normalized": False,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
        }
        for number in range(VOCABULARY)
        if number not in taken
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }


if __name__ == "__main__":
    write_folder(Path(sys.argv[1]), Path(sys.argv[2]))
