"""
Traces through OpenTelemetry, where a host has set it up.

One span for each operation, a child for each attempt, in the words of the semantic
conventions for generative AI. What was asked for is not in them: prompts may hold
anything. Nothing is imported for it: who traces has loaded OpenTelemetry already.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs

from gaia_core.capabilities import Capability
from gaia_core.errors import GaiaError, OutcomeUnknownError

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SCOPE = "gaia_core"
"""What the spans are recorded under."""

_TRACE = "opentelemetry.trace"
_NAMES = {
    Capability.PROMPT_ENHANCEMENT: "enhance_prompt",
    Capability.IMAGE_DESCRIPTION: "describe_image",
    Capability.UPSCALING: "upscale",
    Capability.BACKGROUND_REMOVAL: "remove_background",
}
_GENERATE = "generate_content"
_WORDS = frozenset({Capability.PROMPT_ENHANCEMENT, Capability.IMAGE_DESCRIPTION})


@attrs.frozen
class Traced:
    """
    One span, or nothing where nobody traces.

    Attributes:
        span: The span.
    """

    span: "Span | None" = None

    def note(self, **facts: Any) -> None:
        """Add facts; a dot in a name is written as two underscores."""
        if self.span is not None:
            for name, value in facts.items():
                if value is not None:
                    self.span.set_attribute(_dotted(name), _plain(value))

    def event(self, name: str, **facts: Any) -> None:
        """Note something that happened."""
        if self.span is not None:
            known = {
                _dotted(key): _plain(value)
                for key, value in facts.items()
                if value is not None
            }
            self.span.add_event(name, known)


def tracing() -> Any:
    """
    Give OpenTelemetry's API of tracing; None: nobody has set it up.

    That it is loaded says nothing, for FastAPI loads it always.
    """
    trace: Any = sys.modules.get(_TRACE)
    if trace is None:
        return None
    idle = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
    return None if isinstance(trace.get_tracer_provider(), idle) else trace


@contextmanager
def operation_span(
    operation_id: str, capability: Capability, request: Any
) -> Iterator[Traced]:
    """
    Trace an operation from its plan to its response.

    Args:
        operation_id: The operation.
        capability: What is asked for.
        request: The request; how many pictures, and nothing of what is on them.
    """
    name = _NAMES.get(capability, _GENERATE)
    with _span(_named(name, request.model), is_client=False) as traced:
        traced.note(
            **_common(name, capability),
            gen_ai__request__model=request.model,
            gen_ai__request__seed=getattr(request, "seed", None),
            gaia__operation_id=operation_id,
            gaia__campaign_id=request.campaign_id,
        )
        if (count := getattr(request, "num_images", 1)) != 1:
            traced.note(gen_ai__request__choice__count=count)
        yield traced


@contextmanager
def attempt_span(
    provider: str, model: str, capability: Capability, repeats: int = 0
) -> Iterator[Traced]:
    """
    Trace one try at a provider, with what it waits for before.

    Args:
        provider: Who is asked.
        model: For which model.
        capability: What is asked for.
        repeats: How often it was asked before.
    """
    name = _NAMES.get(capability, _GENERATE)
    with _span(_named(name, model), is_client=True) as traced:
        traced.note(
            **_common(name, capability),
            gen_ai__provider__name=provider,
            gen_ai__request__model=model,
            gaia__attempt__repeats=repeats,
        )
        yield traced


def note_event(name: str, **facts: Any) -> None:
    """Note something that happened in the present span, if there is one."""
    trace = tracing()
    if trace is not None:
        Traced(trace.get_current_span()).event(name, **facts)


@contextmanager
def _span(name: str, *, is_client: bool) -> Iterator[Traced]:
    """Open a span below the present one, and say how it ends."""
    trace = tracing()
    if trace is None:
        yield Traced()
        return
    kind = trace.SpanKind.CLIENT if is_client else trace.SpanKind.INTERNAL
    # An exception's own words, and its traceback, may hold a key or a prompt.
    opened = trace.get_tracer(SCOPE).start_as_current_span(
        name, kind=kind, record_exception=False, set_status_on_exception=False
    )
    with opened as span:
        if not span.is_recording():
            yield Traced()
            return
        try:
            yield Traced(span)
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            if isinstance(error, GaiaError):
                is_unknown = isinstance(error, OutcomeUnknownError)
                span.set_attribute("gaia.outcome_unknown", is_unknown)
            span.set_status(trace.StatusCode.ERROR)
            raise


def _common(name: str, capability: Capability) -> dict[str, Any]:
    return {
        "gen_ai__operation__name": name,
        "gen_ai__output__type": "text" if capability in _WORDS else "image",
        "gaia__capability": str(capability),
    }


def _named(name: str, model: str | None) -> str:
    return name if model is None else f"{name} {model}"


def _dotted(name: str) -> str:
    return name.replace("__", ".")


def _plain(value: Any) -> Any:
    """Write a value as spans take it."""
    return float(value) if isinstance(value, Decimal) else value
