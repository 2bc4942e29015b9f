"""
The hooks of Gaia, and how to write a plugin.

A plugin is any installed distribution with an entry point in group ``gaia``::

    [project.entry-points.gaia]
    hello = "gaia_hello:HelloProvider"

The entry point names a *class*: Gaia calls it with its section of the settings.
It must be cheap to import; import an SDK in the first hook that needs it. The
smallest provider has two hooks::

    import attrs
    from gaia_core import (
        CallContext, Capability, GeneratedImage, GenerateRequest, ImageResult,
        ProviderInfo, hookimpl,
    )

    @attrs.define(eq=False, kw_only=True)
    class HelloProvider:
        colour: str = "red"  # [providers.hello] colour = "blue"

        @hookimpl
        def gaia_provider_info(self) -> ProviderInfo:
            return ProviderInfo(
                name="hello", capabilities={Capability.TEXT_TO_IMAGE}, priority=5
            )

        @hookimpl
        async def gaia_generate(
            self, request: GenerateRequest, context: CallContext
        ) -> ImageResult:
            data = await my_sdk.draw(request.styled_prompt, self.colour)
            return ImageResult(
                images=[GeneratedImage(data=data)], provider="hello", model="hello"
            )

An entry point may also name a module or an object: that is *middleware*, whose
hook wrappers run around every provider: see `gaia_prepare_request` and
`gaia_generate`.

Gaia asks **one** provider at a time, so a hook answers for its own provider
only. Work hooks are ``async def``.
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from gaia_core.catalog import Health, HealthLevel, ModelInfo, ProviderInfo
    from gaia_core.context import CallContext
    from gaia_core.requests import (
        DescribeImageRequest,
        EnhancePromptRequest,
        GenerateRequest,
        RemoveBackgroundRequest,
        Request,
        UpscaleRequest,
    )
    from gaia_core.results import DescriptionResult, ImageResult, PromptResult

PROJECT_NAME = "gaia"
"""The project name pluggy knows these hooks by."""
ENTRY_POINT_GROUP = "gaia"
"""The entry-point group plugins are found in."""

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)
"""Marks a function as the implementation of a hook."""

# -- who are you, and at the door -------------------------------------------------


@hookspec(firstresult=True)
def gaia_provider_info() -> "ProviderInfo":  # type: ignore[empty-body]
    """
    Say who the provider is, what it can do, and why it cannot work now, if so.

    Called at load and before every plan: cheap, no network, no SDK import. A
    plugin with this hook is a provider; one without it is middleware.

    ::

        @hookimpl
        def gaia_provider_info(self) -> ProviderInfo:
            return ProviderInfo(
                name="hello",
                capabilities={Capability.TEXT_TO_IMAGE},
                unavailable=None if self.api_key else "HELLO_API_KEY is not set",
            )

    Returns:
        The provider's card.
    """


@hookspec(firstresult=True)
def gaia_list_models(  # type: ignore[empty-body]
    refresh: bool,  # noqa: FBT001  hooks are called by keyword
    search: str | None,
) -> "Awaitable[Sequence[ModelInfo]]":
    """
    List the models the provider offers, the preferred one first.

    Called when a `Gaia` is opened, and then it must be quick: no network, no SDK
    import. Without this hook the provider has one model, named like itself, with the
    provider's capabilities and no price. Leave out the arguments if the list is
    always the same::

        @hookimpl
        async def gaia_list_models(self) -> Sequence[ModelInfo]:
            return [
                ModelInfo(
                    id="hello:1",
                    name="Hello",
                    provider="hello",
                    capabilities={Capability.TEXT_TO_IMAGE},
                    price=Price(per_image=0.01),
                )
            ]

    Args:
        refresh: Whether somebody wants to know what the vendor has today: ask it.
            Where it cannot be asked, the list of before is right.
        search: Words to look for in the vendor's catalogue, or None: the provider's
            usual list. Nothing found is an empty list.

    Returns:
        The cards of the models.

    Raises:
        ProviderError: If the vendor cannot be asked; only with ``refresh`` or
            ``search``.
    """


@hookspec(firstresult=True)
def gaia_prepare_request(request: "Request") -> "Request":  # type: ignore[empty-body]
    """
    Change a request at the door, before anything is planned or paid.

    Called once per operation. Gaia's own implementation gives the request back
    as it came; middleware wraps it, and wrappers build upon one another::

        @hookimpl(wrapper=True)
        def gaia_prepare_request(self, request):
            request = yield
            if not isinstance(request, GenerateRequest):
                return request
            return attrs.evolve(request, style=request.style or "fantasy art")

    Args:
        request: What the host asked for.

    Returns:
        What to go on with.
    """


# -- work -------------------------------------------------------------------------


@hookspec(firstresult=True)
def gaia_generate(  # type: ignore[empty-body]
    request: "GenerateRequest", context: "CallContext"
) -> "Awaitable[ImageResult]":
    """
    Make pictures from words, and from a picture where the request brings one.

    Image-to-image, inpainting and outpainting come through this hook too:
    ``request.capability`` tells which. ``request.model`` is always set.

    ::

        @hookimpl
        async def gaia_generate(
            self, request: GenerateRequest, context: CallContext
        ) -> ImageResult:
            reply = await self.client().draw(request.styled_prompt)
            return ImageResult(
                images=[GeneratedImage(data=reply)],
                provider="hello",
                model=request.model,
            )

    Middleware wraps it. A wrapper gets the awaitable from ``yield``, not the
    result, and may return another one around it::

        @hookimpl(wrapper=True)
        def gaia_generate(self, request, context):
            answer = yield

            async def timed():
                start = time.monotonic()
                result = await answer
                context.logger.info("hello.timed", took=time.monotonic() - start)
                return result

            return timed()

    Args:
        request: What to make; its ``model`` is one this provider listed.
        context: The attempt: identifiers, deadline, progress, fetcher, logger.

    Returns:
        An awaitable of the pictures.

    Raises:
        ProviderError: One of its subclasses; anything else counts as an unknown
            outcome and is never repeated.
    """


@hookspec(firstresult=True)
def gaia_generate_many(  # type: ignore[empty-body]
    requests: "Sequence[GenerateRequest]", contexts: "Sequence[CallContext]"
) -> "AsyncIterator[tuple[str, ImageResult | Exception]]":
    """
    Make the pictures of several requests in one call to the vendor.

    Gaia uses it for items of batches that come to the provider at the same time, up to
    ``max_batch_size`` of the model or the provider, and gives it
    ``ProviderInfo.batch_timeout`` seconds; single requests go through
    `gaia_generate`, which is needed all the same.

    ::

        @hookimpl
        async def gaia_generate_many(
            self,
            requests: Sequence[GenerateRequest],
            contexts: Sequence[CallContext],
        ) -> AsyncIterator[tuple[str, ImageResult | Exception]]:
            client, keys = self.client(), [context.task_id for context in contexts]
            file = await client.upload(keys, [one.styled_prompt for one in requests])
            await asyncio.gather(*(context.remember(file) for context in contexts))
            batch = await client.submit(file)
            async for key, reply in client.replies(batch):
                yield key, replies.image_or_error(reply)

    Answers are stored as they come, and the next is asked for only when there is
    room: read them from the vendor one at a time. The iterator is closed when every
    request has its answer, and when nobody waits any more: because the batch is
    being stopped, to go on later. What the vendor works on is left to it then.

    Args:
        requests: What to make, all of the same capability and with the same
            ``model``, which is one this provider listed.
        contexts: The attempts, in the same order, each with its own task id.

    Returns:
        An asynchronous iterator of task ids and answers, in any order: the pictures,
        or the error that `gaia_generate` would have raised. What is left unanswered
        at its end counts as lost, and is looked up.

    Raises:
        ProviderError: One of its subclasses, where it holds for every request
            unanswered so far; anything else counts as an unknown outcome of each.
    """


@hookspec(firstresult=True)
def gaia_upscale(  # type: ignore[empty-body]
    request: "UpscaleRequest", context: "CallContext"
) -> "Awaitable[ImageResult]":
    """
    Enlarge a picture by 2, 4 or 8.

    ::

        @hookimpl
        async def gaia_upscale(
            self, request: UpscaleRequest, context: CallContext
        ) -> ImageResult:
            data = await self.client().enlarge(
                request.image.data, request.upscale_factor
            )
            return replies.picture(data, request.model)

    Args:
        request: The picture and the factor.
        context: The attempt.

    Returns:
        An awaitable of one picture, ``upscale_factor`` times as wide and high.
    """


@hookspec(firstresult=True)
def gaia_remove_background(  # type: ignore[empty-body]
    request: "RemoveBackgroundRequest", context: "CallContext"
) -> "Awaitable[ImageResult]":
    """
    Cut out the subject of a picture.

    ::

        @hookimpl
        async def gaia_remove_background(
            self, request: RemoveBackgroundRequest, context: CallContext
        ) -> ImageResult:
            data = await self.client().cut_out(request.image.data)
            return replies.picture(data, request.model)

    Args:
        request: The picture.
        context: The attempt.

    Returns:
        An awaitable of one picture of the same size with an alpha channel.
    """


@hookspec(firstresult=True)
def gaia_enhance_prompt(  # type: ignore[empty-body]
    request: "EnhancePromptRequest", context: "CallContext"
) -> "Awaitable[PromptResult]":
    """
    Turn a few words into a prompt that pictures come out well from.

    ::

        @hookimpl
        async def gaia_enhance_prompt(
            self, request: EnhancePromptRequest, context: CallContext
        ) -> PromptResult:
            words = await self.client().work_out(request.prompt)
            return PromptResult(prompt=words, provider="hello", model=request.model)

    Args:
        request: The words and how long the answer may be.
        context: The attempt.

    Returns:
        An awaitable of the prompt.
    """


@hookspec(firstresult=True)
def gaia_describe_image(  # type: ignore[empty-body]
    request: "DescribeImageRequest", context: "CallContext"
) -> "Awaitable[DescriptionResult]":
    """
    Say in words what a picture shows.

    ::

        @hookimpl
        async def gaia_describe_image(
            self, request: DescribeImageRequest, context: CallContext
        ) -> DescriptionResult:
            words = await self.client().look(request.image.data, request.question)
            return replies.description(words, request.model)

    Args:
        request: The picture and the question.
        context: The attempt.

    Returns:
        An awaitable of the description.
    """


# -- upkeep -----------------------------------------------------------------------


@hookspec(firstresult=True)
def gaia_check_health(level: "HealthLevel") -> "Awaitable[Health]":  # type: ignore[empty-body]
    """
    Check how far the provider can be reached; never spend money.

    ::

        @hookimpl
        async def gaia_check_health(self, level: HealthLevel) -> Health:
            if level is HealthLevel.CONFIGURED:
                return Health(level=level, is_healthy=True)
            models = await self.client().list_models()
            return Health(level=HealthLevel.AUTHORISED, is_healthy=bool(models))

    Args:
        level: How far to go.

    Returns:
        An awaitable of what was found.
    """


@hookspec(firstresult=True)
def gaia_recover(  # type: ignore[empty-body]
    task_id: str, context: "CallContext"
) -> "Awaitable[ImageResult | PromptResult | DescriptionResult | None]":
    """
    Look up an attempt whose answer was lost.

    ::

        @hookimpl
        async def gaia_recover(
            self, task_id: str, context: CallContext
        ) -> ImageResult | None:
            reply = await self.client().task(task_id)
            return None if reply is None else replies.images(reply)

    Args:
        task_id: The identifier Gaia minted for the attempt.
        context: A fresh context; its task id is the lost attempt's, and its
            ``reference`` is what that one asked to remember.

    Returns:
        An awaitable of what the attempt's own hook would have given, or of None when
        the vendor has certainly never seen it: it may then be made, and paid, anew.

    Raises:
        TaskRunningError: If the vendor is still at work on it: it is asked again.
        ProviderError: One that is definite (refused for good, unusable), where the
            task ended so; any other exception leaves the question open.
    """


@hookspec(firstresult=True)
def gaia_cancel(  # type: ignore[empty-body]
    contexts: "Sequence[CallContext]",
) -> "Awaitable[None]":
    """
    Have the vendor stop what nobody wants any more.

    Called when a person calls a batch off, in whatever process, for its items that
    were sent and not answered; again while some of them are under way; and never
    because a program stops.

    ::

        @hookimpl
        async def gaia_cancel(self, contexts: Sequence[CallContext]) -> None:
            tasks = Counter(one.reference for one in contexts if one.reference)
            for file, unwanted in tasks.items():
                batch = await self.client().batch_of(file)
                if batch is not None and unwanted == batch.lines:
                    await self.client().cancel(batch)

    It settles nothing: what was made all the same comes by ``gaia_generate_many`` or
    ``gaia_recover``, and is paid; what those say was never made is free. Leave alone
    what cannot be stopped, and what others want as well: requests that went out
    together need not belong to the same batch. Errors are logged.

    Args:
        contexts: Fresh contexts of the attempts, each with its task id and, in
            ``reference``, what it asked to remember.
    """


@hookspec
def gaia_commands() -> "Sequence[click.Command]":  # type: ignore[empty-body]
    """
    Give commands of your own for the ``gaia`` command.

    Called for ``gaia --help``, and when somebody asks for a command that Gaia does
    not have: cheap, no network, no SDK import. The provider has its settings and was
    not started. Gaia's own names go first, then those of the higher rank::

        @hookimpl
        def gaia_commands(self) -> Sequence[click.Command]:
            @click.command("hello", help="Say which colour it is.")
            def hello() -> None:
                click.echo(self.colour)

            return [hello]
    """


@hookspec
def gaia_start() -> "Awaitable[None]":  # type: ignore[empty-body]
    """
    Get ready, when a `Gaia` is opened.

    ::

        @hookimpl
        async def gaia_start(self) -> None:
            self.pool = Pool(size=self.pool_size)
    """


@hookspec
def gaia_stop() -> "Awaitable[None]":  # type: ignore[empty-body]
    """
    Let go of everything, when a `Gaia` is closed; the last to start goes first.

    ::

        @hookimpl
        async def gaia_stop(self) -> None:
            await self.pool.close()
    """
