"""Your own ASGI app with a chat route, guarded from within: no second process, no second hop.

    python examples/asgi_middleware.py
    curl -i http://127.0.0.1:8081/v1/chat/completions -H 'content-type: application/json' \\
      -d '{"model": "m", "messages": [{"role": "user", "content": "I am kim.doe@example.com"}]}'

`app` is the guarded application: serve it with any ASGI server.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from guardrail import GuardrailMiddleware

CONFIG = Path(__file__).with_name("guardrail.yaml")


def answer_to(prompt: str) -> str:
    """Where your model would be asked."""
    return f"You wrote: {prompt} Write to dana.whitfield@example.com about it, and she will see to it."


def events(model: str, text: str) -> Iterator[str]:
    deltas = [{"role": "assistant"}, *({"content": f"{word} "} for word in text.split()), {}]
    for delta in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
        chunk = {
            "id": "1",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": model,
            "choices": [choice],
        }
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


async def chat(request: Request) -> Response:
    """What arrives here was judged and redacted; what leaves here will be."""
    body = await request.json()
    text = answer_to(body["messages"][-1]["content"])
    if body.get("stream"):
        return StreamingResponse(events(body["model"], text), media_type="text/event-stream")
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    completion = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [choice],
    }
    return JSONResponse(completion)


async def about(request: Request) -> Response:
    """Not a chat route, so the middleware leaves it alone."""
    return PlainTextResponse("a chat app with a guard")


inner = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"]), Route("/", about)])
app = GuardrailMiddleware.from_config(inner, CONFIG)


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8081")))
