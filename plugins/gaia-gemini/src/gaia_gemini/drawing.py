"""Several pictures of one request: a call for each, a few at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import attrs

from gaia_core import (
    CallContext,
    DigitalSource,
    GeneratedImage,
    GenerateRequest,
    ImageResult,
    InvalidImageError,
    ProviderError,
    UnusableResultError,
)
from gaia_gemini import composites, payloads, replies
from gaia_gemini.models import RETIRED, ImageModel
from gaia_gemini.payloads import Payload
from gaia_gemini.replies import Answer, Reply

_AT_ONCE = 4
"""Most calls of one request at the same time."""

Ask = Callable[[Payload, str], Awaitable[Reply]]
"""Sends one call under the name of a task, and gives the reply."""


@attrs.define(eq=False, kw_only=True)
class Drawing:
    """
    The work on one request for pictures.

    Attributes:
        request: What is asked for.
        model: The model that draws.
        image_size: The image size that the settings ask for, if any.
        context: The attempt.
        ask: Sends one call.
    """

    request: GenerateRequest
    model: ImageModel
    image_size: str | None
    context: CallContext
    ask: Ask

    async def drawn(self) -> ImageResult:
        """
        Have whole pictures drawn.

        Raises:
            ProviderError: If there is not one; the most telling of the errors.
        """
        payload = payloads.generation(self.request, self.model, self.image_size)
        answers = await self._answers(payload)
        images = [GeneratedImage(data=one.data) for one in answers if one.data]
        return self._result(payload, answers, images, self._why(payload))

    async def repainted(self) -> ImageResult:
        """
        Have pictures drawn, and lay of each the part asked for over the old one.

        Raises:
            ProviderError: As above.
            InvalidImageError: If a picture of the request is damaged.
        """
        size = payloads.size_for(self.request, self.image_size)
        task = await asyncio.to_thread(
            composites.prepare, self.request, self.model, size
        )
        payload = payloads.repainting(
            self.request, self.model, task.canvas, task.canvas_mask, task.fit
        )
        answers = [
            await self._composed(task, one) for one in await self._answers(payload)
        ]
        images = [
            GeneratedImage(
                data=one.data,
                is_encoded_here=True,
                digital_source=DigitalSource.COMPOSITE,
            )
            for one in answers
            if one.data
        ]
        why = "as large as image with all that is added, not {asked}"
        return self._result(payload, answers, images, why)

    async def _composed(self, task: composites.Task, answer: Answer) -> Answer:
        if answer.data is None:
            return answer
        try:
            data = await asyncio.to_thread(composites.finish, task, answer.data)
        except InvalidImageError as error:
            failure = UnusableResultError(f"Gemini made a damaged picture: {error}")
            return attrs.evolve(answer, data=None, error=failure)
        return attrs.evolve(answer, data=data)

    async def _answers(self, payload: Payload) -> Sequence[Answer]:
        """Send as many calls as there are to be pictures; none of them raises."""
        gate = asyncio.Semaphore(_AT_ONCE)
        price = self.model.cost_of_picture(payload.fit.size) if payload.fit else None
        # Not what the tasks return: kept connections remember the tasks they served.
        answers: dict[int, Answer] = {}

        async def answer(number: int) -> None:
            async with gate:
                try:
                    reply = await self.ask(payload, self._task_id(number))
                    found = replies.picture(reply, self.model.rates, price_usd=price)
                except ProviderError as error:
                    found = replies.failed(error, price)
                except Exception as error:  # noqa: BLE001  others are paid as well
                    found = replies.failed(_unexpected(error), price)
            answers[number] = found
            self.context.progress(len(answers) / self.request.num_images)

        numbers = range(self.request.num_images)
        await asyncio.gather(*map(answer, numbers))
        return [answers[number] for number in numbers]

    def _task_id(self, number: int) -> str:
        """Name one call; alone, it has the attempt's own name."""
        task_id = self.context.task_id
        return task_id if self.request.num_images == 1 else f"{task_id}/{number}"

    def _result(
        self,
        payload: Payload,
        answers: Sequence[Answer],
        images: Sequence[GeneratedImage],
        why: str,
    ) -> ImageResult:
        if not images and (error := replies.worst(answers)) is not None:
            if isinstance(error, UnusableResultError):
                error.cost_usd = replies.total(answers)
            raise error
        return replies.result(
            self.model.id,
            answers,
            images,
            (
                *self._standing_in(),
                *payload.warnings,
                *replies.sizes(self.request, images, why),
            ),
        )

    def _why(self, payload: Payload) -> str:
        """Say why pictures may have another size than the one asked for."""
        request = self.request
        if payload.fit == self.model.fit(request.width, request.height):
            return "the nearest the model draws to {asked}"
        return "as options or settings say, not {asked}"

    def _standing_in(self) -> Sequence[str]:
        asked = self.request.model
        if asked not in RETIRED:
            return ()
        return [f"{asked} is gone: {self.model.id} stands in for it"]


def _unexpected(error: Exception) -> ProviderError:
    """Make of what nobody foresaw an error whose outcome is unknown."""
    kind = type(error).__name__
    failure = ProviderError(f"Gemini's answer could not be used ({kind}).")
    failure.__cause__ = error
    return failure
