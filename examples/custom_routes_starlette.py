"""A Starlette app whose chat routes are its own, guarded: JSON, two kinds of streams, a WebSocket.

    python examples/custom_routes_starlette.py
    curl -i http://127.0.0.1:8082/chat -H 'content-type: application/json' \\
      -d '{"message": "I am kim.doe@example.com"}'
    curl -N http://127.0.0.1:8082/lines -d 'I am kim.doe@example.com'

`app` is the guarded application: serve it with any ASGI server.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from guardrail import GuardrailMiddleware
from guardrail.frontends.middleware import Route as Guarded

CONFIG = Path(__file__).with_name("guardrail.yaml")

# Where the texts stand. Whatever else is in these bodies is passed on as it is.
GUARDED = [
    Guarded("/chat", "$.message", "$.reply", stream="sse", stream_if="$.stream", delta="$.token"),
    Guarded("/lines", input="text", output="$.word", stream="ndjson"),
    Guarded("/ws", input="$.message", output="$.token", end="$.done", websocket=True),
]


def answer_to(prompt: str) -> str:
    """Where your model would be asked."""
    return f"You wrote: {prompt} Write to dana.whitfield@example.com about it, and she will see to it."


def words(text: str) -> Iterator[str]:
    for word in text.split():
        yield f"{word} "


async def chat(request: Request) -> Response:
    """What arrives here was judged and redacted; what leaves here will be."""
    body = await request.json()
    text = answer_to(body["message"])
    if not body.get("stream"):
        return JSONResponse({"reply": text, "words": len(text.split())})
    events = (f"data: {json.dumps({'token': word})}\n\n" for word in words(text))
    return StreamingResponse(events, media_type="text/event-stream")


async def lines(request: Request) -> Response:
    """A plain prompt, answered in lines of JSON."""
    text = answer_to((await request.body()).decode())
    found = (json.dumps({"word": word}) + "\n" for word in words(text))
    return StreamingResponse(found, media_type="application/x-ndjson")


async def talk(websocket: WebSocket) -> None:
    """One message is one prompt; its answer comes word by word, the last message says that it is done."""
    await websocket.accept()
    async for text in websocket.iter_text():
        for word in words(answer_to(json.loads(text)["message"])):
            await websocket.send_json({"token": word})
        await websocket.send_json({"done": True})


inner = Starlette(
    routes=[
        Route("/chat", chat, methods=["POST"]),
        Route("/lines", lines, methods=["POST"]),
        WebSocketRoute("/ws", talk),
    ]
)
app = GuardrailMiddleware.from_config(inner, CONFIG, GUARDED)


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8082")))
