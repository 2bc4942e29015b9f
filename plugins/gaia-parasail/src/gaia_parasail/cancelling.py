"""
Calling the service's batches off, where nobody wants anything of them any more.

A batch of the service may hold requests of several batches of Gaia's: it is left alone
until all of them are given up.
"""

from collections.abc import Iterable, Sequence

import attrs

from gaia_core import CallContext, ProviderError
from gaia_parasail.desks import BatchState, Desk, Reference


@attrs.define(eq=False, kw_only=True)
class _File:
    """A file with requests that are given up."""

    reference: Reference
    tasks: set[str] = attrs.field(factory=set)

    def add(self, reference: Reference, task_id: str) -> None:
        """Note one more request, and the batch where that is known."""
        self.tasks.add(task_id)
        if reference.batch is not None:
            self.reference = reference

    def is_all_of(self, state: BatchState) -> bool:
        """Tell whether every request of the batch is given up."""
        lines = self.reference.lines or state.total
        return 0 < lines <= len(self.tasks)


@attrs.define(eq=False, kw_only=True)
class Cancelling:
    """
    Has batches stopped.

    Attributes:
        desk: Where they are ordered, and looked at.
    """

    desk: Desk
    # One batch of Gaia's may be called off today, and its neighbour tomorrow.
    _files: dict[str, _File] = attrs.field(factory=dict, init=False)

    async def stop(self, contexts: Sequence[CallContext]) -> None:
        """
        Stop the batches of which everything is given up; leave and log the others.

        Raises:
            ProviderError: If the service cannot be asked which batches there are.
        """
        names = self._noted(contexts)
        known = {name: self._files[name].reference.batch for name in names}
        if None in known.values():
            listed = await self.desk.by_file()
            known = {name: own or listed.get(name) for name, own in known.items()}
        log = contexts[0].logger
        for name, batch_id in known.items():
            if batch_id is None:
                # Never ordered, or not yet: whoever orders it is asked again.
                continue
            try:
                outcome = await self._stop(self._files[name], batch_id)
            except ProviderError as error:
                log.warning(
                    "gaia.batch_not_cancelled", vendor_batch=batch_id, error=str(error)
                )
                continue
            log.info("gaia.batch_called_off", vendor_batch=batch_id, outcome=outcome)

    def _noted(self, contexts: Iterable[CallContext]) -> Sequence[str]:
        """Note what is given up; give the files concerned."""
        names: dict[str, None] = {}
        for context in contexts:
            reference = Reference.read(context.reference or "")
            if reference is None or reference.file is None:
                continue
            file = self._files.setdefault(reference.file, _File(reference=reference))
            file.add(reference, context.task_id)
            names[reference.file] = None
        return list(names)

    async def _stop(self, file: _File, batch_id: str) -> str:
        """Stop a batch if that is right; say what became of it."""
        state = await self.desk.state(batch_id)
        if not state.can_be_stopped:
            self._files.pop(file.reference.file or "", None)
            return state.status
        if not file.is_all_of(state):
            return "left_to_others"
        return await self.desk.stop(batch_id)
