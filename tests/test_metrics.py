import ast
import math
import threading
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import attrs
import pytest

import gaia_core
from gaia_core import (
    GenerateRequest,
    OutcomeUnknownError,
    ProviderTimeoutError,
    RequestLimitError,
)
from gaia_core.metrics import (
    BUCKETS,
    METRICS,
    OTHER,
    MemoryMetrics,
    MetricKind,
    Metrics,
    NoMetrics,
    Sample,
    Statistics,
)
from gaia_core.settings import LimitSettings
from gaia_core.testing import FakeProvider
from gaia_core.testing.pytest_plugin import OpenGaia

CORE = Path(gaia_core.__file__).parent
KIND_OF = {
    "count": MetricKind.COUNTER,
    "gauge": MetricKind.GAUGE,
    "observe": MetricKind.HISTOGRAM,
}


@pytest.fixture(name="metrics")
def _metrics() -> MemoryMetrics:
    return MemoryMetrics()


def _end(metrics: Metrics, model: str, state: str, seconds: float) -> None:
    """Tell what the engine tells of one request from door to response."""
    outcome = {"done": "made"}.get(state, state)
    metrics.count("gaia_requests_total", capability="text-to-image")
    metrics.count(
        "gaia_operations_total",
        capability="text-to-image",
        provider="hello",
        model=model,
        state=state,
    )
    metrics.observe("gaia_operation_seconds", seconds, capability="text-to-image")
    metrics.count("gaia_responses_total", capability="text-to-image", outcome=outcome)


# -- counting ---------------------------------------------------------------------


def test_counters_add_up_by_labels(metrics: MemoryMetrics) -> None:
    """A counter keeps a sum for each set of labels, in whatever order they come."""
    metrics.count("gaia_attempts_total", provider="a", outcome="ok")
    metrics.count("gaia_attempts_total", 2, outcome="ok", provider="a")
    metrics.count("gaia_attempts_total", provider="b", outcome="ok")

    found = {sample.labels["provider"]: sample.value for sample in metrics.samples()}

    assert found == {"a": 3, "b": 1}


def test_gauges_hold_the_latest_value(metrics: MemoryMetrics) -> None:
    """A gauge forgets what it was set to before."""
    metrics.gauge("gaia_queue_waiting", 5, provider="a")
    metrics.gauge("gaia_queue_waiting", 2, provider="a")

    assert metrics.samples() == (
        Sample(name="gaia_queue_waiting", labels={"provider": "a"}, value=2),
    )


def test_histograms_count_by_size(metrics: MemoryMetrics) -> None:
    """A histogram gives the sum, the number, and how many lie below each bound."""
    for seconds in (0.004, 0.3, 0.5, 1_000.0):
        metrics.observe("gaia_operation_seconds", seconds, capability="upscaling")

    (sample,) = metrics.samples()

    assert sample.value == pytest.approx(1_000.804)
    assert sample.count == 4
    assert [sample.buckets[bound] for bound in (0.005, 0.25, 0.5)] == [1, 1, 3]
    assert sample.buckets[BUCKETS[-1]] == 3
    assert sample.buckets[math.inf] == 4


def test_what_is_counted_without_bound_is_counted_together() -> None:
    """Beyond the highest number of series, everything lands under ``other``."""
    metrics = MemoryMetrics(max_series=3)

    for number in range(1_000):
        metrics.count("gaia_retries_total", provider=f"p{number}")

    found = {sample.labels["provider"]: sample.value for sample in metrics.samples()}
    assert found == {"p0": 1, "p1": 1, "p2": 1, OTHER: 997}


def test_threads_lose_no_count(metrics: MemoryMetrics) -> None:
    """What several threads count at once adds up."""

    def count() -> None:
        for _ in range(5_000):
            metrics.count("gaia_limit_refusals_total")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert metrics.samples()[0].value == 20_000


def test_nothing_counts_nothing() -> None:
    """`NoMetrics` takes every call and keeps none."""
    metrics: Metrics = NoMetrics()

    metrics.count("gaia_limit_refusals_total")
    metrics.gauge("gaia_queue_waiting", 1, provider="a")
    metrics.observe("gaia_operation_seconds", 1, capability="upscaling")


# -- statistics -------------------------------------------------------------------


def test_statistics_start_at_nothing(metrics: MemoryMetrics) -> None:
    """A process that did nothing has no rate and no average to divide by."""
    assert metrics.statistics() == Statistics()


def test_statistics_sum_up(metrics: MemoryMetrics) -> None:
    """The statistics give requests, rate, time, use of models, cost and doubts."""
    _end(metrics, "m1", "done", 1.0)
    _end(metrics, "m1", "done", 2.0)
    _end(metrics, "m2", "unknown", 9.0)
    _end(metrics, "m2", "failed", 0.0)
    metrics.count("gaia_cost_usd_total", 0.1, provider="hello")
    metrics.count("gaia_cost_usd_total", 0.2, provider="world")

    assert metrics.statistics() == Statistics(
        total_requests=4,
        successful_requests=2,
        failed_requests=2,
        success_rate=0.5,
        average_generation_time=3.0,
        model_usage={"hello/m1": 2, "hello/m2": 2},
        total_cost_usd=Decimal("0.3"),
        unknown_outcomes=1,
    )


def test_statistics_count_reused_answers_as_successes(metrics: MemoryMetrics) -> None:
    """A request answered without work succeeded; it used no model."""
    metrics.count("gaia_requests_total", capability="text-to-image")
    metrics.count("gaia_responses_total", capability="text-to-image", outcome="reused")

    found = metrics.statistics()

    assert (found.successful_requests, found.success_rate) == (1, 1.0)
    assert found.model_usage == {}


def test_statistics_leave_out_what_reached_no_model(metrics: MemoryMetrics) -> None:
    """An operation that ended before anybody was asked counts for no model."""
    metrics.count(
        "gaia_operations_total",
        capability="text-to-image",
        provider="",
        model="",
        state="cancelled",
    )

    assert metrics.statistics().model_usage == {}


def test_requests_under_way_have_no_share_in_the_rate(metrics: MemoryMetrics) -> None:
    """The rate of success is taken among the requests that were answered."""
    _end(metrics, "m1", "done", 1.0)
    metrics.count("gaia_requests_total", capability="text-to-image")

    found = metrics.statistics()

    assert (found.total_requests, found.success_rate) == (2, 1.0)


# -- the catalogue ----------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_names_say_what_they_hold(name: str) -> None:
    """Names begin with ``gaia_``; counters end in ``total``, times in ``seconds``."""
    kind = METRICS[name].kind

    assert name.startswith("gaia_")
    assert name.endswith("_total") is (kind is MetricKind.COUNTER)
    assert name.endswith("_seconds") is (kind is MetricKind.HISTOGRAM)
    assert METRICS[name].help.endswith(".")


def _told() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Find every metric the core tells: method, name and labels."""
    for path in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr=method),
                    args=[ast.Constant(value=str(name)), *_],
                ) if method in KIND_OF and name.startswith("gaia_"):
                    labels = {word.arg for word in node.keywords} - {"value"}
                    yield method, name, frozenset(map(str, labels))


TOLD = sorted(set(_told()), key=str)


@pytest.mark.parametrize(
    ("method", "name", "labels"), TOLD, ids=[f"{told[1]}-{told[0]}" for told in TOLD]
)
def test_what_is_told_is_in_the_catalogue(
    method: str, name: str, labels: frozenset[str]
) -> None:
    """Whatever the core counts has an entry of that kind, with just those labels."""
    assert METRICS[name].kind is KIND_OF[method]
    assert labels == frozenset(METRICS[name].labels)


@pytest.mark.parametrize("name", METRICS)
def test_what_is_in_the_catalogue_is_told(name: str) -> None:
    """No entry of the catalogue is only a promise."""
    assert name in {told[1] for told in TOLD}


# -- from door to response --------------------------------------------------------


async def test_an_installation_counts_what_it_does(open_gaia: OpenGaia) -> None:
    """Requests that were made, reused, refused and lost add up to the statistics."""
    provider = FakeProvider(
        price_usd="0.04", outcomes=[None, None, ProviderTimeoutError("no answer")]
    )

    async with open_gaia(provider, limits=LimitSettings(requests_per_minute=4)) as gaia:
        for seed in (7, 7, None, None):
            request = GenerateRequest(prompt="a keep", width=64, height=64, seed=seed)
            with suppress(OutcomeUnknownError):
                await gaia.generate(request)
        with pytest.raises(RequestLimitError):
            await gaia.generate(request)
        found = gaia.statistics()

    assert attrs.evolve(found, average_generation_time=0.0) == Statistics(
        total_requests=5,
        successful_requests=3,
        failed_requests=2,
        success_rate=0.6,
        model_usage={"fake/fake": 3},
        total_cost_usd=Decimal("0.12"),
        unknown_outcomes=1,
    )
    assert found.average_generation_time > 0


async def test_counters_of_a_host_are_told(open_gaia: OpenGaia) -> None:
    """A host's own metrics take the place of those in memory."""
    metrics = MemoryMetrics()

    async with open_gaia(FakeProvider(), metrics=metrics) as gaia:
        await gaia.generate(GenerateRequest(prompt="a keep", width=64, height=64))

    assert metrics.statistics().total_requests == 1
