"""Batches: the service's own, from a file of requests to pictures."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pytest

from gaia_core import (
    CallContext,
    GenerateRequest,
    Image,
    ImageResult,
    OutcomeClass,
    ProviderError,
    TaskRunningError,
)
from gaia_core.testing import context, png
from gaia_core.testing.vendors import Fault, Faults
from gaia_core.testing.vendors.openai import OpenAIVendor
from gaia_parasail import ParasailProvider


class Book:
    """Keeps what attempts ask to remember, as the ledger does."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.references: dict[str, str] = {}

    def contexts(self, count: int) -> list[CallContext]:
        """Make the contexts of some attempts."""
        made = []
        for _ in range(count):
            one = context()
            made.append(context(task_id=one.task_id, remember=self._keep(one.task_id)))
        return made

    def again(self, task_id: str) -> CallContext:
        """Make the context that a lost attempt is looked up with."""
        return context(task_id=task_id, reference=self.references.get(task_id, ""))

    def _keep(self, task_id: str) -> Any:
        async def keep(reference: str) -> None:
            self.references[task_id] = reference

        return keep


def scenes(count: int, model: str = "batched", **changes: Any) -> list[GenerateRequest]:
    """Make requests that differ."""
    return [
        GenerateRequest(
            prompt=f"scene {number}", model=model, width=32, height=32, **changes
        )
        for number in range(count)
    ]


async def gathered(
    provider: ParasailProvider,
    requests: Sequence[GenerateRequest],
    contexts: Sequence[CallContext],
) -> dict[str, ImageResult | Exception]:
    """Take all answers there are."""
    answers = provider.gaia_generate_many(requests, contexts)
    return {task_id: answer async for task_id, answer in answers}


async def test_every_request_gets_its_own_picture(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """Answers are matched by task id, and each line is charged once."""
    book, requests = Book(), scenes(50)
    contexts = book.contexts(50)

    answers = await gathered(provider, requests, contexts)

    prompts = {charge.task_id: charge.prompt for charge in vendor.charges}
    assert prompts == {
        one.task_id: request.prompt
        for one, request in zip(contexts, requests, strict=True)
    }
    assert vendor.double_charges() == {}
    for one in contexts:
        answer = answers[one.task_id]
        made = vendor.find(one.task_id)
        assert isinstance(answer, ImageResult)
        assert made is not None
        assert [image.data for image in answer.images] == list(made.images)
