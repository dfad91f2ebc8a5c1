"""What an item of the Responses API holds: its texts, its names, and what is no text for anybody.

Shapes: ``openai.types.responses`` of OpenAI's Python SDK (2.54). Where a shape ends, the value is read so:

* a ``Kind``: a text of that kind;
* ``None``: known, and neither read by the model nor by a reader of the answer (states, numbers);
* ``NAME``: a name, which is judged where it is more than a name;
* ``ID``: an id which chat templates may write out for the model: a name in a request; in an answer the
  server's own, and silent;
* ``SEALED``: what only the server that wrote it can read. In a request the model reads it and nobody here
  can, so it is named as unreadable; in an answer no reader can, so nothing is said of it;
* ``OPAQUE``: images, files and references: unreadable everywhere;
* ``LEAVES``: any JSON, each string and number in it a text, for a card number without quotes is one;
  ``DEFINITIONS``: the same, but plain names are silent, as tools consist of them;
* ``CONTENT``: a text or a list of parts; ``PART``: one part.

The calls that the client carries out (``CALLS``) are acted upon: their texts are tool arguments, and in a
stream they leave as a whole. So do those of MCP servers, whose arguments are JSON that may be edited only
as such. What the server's other tools searched, ran and found is ``Kind.FIELD``: text beside the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from guardrail.core.conversation import Kind

__all__ = ["ANNOTATION", "CALLS", "ITEMS", "PARTS", "RESPONSE", "ROLES", "Each", "Mark", "Shape"]


class Mark(Enum):
    """How a value is read that is neither one text nor silent."""

    NAME = "name"
    ID = "id"
    SEALED = "sealed"
    OPAQUE = "opaque"
    LEAVES = "leaves"
    DEFINITIONS = "definitions"
    CONTENT = "content"
    PART = "part"


class Each(NamedTuple):
    """A list of things of one shape."""

    of: Shape


Shape: TypeAlias = "Kind | Mark | Each | Mapping[str, Shape] | None"

_SILENT: Final[Mapping[str, Shape]] = dict.fromkeys(["type", "id", "status", "created_by", "phase"])
_CALL: Final[Mapping[str, Shape]] = {
    **_SILENT,
    "call_id": Mark.ID,
    "caller": {"type": None, "caller_id": Mark.ID},
    "namespace": Mark.NAME,
    "name": Mark.NAME,
}
_CHECK: Final[Shape] = Each({"id": None, "code": Mark.NAME, "message": Kind.FIELD})
_CLICK: Final[Shape] = {
    **dict.fromkeys(["type", "button", "x", "y", "scroll_x", "scroll_y", "path"]),
    "keys": Each(Kind.TOOL_ARGUMENTS),
    "text": Kind.TOOL_ARGUMENTS,
}
ANNOTATION: Final[Shape] = {
    **dict.fromkeys(["type", "start_index", "end_index", "index", "file_id", "container_id"]),
    "url": Mark.NAME,
    "title": Mark.NAME,
    "filename": Mark.NAME,
}
_MARKS: Final[Mapping[str, Shape]] = dict.fromkeys(["type", "cache_control", "prompt_cache_breakpoint"])

PARTS: Final[Mapping[str, Mapping[str, Shape]]] = {
    "input_text": {**_MARKS, "text": Kind.TEXT},
    "text": {**_MARKS, "text": Kind.TEXT},
    "output_text": {**_MARKS, "text": Kind.TEXT, "annotations": Each(ANNOTATION), "logprobs": None},
    "refusal": {**_MARKS, "refusal": Kind.REFUSAL},
    "summary_text": {**_MARKS, "text": Kind.REASONING},
    "reasoning_text": {**_MARKS, "text": Kind.REASONING},
}
"""By their ``type``; a part of any other one (images, files, audio) is unreadable."""

ITEMS: Final[Mapping[str, Mapping[str, Shape]]] = {
    "message": {**_SILENT, "role": Mark.NAME, "content": Mark.CONTENT},
    "reasoning": {
        **_SILENT,
        "summary": Each(Mark.PART),
        "content": Each(Mark.PART),
        "encrypted_content": Mark.SEALED,
    },
    "function_call": {**_CALL, "arguments": Kind.TOOL_ARGUMENTS},
    "function_call_output": {**_CALL, "output": Mark.CONTENT},
    "custom_tool_call": {**_CALL, "input": Kind.TOOL_ARGUMENTS},
    "custom_tool_call_output": {**_CALL, "output": Mark.CONTENT},
    "computer_call": {
        **_CALL,
        "action": _CLICK,
        "actions": Each(_CLICK),
        "pending_safety_checks": _CHECK,
    },
    "computer_call_output": {**_CALL, "output": Mark.OPAQUE, "acknowledged_safety_checks": _CHECK},
    "local_shell_call": {
        **_CALL,
        "action": {
            **dict.fromkeys(["type", "timeout_ms"]),
            "command": Each(Kind.TOOL_ARGUMENTS),
            "env": Mark.LEAVES,
            "user": Mark.NAME,
            "working_directory": Mark.NAME,
        },
    },
    "local_shell_call_output": {**_CALL, "output": Kind.TEXT},
    "shell_call": {
        **_CALL,
        "action": {
            **dict.fromkeys(["timeout_ms", "max_output_length"]),
            "commands": Each(Kind.TOOL_ARGUMENTS),
        },
        "environment": Mark.DEFINITIONS,
    },
    "shell_call_output": {
        **_CALL,
        "output": Each({"stdout": Kind.TEXT, "stderr": Kind.TEXT, "outcome": None, "created_by": None}),
        "max_output_length": None,
    },
    "apply_patch_call": {
        **_CALL,
        "operation": {"type": None, "path": Mark.NAME, "diff": Kind.TOOL_ARGUMENTS},
    },
    "apply_patch_call_output": {**_CALL, "output": Kind.TEXT},
    "mcp_call": {
        **_CALL,
        "server_label": Mark.NAME,
        "arguments": Kind.TOOL_ARGUMENTS,
        "output": Kind.FIELD,
        "error": Mark.LEAVES,
        "approval_request_id": None,
    },
    "mcp_approval_request": {**_CALL, "server_label": Mark.NAME, "arguments": Kind.TOOL_ARGUMENTS},
    "mcp_approval_response": {
        **_SILENT,
        "approval_request_id": None,
        "approve": None,
        "reason": Kind.TEXT,
    },
    "mcp_list_tools": {
        **_SILENT,
        "server_label": Mark.NAME,
        "tools": Mark.DEFINITIONS,
        "error": Mark.LEAVES,
    },
    "web_search_call": {
        **_SILENT,
        "action": {
            "type": None,
            "query": Kind.FIELD,
            "queries": Each(Kind.FIELD),
            "url": Mark.NAME,
            "pattern": Kind.FIELD,
            "sources": Each({"type": None, "url": Mark.NAME}),
        },
    },
    "file_search_call": {
        **_SILENT,
        "queries": Each(Kind.FIELD),
        "results": Each(
            {
                **dict.fromkeys(["file_id", "score"]),
                "filename": Mark.NAME,
                "text": Kind.FIELD,
                "attributes": Mark.LEAVES,
            }
        ),
    },
    "code_interpreter_call": {
        **_SILENT,
        "container_id": None,
        "code": Kind.FIELD,
        "outputs": Each({"type": None, "logs": Kind.FIELD, "url": Mark.OPAQUE}),
    },
    "image_generation_call": {
        **_SILENT,
        **dict.fromkeys(["action", "background", "output_format", "quality", "size"]),
        "revised_prompt": Kind.FIELD,
        "result": Mark.OPAQUE,
    },
    "tool_search_call": {**_CALL, "execution": None, "arguments": Mark.LEAVES},
    "tool_search_output": {**_CALL, "execution": None, "tools": Mark.DEFINITIONS},
    "additional_tools": {**_SILENT, "role": Mark.NAME, "tools": Mark.DEFINITIONS},
    "program": {**_CALL, "code": Kind.FIELD, "fingerprint": None},
    "program_output": {**_CALL, "result": Kind.FIELD},
    "compaction": {**_SILENT, "encrypted_content": Mark.SEALED},
    "compaction_trigger": _SILENT,
}
"""By their ``type``. References and whatever is not here are unreadable."""

CALLS: Final = frozenset(
    [
        "function_call",
        "custom_tool_call",
        "computer_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "mcp_call",
        "mcp_approval_request",
    ]
)
ROLES: Final[Mapping[str, str]] = {
    "function_call_output": "tool",
    "custom_tool_call_output": "tool",
    "computer_call_output": "tool",
    "local_shell_call_output": "tool",
    "shell_call_output": "tool",
    "apply_patch_call_output": "tool",
    "tool_search_output": "tool",
    "mcp_approval_response": "user",
}
"""Who speaks in an item that has no role of its own; where nothing else is said, the assistant."""

# What a request asked for comes back in the answer: that is nothing that the model said.
RESPONSE: Final[Mapping[str, Shape]] = {
    **dict.fromkeys(
        [
            "id",
            "object",
            "output",
            "created_at",
            "completed_at",
            "status",
            "error",
            "incomplete_details",
            "instructions",
            "metadata",
            "model",
            "parallel_tool_calls",
            "temperature",
            "tool_choice",
            "tools",
            "top_p",
            "background",
            "conversation",
            "frequency_penalty",
            "max_output_tokens",
            "max_tool_calls",
            "moderation",
            "presence_penalty",
            "previous_response_id",
            "prompt",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "reasoning",
            "safety_identifier",
            "service_tier",
            "store",
            "text",
            "top_logprobs",
            "truncation",
            "usage",
            "user",
            "billing",
            "content_filters",
        ]
    ),
    "output_text": Kind.FIELD,  # all texts once more, as some servers add it
}
"""The response object; its ``output`` is read item by item."""
