"""
Draws one job, or a batch of jobs of one shape, on the pipeline of a resident model.

A picture depends on its job and its seed alone: each has a generator of its own, on the
CPU, and a scheduler of its own; whatever a call changed in the shared components is put
back, also when it was left in the middle.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import torch

from gaia_core import Capability
from gaia_flux import inputs, loras, previews, tuning, upscaling
from gaia_flux.calls import Call, call_of
from gaia_flux.jobs import Drawn, Job, Picture, Preview, Report
from gaia_flux.prompts import PromptCache, Words, cut_off, encode, joined
from gaia_flux.schedulers import scheduler_of


def draw(
    resident: Any,
    jobs: Sequence[Job],
    report: Report,
    *,
    prompts: PromptCache | None = None,
) -> tuple[Drawn, ...]:
    """
    Draw jobs of one shape, and give one answer per job.

    Args:
        resident: The loaded model.
        jobs: More than one are drawn in one call where they can be.
        report: Called between steps; when it raises `StoppedError`, drawing ends and
            everything is left as it was before.
        prompts: Keeps embeddings; without one every prompt is encoded anew.

    Raises:
        StoppedError: Nobody waits any more.
        PictureError: A picture of a job cannot be read.
        LoraError: A LoRA cannot be used.
        TuningError: A job names an option that is not there.

    """
    prompts = PromptCache(max_bytes=0) if prompts is None else prompts
    if len(jobs) > 1 and can_batch(jobs[0]):
        return _draw_together(resident, jobs, report, prompts)
    drawn = []
    for index, job in enumerate(jobs):
        part = _part_of(report, index, len(jobs))
        drawn.append(_draw_one(resident, job, part, prompts))
    return tuple(drawn)


def can_batch(job: Job) -> bool:
    """Say whether jobs of this shape can share a call: those that start from noise."""
    return (
        job.capability is Capability.TEXT_TO_IMAGE
        and job.image is None
        and not job.reference_images
    )


def _part_of(report: Report, index: int, count: int) -> Report:
    def part(fraction: float, preview: Preview | None) -> None:
        report((index + fraction) / count, preview)

    return part


def _draw_one(resident: Any, job: Job, report: Report, prompts: PromptCache) -> Drawn:
    started = time.perf_counter()
    report(0.0, None)
    if job.capability is Capability.UPSCALING:
        return upscaling.upscale(resident, job, report, prompts=prompts)
    with _prepared(resident, job) as (pipeline, call):
        run = _Run(resident=resident, pipeline=pipeline, call=call, job=job)
        embeddings = run.embeddings([job], prompts)
        pictures = []
        for index, seed in enumerate(job.seeds):
            part = _part_of(report, index, len(job.seeds))
            pictures.extend(run.pictures([seed], embeddings, part))
    return Drawn(
        pictures=tuple(pictures),
        warnings=call.warnings + run.warnings(job),
        seconds=time.perf_counter() - started,
    )


def _draw_together(
    resident: Any, jobs: Sequence[Job], report: Report, prompts: PromptCache
) -> tuple[Drawn, ...]:
    started = time.perf_counter()
    report(0.0, None)
    each = [job for job in jobs for _ in job.seeds]
    seeds = [seed for job in jobs for seed in job.seeds]
    with _prepared(resident, jobs[0]) as (pipeline, call):
        run = _Run(resident=resident, pipeline=pipeline, call=call, job=jobs[0])
        embeddings = run.embeddings(each, prompts)
        pictures = iter(run.pictures(seeds, embeddings, report))
    seconds = (time.perf_counter() - started) / len(jobs)
    return tuple(
        Drawn(
            pictures=tuple(next(pictures) for _ in job.seeds),
            warnings=call.warnings + run.warnings(job),
            seconds=seconds,
        )
        for job in jobs
    )


@contextmanager
def _prepared(resident: Any, job: Job) -> Iterator[tuple[Any, Call]]:
    """Give a job's pipeline, and clean it up however the context is left."""
    pipeline = resident.pipeline(job.capability)
    pipeline.set_progress_bar_config(disable=True)
    call = call_of(pipeline, job, resident)
    try:
        with loras.wearing(pipeline, resident, job.loras):
            resident.hook(pipeline)
            yield pipeline, call
    except BaseException:
        # A pipeline does this at its end, which one that was stopped never reaches.
        pipeline.maybe_free_model_hooks()
        raise


@attrs.frozen(kw_only=True)
class _Run:
    """One pipeline, and the call it is about to make, perhaps several times."""

    resident: Any
    pipeline: Any
    call: Call
    job: Job

    def embeddings(
        self,
        jobs: Sequence[Job],
        prompts: PromptCache,
    ) -> dict[str, Any]:
        """Encode the prompts of some jobs of the same shape."""
        device = self.resident.device
        found = []
        for job in jobs:
            words = self._words(job)
            if job.loras:  # they may change the text encoders
                found.append(dict(encode(self.pipeline, words, device)))
                continue
            found.append(
                prompts.of(
                    self.pipeline,
                    words,
                    identity=_identity(self.resident),
                    device=device,
                )
            )
        return joined(found)

    def warnings(self, job: Job) -> tuple[str, ...]:
        """Say what of a job's prompts is not read, and which opt-ins act."""
        quantisation = self.resident.plan.quantisation
        return (
            *cut_off(self.pipeline, self._words(job)),
            *tuning.sentences(quantisation=quantisation),
            *self._about_step_cache(),
        )

    def _about_step_cache(self) -> tuple[str, ...]:
        problem = self._why_no_step_cache()
        if problem is not None:
            return (f"step cache {self.job.step_cache} was left out: {problem}",)
        return tuning.sentences(step_cache=self.job.step_cache)

    def _why_no_step_cache(self) -> str | None:
        name = self.job.step_cache
        if name is None:
            return None
        problem = tuning.why_not_cached(name, self.resident)
        if problem is not None:
            return problem
        is_guided = self.call.words.is_guided
        if is_guided and not tuning.names_its_calls(self.pipeline):
            return "every step makes two passes, which it cannot tell apart here"
        is_calibrated = tuning.STEP_CACHES[name].families is not None
        if is_calibrated and self.call.steps < self.job.num_inference_steps:
            return "it was calibrated for pictures that begin with the first step"
        return None

    def _words(self, job: Job) -> Words:
        return attrs.evolve(
            self.call.words, prompt=job.prompt, negative_prompt=job.negative_prompt
        )

    def pictures(
        self, seeds: Sequence[int], embeddings: dict[str, Any], report: Report
    ) -> list[Picture]:
        """Make the call: one picture per seed."""
        self.pipeline.scheduler = scheduler_of(self.pipeline, self.job.scheduler)
        steps = _Steps(
            report=report, count=self.call.steps, previewer=self._previewer()
        )
        with self._step_cache():
            images = self.pipeline(
                **self.call.arguments,
                **embeddings,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                callback_on_step_end=steps,
            ).images
        report(1.0, None)
        return [
            inputs.picture_of(self.call.finish(image), seed)
            for image, seed in zip(images, seeds, strict=True)
        ]

    def _step_cache(self) -> Any:
        name = self.job.step_cache if self._why_no_step_cache() is None else None
        return tuning.cached_steps(self.pipeline, name, self.job.num_inference_steps)

    def _previewer(self) -> previews.Previewer | None:
        if not self.job.has_previews:
            return None
        # Fitted before the call: in the middle of one, an offloaded backbone would
        # have to make room for the autoencoder.
        previews.projection(self.pipeline.vae)
        canvas = self.call.canvas
        return previews.Previewer(
            vae=self.pipeline.vae,
            width=canvas.drawn_width,
            height=canvas.drawn_height,
        )


@attrs.define(eq=False, kw_only=True)
class _Steps:
    """What a pipeline calls after every step."""

    report: Report
    count: int
    previewer: previews.Previewer | None

    def __call__(
        self, pipeline: Any, step: int, _timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        count = max(getattr(pipeline, "num_timesteps", self.count), 1)
        preview = None
        if self.previewer is not None and self.previewer.is_due(step, count):
            preview = self.previewer.preview(tensors["latents"])
        # One more than the steps: the autoencoder has its turn after them.
        self.report(min((step + 1) / (count + 1), 1.0), preview)
        return tensors


def _identity(resident: Any) -> str:
    """Equal where text encoders and their precision are."""
    own = getattr(resident, "encoders", None)
    return f"{own or resident.spec.id}:{resident.dtype}"
