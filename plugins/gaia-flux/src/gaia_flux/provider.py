"""
The hooks of local drawing.

Torch and diffusers are imported by the worker, when the first picture is asked for:
they take seconds, and listing models needs neither.
"""

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from gaia_core import (
    CallContext,
    GenerateRequest,
    Health,
    HealthLevel,
    ImageResult,
    ModelError,
    ModelInfo,
    ProviderInfo,
    ProviderUnavailableError,
    Secret,
    UpscaleRequest,
    hookimpl,
    setting,
)
from gaia_core.observability import get_logger
from gaia_flux import availability, fields, payloads, replies
from gaia_flux.cards import Cards, absent, told_by
from gaia_flux.errors import translated
from gaia_flux.families import FAMILIES
from gaia_flux.jobs import Job, Preview
from gaia_flux.models import ModelSpec, specs_of
from gaia_flux.options import (
    ATTENTIONS,
    DTYPES,
    QUANTISATIONS,
    STEP_CACHES,
    nearest,
    shown,
)
from gaia_flux.paces import Paces
from gaia_flux.payloads import NAME, Loras
from gaia_flux.setups import Setup
from gaia_flux.workers import Worker, worker_of

if TYPE_CHECKING:
    import click

PRIORITY = 90
_MAX_ATTEMPTS = 2
"""A failing device fails again; a worker that died deserves one more try."""
_AT_ONCE, _AT_ONCE_BATCHING = 2, 16
"""One is drawn while the one before is encoded; a batch has to come together."""
_SHORTEST_WINDOW, _LONGEST_WINDOW = 0.005, 0.020
_MOST_THREADS = 256

_optional = attrs.validators.optional
_is_positive = attrs.validators.and_(fields.is_finite, attrs.validators.gt(0))
_is_device = attrs.validators.matches_re(r"auto|cpu|mps|cuda(:\d{1,2})?")


@attrs.define(eq=False, kw_only=True)
class FluxProvider:
    """Draws on this machine's card, with models that were pulled before."""

    device: str = setting(
        default="auto",
        validator=_is_device,
        help='"cuda", "cuda:1", "mps" or "cpu"; "auto" takes an accelerator.',
    )
    dtype: str = setting(
        default="auto",
        validator=fields.one_of(*DTYPES),
        help='Precision: "bfloat16", "float16" or "float32"; "auto" suits the device.',
    )
    vram_gb: float | None = setting(
        default=None,
        validator=_optional(_is_positive),
        help="How much memory models may take, in GB; without it: what is free.",
    )
    default_model: str | None = setting(
        default=None, help="The model that is taken when a request names none."
    )
    models: Mapping[str, Mapping[str, Any]] = setting(
        factory=dict, help="Models of your own: identifier to family and path."
    )
    loras: Mapping[str, Path] = setting(
        factory=dict,
        converter=fields.paths,
        help="LoRAs that requests may name: name to safetensors file.",
    )
    loras_folder: Path | None = setting(
        default=None,
        converter=fields.expanded,
        help="A folder of safetensors files that requests may name as LoRAs.",
    )
    home: Path | None = setting(
        default=None,
        converter=fields.expanded,
        env=("HF_HUB_CACHE",),
        help="Where pulled models lie; without it: the hub's own cache.",
    )
    token: Secret | None = setting(
        default=None,
        env=("HUGGING_FACE_KEY", "HF_TOKEN"),
        help="The hub's token, for gated models; only `gaia flux pull` sends it.",
    )
    quantisation: str | None = setting(
        default=None,
        validator=fields.one_of(None, *QUANTISATIONS),
        help='"int8" or "fp8": half the memory, slightly other pictures.',
    )
    step_cache: str | None = setting(
        default=None,
        validator=fields.one_of(None, *STEP_CACHES),
        help="Leave out work between steps: faster, slightly other pictures.",
    )
    attention: str = setting(
        default="auto",
        validator=fields.one_of(*ATTENTIONS),
        help='The attention kernel; "auto" takes the best exact one.',
    )
    compile: bool = setting(default=False, help="Whether repeated blocks are compiled.")
    warm_up: Sequence[str] = setting(
        factory=tuple,
        converter=fields.strings,
        help="Models that are loaded at once, before anybody asks.",
    )
    previews: bool = setting(default=True, help="Whether to show small pictures early.")
    batching: bool = setting(
        default=False, help="Whether equal small requests are drawn together."
    )
    batch_window: float = setting(
        default=0.010,
        validator=attrs.validators.and_(
            attrs.validators.ge(_SHORTEST_WINDOW), attrs.validators.le(_LONGEST_WINDOW)
        ),
        help="Seconds that the first of a batch waits, 0.005 to 0.020.",
    )
    isolated: bool = setting(
        default=False, help="Whether the worker has a process of its own."
    )
    threads: int | None = setting(
        default=None,
        validator=_optional(attrs.validators.in_(range(1, _MOST_THREADS + 1))),
        help="Threads on the processor; without it: torch's own choice.",
    )
    usd_per_gpu_second: Decimal = setting(
        default=Decimal(0),
        validator=[fields.is_finite, attrs.validators.ge(0)],
        help="What a second of the device costs, in US dollars.",
    )
    _specs: Mapping[str, ModelSpec] = attrs.field(init=False, repr=False)
    _setup: Setup = attrs.field(init=False, repr=False)
    _worker: Worker = attrs.field(init=False, repr=False)
    _paces: Paces = attrs.field(factory=Paces, init=False, repr=False)
    _cards: Cards = attrs.field(init=False, repr=False)
    _info: ProviderInfo | None = attrs.field(default=None, init=False, repr=False)
    _warming: "asyncio.Task[None] | None" = attrs.field(
        default=None, init=False, repr=False
    )

    @_specs.default
    def _default_specs(self) -> Mapping[str, ModelSpec]:
        return specs_of(self.models)

    @_setup.default
    def _default_setup(self) -> Setup:
        return Setup(
            device=self.device,
            dtype=self.dtype,
            vram_gb=self.vram_gb,
            models=self._specs,
            home=self.home,
            quantisation=self.quantisation,
            step_cache=self.step_cache,
            attention=self.attention,
            is_compiled=self.compile,
            has_batching=self.batching,
            batch_window=self.batch_window,
            is_isolated=self.isolated,
            warm_up=[self._spec(name).id for name in self.warm_up],
            has_previews=self.previews,
            threads=self.threads,
        )

    @_worker.default
    def _default_worker(self) -> Worker:
        return worker_of(self._setup)

    @_cards.default
    def _default_cards(self) -> Cards:
        return Cards(
            setup=self._setup,
            loras=self._loras(),
            usd_per_second=self.usd_per_gpu_second,
            loaded=self._worker.loaded,
            paces=self._paces,
        )

    def __attrs_post_init__(self) -> None:
        """Refuse a default model that is none."""
        if self.default_model is not None:
            self._spec(self.default_model)

    # -- who are you ------------------------------------------------------------------

    @hookimpl
    def gaia_provider_info(self) -> ProviderInfo:
        """Say what can be drawn here; worked out when first asked, and kept."""
        if self._info is None:
            self._info = self._worked_out()
        return self._info

    @hookimpl
    async def gaia_list_models(self) -> Sequence[ModelInfo]:
        """List catalogue and own models; each tells whether it is here."""
        return await asyncio.to_thread(self._cards.all, self.default_model)

    @hookimpl
    def gaia_commands(self) -> "Sequence[click.Command]":
        """Give `gaia flux pull` and `gaia flux list`."""
        from gaia_flux.commands import commands_of  # noqa: PLC0415  click is not free

        return commands_of(self._specs, home=self.home, token=self.token)

    # -- work -------------------------------------------------------------------------

    @hookimpl
    async def gaia_generate(
        self, request: GenerateRequest, context: CallContext
    ) -> ImageResult:
        """Draw from words, and from a picture where there is one."""
        with translated():
            spec = self._present(request.model)
            job_of = partial(
                payloads.generation,
                request,
                task_id=context.task_id,
                spec=spec,
                family=FAMILIES[spec.family],
                loras=self._loras(),
                step_cache=self.step_cache,
                has_previews=self.previews,
            )
            # A folder of LoRAs is looked through: it may be large, or far away.
            job = await asyncio.to_thread(job_of) if request.loras else job_of()
            return await self._drawn(job, context)

    @hookimpl
    async def gaia_upscale(
        self, request: UpscaleRequest, context: CallContext
    ) -> ImageResult:
        """Enlarge a picture."""
        with translated():
            spec = self._present(request.model)
            job = payloads.upscaling(
                request,
                task_id=context.task_id,
                spec=spec,
                family=FAMILIES[spec.family],
            )
            return await self._drawn(job, context)

    @hookimpl
    async def gaia_recover(self, task_id: str, context: CallContext) -> None:
        """
        Say that nothing is known of a task: what was under way died with its process.

        So it is drawn anew, which costs nobody anything but the device's time.
        """

    # -- upkeep -----------------------------------------------------------------------

    @hookimpl
    async def gaia_check_health(self, level: HealthLevel) -> Health:
        """Tell about the device and the models; above the settings, ask the worker."""
        reason = self.gaia_provider_info().unavailable
        notes = await asyncio.to_thread(self._cards.notes)
        if reason is not None:
            return Health(
                level=HealthLevel.CONFIGURED,
                is_healthy=False,
                reason=reason,
                notes=notes,
            )
        if level is HealthLevel.CONFIGURED:
            return Health(level=level, is_healthy=True, notes=notes)
        with translated():
            figures = await self._worker.figures()
        return Health(level=level, is_healthy=True, notes=(*told_by(figures), *notes))

    @hookimpl
    async def gaia_start(self) -> None:
        """Load what the settings want loaded at once, in the background."""
        is_wanted = self._setup.warm_up and self._warming is None
        if is_wanted and self.gaia_provider_info().unavailable is None:
            self._warming = asyncio.create_task(self._warm_up())

    @hookimpl
    async def gaia_stop(self) -> None:
        """Stop what is under way, and let go of the device."""
        warming, self._warming = self._warming, None
        if warming is not None:
            warming.cancel()
            await asyncio.wait({warming})
        await self._worker.close()

    # -- inside -----------------------------------------------------------------------

    def _worked_out(self) -> ProviderInfo:
        families = [FAMILIES[spec.family] for spec in self._specs.values()]
        return ProviderInfo(
            name=NAME,
            # Of all models, also of those that are absent: whoever asks for what
            # only they can do is told how to get one.
            capabilities={one for family in families for one in family.pipelines},
            priority=PRIORITY,
            display_name="Local FLUX",
            unavailable=availability.why_unavailable(self.device),
            max_concurrent=_AT_ONCE_BATCHING if self.batching else _AT_ONCE,
            max_attempts=_MAX_ATTEMPTS,
        )

    def _loras(self) -> Loras:
        return Loras(files=self.loras, folder=self.loras_folder)

    def _spec(self, name: str | None) -> ModelSpec:
        for spec in self._specs.values():
            if name == spec.id or name in spec.aliases:
                return spec
        names = [
            one for spec in self._specs.values() for one in (spec.id, *spec.aliases)
        ]
        message = (
            f"{NAME} has no model {shown(name)}: {nearest(str(name), names)} "
            "`gaia flux list` tells which are here."
        )
        raise ValueError(message)

    def _present(self, name: str | None) -> ModelSpec:
        """Find a model whose files are here."""
        try:
            spec = self._spec(name)
        except ValueError as error:
            raise ModelError(str(error)) from error
        if not self._cards.is_here(spec):
            message = f"{absent(spec)}."
            raise ModelError(message)
        return spec

    async def _drawn(self, job: Job, context: CallContext) -> ImageResult:
        """Have a job drawn until nobody waits, and encode the pictures."""
        report = partial(_report, context)
        limit = asyncio.timeout(context.seconds_left)
        try:
            async with limit:
                (drawn,) = await self._worker.draw([job], report)
        except TimeoutError as error:
            if not limit.expired():  # a file system's, for instance
                raise
            message = (
                f"{job.model} was not done in time, and was stopped: allow more time, "
                "or ask for fewer steps or a smaller picture."
            )
            raise ProviderUnavailableError(message) from error
        self._paces.note(job, drawn)
        encode = partial(
            replies.result_of,
            drawn,
            provider=NAME,
            model=job.model,
            usd_per_second=self.usd_per_gpu_second,
        )
        return await asyncio.to_thread(encode)

    async def _warm_up(self) -> None:
        for model in self._setup.warm_up:
            try:
                await self._worker.warm_up(model)
            except Exception as error:  # noqa: BLE001  a request will say so properly
                get_logger(provider=NAME).warning(
                    "gaia.flux_warm_up_failed", model=model, error=str(error)
                )


def _report(context: CallContext, fraction: float, preview: Preview | None) -> None:
    """Pass a report on, in whatever thread it is made."""
    shown = None if preview is None else replies.preview_of(preview)
    context.progress(fraction, shown)
