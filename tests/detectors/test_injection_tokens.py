# Letters and marks that pass for others are what these tests are made of.
# ruff: noqa: RUF001

import pytest

from guardrail.detectors.injection_tokens import find_special_tokens


@pytest.mark.parametrize(
    "token",
    [
        "<|start|>",
        "<|channel|>",
        "<|message|>",
        "<|END|>",
        "<| im_start |>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|eot_id|>",
        "<|start_header_id|>",
        "<|START_OF_TURN_TOKEN|>",
        "[INST]",
        "[/INST]",
        "<<SYS>>",
        "<</SYS>>",
        "<start_of_turn>",
        "[SYSTEM_PROMPT]",
        "[/AVAILABLE_TOOLS]",
        "<s>[INST]",
        "</s><s>",
        "＜｜start｜＞",  # full width
        "<｜begin▁of▁sentence｜>",  # DeepSeek's own spelling
        "<¦start¦>",
        "‹│ｓｔａｒｔ│›",
        "<|st\u200bart|>",
    ],
)
def test_tokens(token: str) -> None:
    for text in (token, f"\n{token}system", f"ünd\n{token}x"):
        assert [text[start:end] for start, end in find_special_tokens(text)] == [token]


@pytest.mark.parametrize(
    "text",
    [
        "x |> f <| y",
        "<s>struck out</s>",
        "a <s>[",
        "[INSTALL] [inst] [TODO_LIST]",
        "<|name|> and <|>",
        "<start> and <end>",
        "a[INST",
    ],
)
def test_what_is_no_token(text: str) -> None:
    assert find_special_tokens(text) == []
