"""
The hooks of the embedded default.

The networks and their libraries are imported in the first hook that works: they
take half a second, and listing models needs none of them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from gaia_core import (
    CallContext,
    Capability,
    GenerateRequest,
    Health,
    HealthLevel,
    ImageResult,
    ModelInfo,
    ProviderInfo,
    RemoveBackgroundRequest,
    UpscaleRequest,
    hookimpl,
    setting,
)
from gaia_offline.errors import translated
from gaia_offline.models import (
    CUTOUT,
    MODELS,
    NAME,
    PHOTO,
    WEIGHT_FILES,
    WEIGHTS,
)
from gaia_offline.workers import Report, Workers

if TYPE_CHECKING:
    from gaia_offline.jobs import Drawn

    Job = Callable[[Report], Drawn]

_CAPABILITIES = frozenset(
    {
        Capability.TEXT_TO_IMAGE,
        Capability.UPSCALING,
        Capability.BACKGROUND_REMOVAL,
    }
)


@attrs.define(eq=False, kw_only=True)
class OfflineProvider:
    """
    Draws, enlarges and cuts out on the CPU, with weights of its own.

    Attributes:
        workers: How many pictures are worked on at once.
        photo_model: ONNX file of the photographic upscaler; see the README.
    """

    workers: int = setting(
        default=1,
        validator=attrs.validators.in_(range(1, 65)),
        help="How many pictures are worked on at once.",
    )
    photo_model: Path | None = setting(
        default=None, help="ONNX file of the photographic upscaler."
    )
    _workers: Workers = attrs.field(init=False)

    @_workers.default
    def _default_workers(self) -> Workers:
        return Workers(self.workers)

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say what can be done here; nothing is needed for it."""
        return ProviderInfo(
            name=NAME,
            capabilities=_CAPABILITIES,
            priority=0,
            display_name="Embedded default",
        )

    @hookimpl
    async def gaia_list_models(self) -> Sequence[ModelInfo]:
        """List what ships inside."""
        return MODELS if self.photo_model is None else (*MODELS, PHOTO)

    @hookimpl
    async def gaia_generate(
        self, request: GenerateRequest, context: CallContext
    ) -> ImageResult:
        """Draw things with the tile model, and maps with mapwright."""
        with translated():
            from gaia_offline import jobs, payloads  # noqa: PLC0415

            wanted = payloads.drawings(request)
            drawn = await self._run(partial(jobs.draw_all, wanted), context)
            return _result(request, drawn)

    @hookimpl
    async def gaia_upscale(
        self, request: UpscaleRequest, context: CallContext
    ) -> ImageResult:
        """Enlarge with Real-ESRGAN."""
        with translated():
            from gaia_offline import jobs  # noqa: PLC0415

            work = partial(jobs.enlarge, request, self.photo_model)
            return _result(request, await self._run(work, context))

    @hookimpl
    async def gaia_remove_background(
        self, request: RemoveBackgroundRequest, context: CallContext
    ) -> ImageResult:
        """Cut out with U-2-Net."""
        with translated():
            from gaia_offline import jobs  # noqa: PLC0415

            work = partial(jobs.cut_out, request)
            return _result(request, await self._run(work, context))

    @hookimpl
    async def gaia_check_health(self, level: HealthLevel) -> Health:
        """Check that the weights are there; there is nobody else to ask."""
        weights = [WEIGHTS / name for name in WEIGHT_FILES]
        if self.photo_model is not None:
            weights.append(self.photo_model)
        missing = ", ".join(path.name for path in weights if not path.is_file())
        reason = f"weights are missing: {missing}" if missing else None
        return Health(level=level, is_healthy=not missing, reason=reason)

    @hookimpl
    async def gaia_stop(self) -> None:
        """Let the threads go."""
        await self._workers.close()

    async def _run(self, work: "Job", context: CallContext) -> "Drawn":
        return await self._workers.run(work, context.progress)


def _result(
    request: GenerateRequest | UpscaleRequest | RemoveBackgroundRequest,
    drawn: "Drawn",
) -> ImageResult:
    return ImageResult(
        images=drawn.images,
        provider=NAME,
        model=request.model or CUTOUT,
        warnings=drawn.warnings,
    )
