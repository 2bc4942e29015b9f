"""What Prometheus reads, read by its own parser."""

from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import pytest
from fastapi import Request
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_families,
)
from prometheus_client.parser import text_string_to_metric_families

from gaia_core import Gaia
from gaia_core.metrics import METRICS, MemoryMetrics, NoMetrics
from gaia_core.server import Principal, Scope, create_app, nobody_asked
from gaia_core.server.prometheus import exposition
from gaia_core.testing import FakeProvider
from tests.server.conftest import OpenClient, serving, settings_in
from tests.server.scenes import KEY, ROUTE, finished, prompts

TRACE = "0af7651916cd43dd8448eb211c80319c"
KEEP = {"prompt": "a secret keep", "campaign_id": "secret-campaign"}


def _figures(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _value(text: str, name: str, **labels: str) -> float:
    return _figures(text)[name, frozenset(labels.items())]


async def test_what_was_done_can_be_scraped(open_client: OpenClient) -> None:
    """Counters, times and gauges are there, under the names of the catalogue."""
    async with open_client(FakeProvider(price_usd="0.01")) as client:
        for _ in range(3):
            await client.post("/api/images/generate", json=KEEP)
        answer = await client.get("/metrics")

    text = answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    asked = {"capability": "text-to-image"}
    assert _value(text, "gaia_requests_total", **asked) == 3
    assert _value(text, "gaia_operation_seconds_count", **asked) == 3
    assert _value(text, "gaia_operation_seconds_bucket", **asked, le="+Inf") == 3
    assert _value(text, "gaia_cost_usd_total", provider="fake") == pytest.approx(0.03)
    route = {"method": "POST", "route": "/api/images/generate"}
    assert _value(text, "gaia_http_requests_total", **route, status="2xx") == 3
    assert _value(text, "gaia_http_request_seconds_count", **route) == 3
    assert _value(text, "gaia_http_in_flight") == 1
    assert _value(text, "gaia_batches_running") == 0
    assert "secret" not in text


async def test_openmetrics_is_spoken_as_well(open_client: OpenClient) -> None:
    """A scraper that asks for the newer form gets it."""
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with open_client() as client:
        await client.post("/api/images/generate", json=KEEP)
        answer = await client.get("/metrics", headers=accept)

    read: Callable[[str], Iterable[Metric]] = open_families
    families = {family.name for family in read(answer.text)}
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert {"gaia_requests", "gaia_http_request_seconds"} <= families


async def test_labels_stay_few(open_client: OpenClient) -> None:
    """Whatever addresses and methods a client makes up, they are no labels."""
    async with open_client() as client:
        for number in range(5):
            await client.get(f"/nothing/{number}")
            await client.get(f"/api/operations/made-up-{number}")
        await client.request("BREW", "/coffee")
        text = (await client.get("/metrics")).text

    labels = {"method": "GET", "route": "none", "status": "4xx"}
    assert _value(text, "gaia_http_requests_total", **labels) == 5
    routed = {**labels, "route": "/api/operations/{operation_id}"}
    assert _value(text, "gaia_http_requests_total", **routed) == 5
    assert "made-up" not in text
    assert "BREW" not in text


async def _reader_only(request: Request) -> Principal | None:
    name = request.headers.get("x-name")
    return None if name is None else Principal(name=name, scopes=[Scope.READ])


@pytest.mark.parametrize("path", ["/metrics", "/api/stats"])
async def test_figures_need_their_scope(open_client: OpenClient, path: str) -> None:
    """The figures of the whole server are not for everybody."""
    async with open_client(auth=_reader_only) as client:
        nobody = await client.get(path)
        reader = await client.get(path, headers={"x-name": "ann"})

    assert (nobody.status_code, reader.status_code) == (401, 403)


@pytest.mark.parametrize("path", ["/metrics", "/api/stats"])
async def test_a_hosts_own_metrics_are_not_ours_to_show(
    tmp_path: Path, path: str
) -> None:
    """A host that counts elsewhere is asked there."""
    gaia = Gaia.open(
        settings_in(tmp_path),
        plugins=[FakeProvider()],
        metrics=NoMetrics(),
        discover=False,
    )
    async with (
        serving(create_app(gaia, auth=nobody_asked)) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        answer = await client.get(path)

    assert answer.status_code == 404
    assert answer.json()["error_code"] == "own_metrics"


def test_every_metric_of_the_catalogue_is_written() -> None:
    """Each is of its kind, with its help, and its labels can hold anything."""
    metrics = MemoryMetrics()
    for name, metric in METRICS.items():
        labels = dict.fromkeys(metric.labels, 'odd "value"\\\n')
        tell = {
            "counter": metrics.count,
            "gauge": metrics.gauge,
            "histogram": metrics.observe,
        }[metric.kind]
        tell(name, 2.0, **labels)

    text, _ = exposition(metrics, version="1", accept="")

    found = {one.name: one for one in text_string_to_metric_families(text.decode())}
    for name, metric in METRICS.items():
        family = found[name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("plugin_things_total", "counter"),
        ("plugin_level", "gauge"),
        ("plugin_seconds", "histogram"),
    ],
)
def test_what_others_count_is_written_too(name: str, kind: str) -> None:
    """A plugin's or a host's own figures are told by what they look like."""
    metrics = MemoryMetrics()
    tell = metrics.observe if kind == "histogram" else metrics.count
    tell(name, 1.5, place="here")
    tell(name, 1.5)

    text, _ = exposition(metrics, version="1", accept="")

    found = {
        one.name: one.type for one in text_string_to_metric_families(text.decode())
    }
    assert found[name.removesuffix("_total")] == kind


@pytest.fixture(name="exporter")
def _exporter() -> InMemorySpanExporter:
    """Set OpenTelemetry up as a host does; what others set up stays."""
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


async def test_a_batch_is_no_part_of_a_request(
    open_client: OpenClient, exporter: InMemorySpanExporter
) -> None:
    """What is done in the background has traces of its own."""
    caller = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    async with open_client() as client:
        taken = await client.post(
            ROUTE, json={"requests": prompts(2)}, headers={**caller, **KEY}
        )
        await finished(client, taken.json()["batch_id"])

    spans = exporter.get_finished_spans()
    made = [span for span in spans if span.name == "generate_content"]
    assert [span.parent for span in made] == [None, None]
    assert len({span.context.trace_id for span in made}) == 2


async def test_a_request_joins_its_callers_trace(
    open_client: OpenClient, exporter: InMemorySpanExporter
) -> None:
    """What a client traces goes on here, down to the attempt."""
    caller = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    live = {**caller, "Accept": "text/event-stream"}
    async with open_client() as client:
        await client.post("/api/images/generate", json=KEEP, headers=caller)
        told = await client.post("/api/images/generate", json=KEEP, headers=live)
        await client.get("/api/operations/nothing", headers=caller)

    spans = [
        span
        for span in exporter.get_finished_spans()
        if format(span.context.trace_id, "032x") == TRACE
    ]
    names = [span.name for span in spans]
    assert "event:" in told.text
    assert names.count("POST /api/images/generate") == 2
    assert names.count("generate_content") == 2
    assert names.count("GET /api/operations/{operation_id}") == 1
    assert "secret keep" not in "".join(span.to_json() for span in spans)
    server = next(span for span in spans if span.name.startswith("POST"))
    assert server.kind is trace.SpanKind.SERVER
    assert dict(server.attributes or {})["http.response.status_code"] == 200
