"""The SDK's methods that cost money, each called once."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from gaia_core import CallContext
from gaia_parasail.payloads import Payload, Pictures

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Call = Callable[["AsyncOpenAI"], Awaitable[Any]]
"""Sends one request by a client."""


def generation(payload: Payload, context: CallContext) -> Call:
    """Ask for pictures from words."""
    return partial(_generate, payload, headers_of(context))


def edit(payload: Payload, brought: Pictures, context: CallContext) -> Call:
    """Ask for pictures from pictures."""
    return partial(_edit, payload, brought, headers_of(context))


def chat(payload: Payload, context: CallContext) -> Call:
    """Ask for words."""
    return partial(_say, payload, headers_of(context))


def headers_of(context: CallContext) -> dict[str, str]:
    """
    Name the attempt to the service.

    Parasail documents no such header (2026-11-22), so nothing is repeated because of
    it; a service that does heed it makes nothing twice.
    """
    return {"Idempotency-Key": context.task_id}


async def _generate(
    payload: Payload, headers: Mapping[str, str], client: "AsyncOpenAI"
) -> Any:
    # By the body, because a service may know fields that the SDK has no name for.
    return await client.images.with_raw_response.generate(
        prompt=payload["prompt"], extra_body=payload, extra_headers=headers
    )


async def _edit(
    payload: Payload,
    brought: Pictures,
    headers: Mapping[str, str],
    client: "AsyncOpenAI",
) -> Any:
    from openai import omit  # noqa: PLC0415 - half a second

    images = list(brought.images)
    return await client.images.with_raw_response.edit(
        image=images[0] if len(images) == 1 else images,
        mask=brought.mask or omit,
        prompt=payload["prompt"],
        extra_body=payload,
        extra_headers=headers,
    )


async def _say(
    payload: Payload, headers: Mapping[str, str], client: "AsyncOpenAI"
) -> Any:
    return await client.chat.completions.with_raw_response.create(
        model=payload["model"],
        messages=payload["messages"],
        extra_body=payload,
        extra_headers=headers,
    )
