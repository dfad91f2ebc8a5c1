"""A FastAPI app whose chat routes are its own; `custom_routes.yaml` says where their texts stand.

    pip install fastapi
    python examples/custom_routes_fastapi.py
    curl -i http://127.0.0.1:8083/chat -H 'content-type: application/json' \\
      -d '{"user": "kim", "message": "I am kim.doe@example.com"}'

`app` is the guarded application: serve it with any ASGI server.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from guardrail import GuardrailMiddleware

CONFIG = Path(__file__).with_name("custom_routes.yaml")

inner = FastAPI()


class Question(BaseModel):
    user: str
    message: str


class Answer(BaseModel):
    reply: str


def answer_to(prompt: str) -> str:
    """Where your model would be asked."""
    return f"You wrote: {prompt} Write to dana.whitfield@example.com about it, and she will see to it."


@inner.post("/chat")
async def chat(question: Question) -> Answer:
    """What arrives here was judged and redacted; what leaves here will be."""
    return Answer(reply=answer_to(question.message))


@inner.post("/stream")
async def stream(question: Question) -> StreamingResponse:
    """Server-sent events whose data is plain text."""

    def events() -> Iterator[str]:
        for word in answer_to(question.message).split():
            yield f"event: word\ndata: {word} \n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@inner.websocket("/ws")
async def talk(websocket: WebSocket) -> None:
    """One message of text is one prompt, and one its answer."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(answer_to(await websocket.receive_text()))
    except WebSocketDisconnect:
        pass


@inner.get("/")
async def about() -> str:
    """Not among the guarded routes, so the middleware leaves it alone."""
    return "a chat app with a guard"


app = GuardrailMiddleware.from_config(inner, CONFIG)


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8083")))
