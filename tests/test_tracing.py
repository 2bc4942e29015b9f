"""Traces: one span an operation, one below it for each attempt, no prompts."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gaia_core import GenerateRequest, UpscaleRequest
from gaia_core.errors import (
    ContentFilteredError,
    OutcomeUnknownError,
    ProviderConnectionError,
    ProviderError,
)
from gaia_core.images import Image
from gaia_core.reliability import StandardReliability
from gaia_core.testing import FakeProvider, png
from gaia_core.testing.pytest_plugin import OpenGaia

Spans = Callable[[], tuple[ReadableSpan, ...]]


@pytest.fixture(name="exporter", scope="module")
def _exporter() -> InMemorySpanExporter:
    """Set OpenTelemetry up as a host does, once: it cannot be exchanged."""
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.fixture(name="spans")
def _spans(exporter: InMemorySpanExporter) -> Iterator[Spans]:
    """Give a function that gives the spans of this test, in the order they ended."""
    exporter.clear()
    yield exporter.get_finished_spans
    exporter.clear()


def _attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


async def test_an_operation_has_one_span(open_gaia: OpenGaia, spans: Spans) -> None:
    """It says what was asked for, who made it and what it cost."""
    provider = FakeProvider(price_usd="0.02")
    async with open_gaia(provider) as gaia:
        response = await gaia.generate(
            GenerateRequest(
                prompt="a secret keep", num_images=2, seed=7, campaign_id="c"
            )
        )
    attempt, operation = spans()

    assert operation.name == "generate_content"
    assert operation.kind is trace.SpanKind.INTERNAL
    assert _attributes(operation) == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.output.type": "image",
        "gen_ai.provider.name": "fake",
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.seed": 7,
        "gen_ai.response.model": response.model,
        "gaia.capability": "text-to-image",
        "gaia.operation_id": response.operation_id,
        "gaia.campaign_id": "c",
        "gaia.cost_usd": 0.04,
    }
    assert attempt.parent is not None
    assert operation.context is not None
    assert attempt.parent.span_id == operation.context.span_id
    assert attempt.kind is trace.SpanKind.CLIENT
    assert attempt.name == f"generate_content {response.model}"
    assert _attributes(attempt)["gen_ai.request.model"] == response.model
    assert _attributes(attempt)["gaia.cost_usd"] == 0.04


async def test_no_prompt_is_in_a_trace(open_gaia: OpenGaia, spans: Spans) -> None:
    """Whatever is asked for, and however it ends, nobody reads it there."""
    failing = FakeProvider.failing(ContentFilteredError("a secret refusal"))
    async with open_gaia(failing) as gaia:
        with pytest.raises(ContentFilteredError):
            await gaia.generate(GenerateRequest(prompt="a secret keep"))

    assert len(spans()) == 2
    assert "secret" not in "".join(span.to_json() for span in spans())


async def test_other_verbs_have_their_own_names(
    open_gaia: OpenGaia, spans: Spans
) -> None:
    """An enlargement is no generation."""
    async with open_gaia(FakeProvider()) as gaia:
        image = Image.from_bytes(png(32, 32))
        await gaia.upscale(UpscaleRequest(image=image, upscale_factor=2))

    assert [span.name.split()[0] for span in spans()] == ["upscale", "upscale"]


async def test_a_repetition_and_a_fallback_are_told(
    open_gaia: OpenGaia, spans: Spans
) -> None:
    """Each try has its span; what comes between them is an event."""
    busy = ProviderConnectionError("nobody there")
    first = FakeProvider(name="first", priority=1, outcomes=[busy, busy, busy, busy])
    async with open_gaia(
        first,
        FakeProvider(name="second"),
        reliability=StandardReliability(max_attempts=2),
    ) as gaia:
        response = await gaia.generate(GenerateRequest(prompt="a keep"))
    *attempts, operation = spans()
    events = [event.name for event in operation.events]

    assert response.provider == "second"
    names = [_attributes(span)["gen_ai.provider.name"] for span in attempts]
    assert names == [*["first"] * (len(attempts) - 1), "second"]
    assert events == [*["gaia.retry"] * (len(attempts) - 2), "gaia.fallback"]
    errors = [_attributes(span).get("error.type") for span in attempts]
    assert errors == [*["ProviderConnectionError"] * (len(attempts) - 1), None]
    assert attempts[0].status.status_code is trace.StatusCode.ERROR
    assert operation.status.status_code is trace.StatusCode.UNSET


async def test_a_lost_answer_says_so(open_gaia: OpenGaia, spans: Spans) -> None:
    """An unknown outcome is an error of its own kind."""
    lost = FakeProvider.failing(ProviderError("gone"), price_usd="0.02")
    async with open_gaia(lost) as gaia:
        with pytest.raises(OutcomeUnknownError):
            await gaia.generate(GenerateRequest(prompt="a keep"))
    _, operation = spans()

    assert _attributes(operation)["error.type"] == "OutcomeUnknownError"
    assert _attributes(operation)["gaia.outcome_unknown"] is True
    assert _attributes(operation)["gaia.cost_usd"] == 0.02


async def test_spans_hang_below_the_callers(open_gaia: OpenGaia, spans: Spans) -> None:
    """The work runs in a task of its own; it belongs to who asked all the same."""
    tracer = trace.get_tracer("host")
    async with open_gaia(FakeProvider()) as gaia:

        async def ask(name: str) -> None:
            with tracer.start_as_current_span(name):
                await gaia.generate(GenerateRequest(prompt=name))

        await asyncio.gather(ask("one"), ask("two"))
    found = spans()
    hosts = {span.context.span_id for span in found if span.name in {"one", "two"}}
    parents = [
        span.parent.span_id
        for span in found
        if span.name == "generate_content" and span.parent
    ]

    assert set(parents) == hosts
    assert len(parents) == 2


def test_whoever_does_not_trace_pays_nothing(tmp_path: Path) -> None:
    """Without OpenTelemetry in the process, none of it is loaded."""
    code = (
        "import asyncio, sys\n"
        "from gaia_core import Gaia, GenerateRequest, Settings\n"
        "from gaia_core.testing import FakeProvider\n"
        f"settings = Settings(database='sqlite:///{tmp_path}/gaia.db', "
        f"image_store='{tmp_path}/images')\n"
        "async def main():\n"
        "    gaia = Gaia.open(settings, plugins=[FakeProvider()], discover=False)\n"
        "    async with gaia:\n"
        "        await gaia.generate(GenerateRequest(prompt='a keep'))\n"
        "asyncio.run(main())\n"
        "import gaia_core.tracing\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


def test_gaia_models_loads_no_tracing_library() -> None:
    """The command line is not slower for it."""
    code = (
        "import sys\n"
        "from gaia_core.cli import main\n"
        "try:\n"
        "    main(['models', '--json'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "names = [one for one in sys.modules if one.startswith('opentelemetry')]\n"
        "print(names, file=sys.stderr)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stderr.strip().splitlines()[-1] == "[]"
