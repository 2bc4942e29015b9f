"""
Three vendors that answer everybody the same at once, in one small server.

What a vendor spends is not to count, so the answers are made beforehand and the server
is a process of its own::

    python benchmarks/parts/canned.py [seconds of latency] [bytes of a picture]

It prints its address, and ends with its standard input.
"""

import asyncio
import base64
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

import attrs
from aiohttp import WSMsgType, web
from PIL import Image

from gaia_core import write_png

_MAX_BODY = 64 * 1024 * 1024
Task = dict[str, Any]


def picture(size: int) -> bytes:
    """Make a picture that no compression makes smaller."""
    side = math.isqrt(size // 3)
    noise = random.Random(0).randbytes(side * side * 3)  # noqa: S311  no secret
    return write_png(Image.frombytes("RGB", (side, side), noise))


@attrs.define(eq=False, kw_only=True)
class Canned:
    """
    The server.

    Attributes:
        latency: Seconds each piece of work takes.
        image: What everybody gets.
    """

    latency: float
    image: bytes
    url: str = ""
    _finished: dict[str, float] = attrs.field(factory=dict, init=False)
    _openai: bytes = attrs.field(init=False)
    _gemini: bytes = attrs.field(init=False)

    @_openai.default
    def _openai_body(self) -> bytes:
        return json.dumps({"created": 0, "data": [{"b64_json": self._text}]}).encode()

    @_gemini.default
    def _gemini_body(self) -> bytes:
        part = {"inlineData": {"mimeType": "image/png", "data": self._text}}
        candidate = {
            "content": {"role": "model", "parts": [part]},
            "finishReason": "STOP",
        }
        return json.dumps({"candidates": [candidate]}).encode()

    @property
    def _text(self) -> str:
        return base64.b64encode(self.image).decode()

    def app(self) -> web.Application:
        """Say what is answered where."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.add_routes(
            [
                web.post("/v1/images/generations", self._answer_openai),
                web.post(r"/{version}/models/{model:.+}", self._answer_gemini),
                web.get("/v1", self._speak),
                web.get("/im/{name}", self._send_file),
            ]
        )
        return app

    async def _answer_openai(self, request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(self.latency)
        return web.Response(body=self._openai, content_type="application/json")

    async def _answer_gemini(self, request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(self.latency)
        return web.Response(body=self._gemini, content_type="application/json")

    async def _send_file(self, _: web.Request) -> web.Response:
        return web.Response(body=self.image, content_type="image/png")

    # -- Runware's WebSocket ----------------------------------------------------------

    async def _speak(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=_MAX_BODY)
        await socket.prepare(request)
        async with asyncio.TaskGroup() as work:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    break
                for task in json.loads(message.data):
                    work.create_task(self._do(socket, task))
        return socket

    async def _do(self, socket: web.WebSocketResponse, task: Task) -> None:
        for reply in self._replies(task):
            kind = task["taskType"]
            if kind == "imageInference" and "status" not in reply:
                await asyncio.sleep(self.latency)
            if not socket.closed:
                await socket.send_json({"data": [reply]})

    def _replies(self, task: Task) -> Sequence[Task]:
        kind, task_id = task["taskType"], task.get("taskUUID", "")
        match kind:
            case "authentication":
                return [{"taskType": kind, "connectionSessionUUID": "canned"}]
            case "ping":
                return [{"taskType": kind, "pong": True}]
            case "getResponse":
                is_over = self._finished.get(task_id, 0.0) <= time.monotonic()
                return [self._made(task_id, "success" if is_over else "processing")]
            case _ if task.get("deliveryMethod") == "async":
                self._finished[task_id] = time.monotonic() + self.latency
                return [{"taskType": kind, "taskUUID": task_id, "status": "processing"}]
            case _:
                return [self._made(task_id)]

    def _made(self, task_id: str, status: str = "") -> Task:
        made = {
            "taskType": "imageInference",
            "taskUUID": task_id,
            "imageUUID": task_id,
            "imageURL": f"{self.url}/im/{task_id}.png",
            "seed": 7,
            "cost": 0.0038,
        }
        return made | {"status": status} if status else made


async def main(latency: float, size: int) -> None:
    """Listen until standard input ends."""
    canned = Canned(latency=latency, image=picture(size))
    runner = web.AppRunner(canned.app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    canned.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    print(canned.url, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    seconds, length = (*sys.argv[1:], *("0", "1300000")[len(sys.argv) - 1 :])
    asyncio.run(main(float(seconds), int(length)))
