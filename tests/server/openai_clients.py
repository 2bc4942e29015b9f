"""OpenAI's own clients, opened to a server; and what they get, opened as pictures."""

import base64
import io
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx
from openai import AsyncOpenAI, OpenAI
from PIL import Image

OpenClient = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def client_of(http: httpx.AsyncClient, **options: object) -> AsyncOpenAI:
    """Open the asynchronous client; it repeats nothing, unless told."""
    fields = {"api_key": "none", "max_retries": 0} | options
    return AsyncOpenAI(base_url=f"{http.base_url}/v1", **fields)  # type: ignore[arg-type]


def blocking_client_of(http: httpx.AsyncClient, **options: object) -> OpenAI:
    """Open the synchronous client; it repeats nothing, unless told."""
    fields = {"api_key": "none", "max_retries": 0} | options
    return OpenAI(base_url=f"{http.base_url}/v1", **fields)  # type: ignore[arg-type]


def opened(encoded: str | bytes | None) -> Image.Image:
    """Open a picture, from base64 or as it is."""
    data = encoded if isinstance(encoded, bytes) else base64.b64decode(encoded or "")
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture
