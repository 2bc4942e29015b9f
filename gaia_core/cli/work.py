"""Asking for work: a plan for those who only look, a response for the others."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gaia_core import Gaia, GaiaError, NoCapableProviderError
from gaia_core.cli.failures import EXAMPLES_PER_PROVIDER, ExitCode
from gaia_core.cli.options import Choices
from gaia_core.cli.phrases import ADVICE_WITHOUT_PROVIDERS, show_amount
from gaia_core.cli.progress import show_progress
from gaia_core.cli.sessions import Session
from gaia_core.cli.shapes import price_span, shape_plan
from gaia_core.cli.tables import clean, group_reasons, print_table
from gaia_core.cli.writing import print_json, print_line, say
from gaia_core.requests import Request
from gaia_core.responses import Response
from gaia_core.selection import Candidate, Plan

if TYPE_CHECKING:
    from gaia_core.plugins import Plugins

VERBS: Mapping[str, str] = {
    "GenerateRequest": "generate",
    "UpscaleRequest": "upscale",
    "RemoveBackgroundRequest": "remove_background",
    "EnhancePromptRequest": "enhance_prompt",
    "DescribeImageRequest": "describe_image",
}
"""Kind of a request to the method of `Gaia` that serves it."""

Show = Callable[[Response], None]
"""Prints what came back."""


def serve(
    session: Session, request: Request, choices: Choices, label: str, show: Show
) -> int:
    """Show the plan of a request, or have it served and show what came back."""
    if choices.is_dry_run:
        return _show_plan(session, request, choices)
    response = _ask(session, request, choices, label)
    _tell(response)
    try:
        show(response)
    except GaiaError as error:
        # It was made and paid: a caller needs to know which operation it was.
        error.operation_id, error.attempts = response.operation_id, response.attempts
        raise
    return ExitCode.DONE


def _ask(session: Session, request: Request, choices: Choices, label: str) -> Response:
    session.silence()
    with show_progress(label) as progress:

        async def work(gaia: Gaia) -> Response:
            verb = getattr(gaia, VERBS[type(request).__name__])
            await _look_for_model(gaia, request)
            try:
                response: Response = await verb(
                    request,
                    timeout=choices.timeout,
                    progress=progress,
                    **choices.preferences,
                )
            except NoCapableProviderError as error:
                message = str(error).partition("\n")[0]
                reasons = complete_reasons(error.reasons, request, gaia.plugins)
                raise NoCapableProviderError(message, reasons) from None
            return response

        return session.run(work)


async def _look_for_model(gaia: Gaia, request: Request) -> None:
    """Look in the catalogues for a model that is in no list: one found before."""
    name, provider = request.model, request.provider
    if name is None or provider not in {None, *gaia.plugins.providers}:
        return
    if not any(model.answers_to(name) for model in await gaia.models()):
        await gaia.models(search=name, provider=provider)


def _tell(response: Response) -> None:
    """Pass on what was not honoured, and who served it at which price."""
    for warning in response.warnings:
        say(clean(f"warning: {warning}"))
    if sys.stderr.isatty():
        cost = show_amount(response.cost_usd)
        seconds = response.duration_ms / 1_000
        who = f"{response.provider}/{response.model}"
        kept = ", made before" if response.is_reused else ""
        say(clean(f"{who}, {cost}, {seconds:.1f} s{kept}"))


# -- plans ------------------------------------------------------------------------


def _show_plan(session: Session, request: Request, choices: Choices) -> int:
    async def work(gaia: Gaia) -> tuple[Plan, dict[str, str]]:
        await _look_for_model(gaia, request)
        plan = gaia.plan(request, **choices.preferences)
        return plan, complete_reasons(plan.reasons, request, gaia.plugins)

    plan, reasons = session.run(work)
    if choices.is_json:
        print_json(shape_plan(plan, reasons))
    else:
        _print_plan(plan, reasons, is_complete=choices.is_complete)
    return ExitCode.DONE if plan.candidates else ExitCode.NOBODY


def complete_reasons(
    reasons: Mapping[str, str], request: Request, plugins: "Plugins"
) -> dict[str, str]:
    """Add the reasons selection cannot know: what is not installed or not loaded."""
    not_loaded, named = _not_loaded(plugins), request.provider
    if named in {*plugins.providers, *plugins.disabled}:
        return dict(reasons)
    if named is not None:
        return {**reasons, named: not_loaded.get(named) or _not_installed(plugins)}
    has_any = reasons or not_loaded or plugins.providers
    nobody = {} if has_any else {"gaia": ADVICE_WITHOUT_PROVIDERS}
    return {**not_loaded, **reasons, **nobody}


def _not_loaded(plugins: "Plugins") -> dict[str, str]:
    """Say of every plugin that is installed and not at work, why it is not."""
    failed = {one.plugin: f"failed to load: {one.reason}" for one in plugins.failures}
    skipped = {
        one.plugin: one.status
        for one in plugins.installed
        if one.status not in {"loaded", "failed"}
    }
    return {**skipped, **failed}


def _not_installed(plugins: "Plugins") -> str:
    names = sorted(plugins.providers)
    advice = f"there is {', '.join(names)}" if names else ADVICE_WITHOUT_PROVIDERS
    return f"not installed; {advice}"


def _print_plan(plan: Plan, reasons: Mapping[str, str], *, is_complete: bool) -> None:
    if plan.candidates:
        rows = [
            _row(place, candidate)
            for place, candidate in enumerate(plan.candidates, start=1)
        ]
        print_table(("", "Provider", "Model", "Priority", "Price", "Quality"), rows)
        print_line()
        print_line(_estimate(plan))
    else:
        print_line(f"Nobody can serve this {plan.request.capability} request.")
    if reasons:
        print_line()
        print_line("Passed over:")
    for line in _reason_lines(reasons, is_complete=is_complete):
        print_line(f"  {line}")


def _reason_lines(reasons: Mapping[str, str], *, is_complete: bool) -> list[str]:
    if is_complete:
        return [clean(f"{name}: {reason}") for name, reason in reasons.items()]
    return group_reasons(reasons, limit=EXAMPLES_PER_PROVIDER)


def _row(place: int, candidate: Candidate) -> tuple[str, ...]:
    quality = str(candidate.model.quality)
    return (
        str(place),
        candidate.provider,
        candidate.model.id,
        str(candidate.priority),
        show_amount(candidate.price_usd),
        f"{quality} (substitute)" if candidate.is_substitute else quality,
    )


def _estimate(plan: Plan) -> str:
    first, highest = price_span(plan)
    if highest is None or first is None or highest == first:
        return f"Estimate: {show_amount(first)}"
    return f"Estimate: {show_amount(first)}, at most {show_amount(highest)}"
