"""
What the hooks work with, once one of them has work.

It is imported then: listing models needs nothing of it.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

import attrs

from gaia_core import (
    CallContext,
    DescribeImageRequest,
    EnhancePromptRequest,
    GenerateRequest,
    ImageResult,
    ProviderError,
    Secret,
)
from gaia_parasail import calls, payloads, replies
from gaia_parasail.batches import Answer, BatchRun
from gaia_parasail.cancelling import Cancelling
from gaia_parasail.clients import Clients
from gaia_parasail.desks import Desk, Reference
from gaia_parasail.downloads import Downloads
from gaia_parasail.lookups import Lookups
from gaia_parasail.loops import PerLoop
from gaia_parasail.merging import merged
from gaia_parasail.models import NAME, Endpoint, ModelSettings
from gaia_parasail.replies import Reply

# Reading a larger answer takes long enough to belong into a thread.
_LARGE = 4 * 1024 * 1024


@attrs.define(eq=False, kw_only=True)
class Service:
    """
    One service, at one address, with one key.

    Attributes:
        base_url: Where it is asked.
        api_key: The key.
        timeout: Seconds until an answer is given up.
        poll_interval: Seconds between two looks at a batch, at first.
        result_hosts: The only other hosts results lie on; empty: any public host.
        max_file_bytes: Largest file of a batch.
    """

    base_url: str
    api_key: Secret | None = attrs.field(repr=False)
    timeout: float
    poll_interval: float
    result_hosts: frozenset[str]
    max_file_bytes: int
    _clients: Clients = attrs.field(init=False, repr=False)
    _lookups: PerLoop[Lookups] = attrs.field(init=False, repr=False)
    _cancelling: Cancelling = attrs.field(init=False, repr=False)

    @_clients.default
    def _own_clients(self) -> Clients:
        return Clients(
            base_url=self.base_url, api_key=self.api_key, timeout=self.timeout
        )

    @_lookups.default
    def _none_yet(self) -> PerLoop[Lookups]:
        return PerLoop(self._new_lookups)

    @_cancelling.default
    def _nothing_yet(self) -> Cancelling:
        return Cancelling(desk=self._desk)

    async def names(self) -> Sequence[str]:
        """Ask which models there are; it answers all at once, and it is free."""
        content = await self._clients.ask(
            lambda client: client.models.with_raw_response.list()
        )
        return replies.names(replies.read(content))

    async def generate(
        self, request: GenerateRequest, model: ModelSettings, context: CallContext
    ) -> ImageResult:
        """Have pictures made at once."""
        payload = payloads.generation(request, model)
        if model.endpoint is Endpoint.EDITS:
            brought = await asyncio.to_thread(payloads.pictures, request, model)
            call = calls.edit(payload, brought, context)
        else:
            call = calls.generation(payload, context)
        reply = await self._reply(call)
        return await replies.collected(reply, payloads.wanted(request, model), context)

    async def enhance(
        self, request: EnhancePromptRequest, context: CallContext
    ) -> Reply:
        """Have a prompt worked out."""
        return await self._reply(calls.chat(payloads.enhancement(request), context))

    async def describe(
        self, request: DescribeImageRequest, context: CallContext
    ) -> Reply:
        """Have a picture looked at."""
        payload = await asyncio.to_thread(payloads.description, request)
        return await self._reply(calls.chat(payload, context))

    def many(
        self,
        requests: Sequence[GenerateRequest],
        contexts: Sequence[CallContext],
        models: Mapping[str, ModelSettings],
    ) -> AsyncGenerator[Answer, None]:
        """Have many pictures made; not every service mixes models in a file."""
        groups: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(request.model or "", []).append(place)
        return merged(
            self._stream(
                models[name],
                [requests[place] for place in places],
                [contexts[place] for place in places],
            )
            for name, places in groups.items()
        )

    async def recover(self, task_id: str, context: CallContext) -> ImageResult | None:
        """
        Look up a request that went out in a batch.

        Returns:
            The pictures, or None: it was certainly never carried out.

        Raises:
            ProviderError: If it was none of those, or nobody can tell yet.
        """
        if context.reference == "":
            # Handed over with others, and nothing remembered: nothing was ordered.
            return None
        reference = Reference.read(context.reference or "")
        if reference is None or reference.file is None:
            message = f"{NAME} keeps no record of requests that are answered at once."
            raise ProviderError(message)
        return await self._lookups.here().find(reference, task_id, context)

    async def cancel(self, contexts: Sequence[CallContext]) -> None:
        """Have batches stopped of which nobody wants anything any more."""
        await self._cancelling.stop(contexts)

    async def close(self) -> None:
        """Close the connections of all loops, and throw away what was fetched."""
        await self._lookups.close(Lookups.close)
        await self._clients.close()

    def _stream(
        self,
        model: ModelSettings,
        requests: Sequence[GenerateRequest],
        contexts: Sequence[CallContext],
    ) -> AsyncGenerator[Answer, None]:
        """Have requests for one model made; it is one that answers in batches."""
        run = BatchRun(
            desk=self._desk,
            downloads=self._downloads,
            model=model,
            requests=requests,
            contexts=contexts,
            max_bytes=self.max_file_bytes,
            poll_interval=self.poll_interval,
        )
        return run.answers()

    def _new_lookups(self) -> Lookups:
        return Lookups(
            desk=self._desk, downloads=self._downloads, interval=self.poll_interval
        )

    @property
    def _desk(self) -> Desk:
        return Desk(clients=self._clients)

    @property
    def _downloads(self) -> Downloads:
        return Downloads(
            clients=self._clients,
            base_url=self.base_url,
            result_hosts=self.result_hosts,
        )

    async def _reply(self, call: calls.Call) -> Reply:
        """Send what costs money, once, and read what comes back."""
        content = await self._clients.ask(call)
        if len(content) < _LARGE:
            return replies.read(content)
        return await asyncio.to_thread(replies.read, content)
