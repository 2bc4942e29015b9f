"""
What Gaia counts and measures, through one small interface.

`Metrics` is the interface; `MemoryMetrics` keeps the figures of this process and
gives them as `Statistics`. A server exports them by handing in another one.
`METRICS` is the catalogue: every name with what it means and its labels.
"""

import threading
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from enum import StrEnum
from itertools import accumulate
from typing import Protocol

import attrs

BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0),
)
"""Upper bounds of the classes that measured seconds are sorted into."""
MAX_SERIES = 2_000
"""How many combinations of names and labels are kept apart."""
OTHER = "other"
"""The value of every label of what comes beyond that."""

_SIX_PLACES = Decimal("0.000001")


class Metrics(Protocol):
    """Told of everything that can be counted; must not raise, and not wait."""

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        """Add to a counter."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Note one measurement, in the unit the name ends with."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a value that goes up and down."""


class MetricKind(StrEnum):
    """How the values of a metric go together."""

    COUNTER = "counter"
    """They are added up."""
    GAUGE = "gauge"
    """The latest counts."""
    HISTOGRAM = "histogram"
    """They are counted by size, and added up."""


@attrs.frozen
class Metric:
    """
    One entry of the catalogue.

    Attributes:
        kind: How its values go together.
        help: What it counts or measures, in a sentence.
        labels: What its values are told apart by.
    """

    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()


def _counter(text: str, *labels: str) -> Metric:
    return Metric(MetricKind.COUNTER, text, labels)


def _seconds(text: str, *labels: str) -> Metric:
    return Metric(MetricKind.HISTOGRAM, text, labels)


def _gauge(text: str, *labels: str) -> Metric:
    return Metric(MetricKind.GAUGE, text, labels)


METRICS: Mapping[str, Metric] = {
    "gaia_requests_total": _counter(
        "Requests that came through the door.", "capability"
    ),
    "gaia_responses_total": _counter(
        "Requests that were answered: made, reused, failed, unknown or refused.",
        *("capability", "outcome"),
    ),
    "gaia_operations_total": _counter(
        "Operations that ended, by the state they ended in.",
        *("capability", "provider", "model", "state"),
    ),
    "gaia_operation_seconds": _seconds(
        "How long operations took from door to response.", "capability"
    ),
    "gaia_attempts_total": _counter(
        "Tries at a provider, by how they ended.", "provider", "outcome"
    ),
    "gaia_attempt_seconds": _seconds(
        "How long tries at a provider took.", "provider", "outcome"
    ),
    "gaia_retries_total": _counter(
        "Tries that repeated an earlier one at the same provider.", "provider"
    ),
    "gaia_cost_usd_total": _counter(
        "What operations cost in US dollars; lost answers count at their price.",
        "provider",
    ),
    "gaia_breaker_state": _gauge(
        "Where a circuit breaker stands: 0 closed, 1 half open, 2 open.",
        *("provider", "capability"),
    ),
    "gaia_queue_waiting": _gauge("Attempts that wait for a provider.", "provider"),
    "gaia_queue_wait_seconds": _seconds(
        "How long attempts waited for their turn at a provider.", "provider"
    ),
    "gaia_cache_total": _counter(
        "Look-ups of answers to equal requests: hit, miss or damaged.", "result"
    ),
    "gaia_flights_total": _counter(
        "Requests that could share one piece of work: leader or follower.", "role"
    ),
    "gaia_idempotent_replays_total": _counter(
        "Requests answered from their idempotency key."
    ),
    "gaia_budget_refusals_total": _counter(
        "Requests refused because a budget has not so much left.", "scope"
    ),
    "gaia_limit_refusals_total": _counter(
        "Requests refused at the door because there were too many."
    ),
    "gaia_recovered_total": _counter(
        "Operations left behind by a process, by how they were settled.", "outcome"
    ),
    "gaia_batch_items_total": _counter(
        "Items of batches that ended, by the state they ended in.", "state"
    ),
    "gaia_http_requests_total": _counter(
        "Requests over HTTP that were answered, by the class of the status.",
        *("method", "route", "status"),
    ),
    "gaia_http_request_seconds": _seconds(
        "How long requests over HTTP took until their answer began.",
        *("method", "route"),
    ),
    "gaia_http_in_flight": _gauge("Requests over HTTP that are being served."),
    "gaia_batches_running": _gauge("Batches that the server is at work on."),
    "gaia_batches_waiting": _gauge("Batches that wait for their turn at the server."),
}
"""Every metric: its name, what it means, its labels."""


@attrs.frozen(kw_only=True)
class Sample:
    """
    One series at one moment.

    Attributes:
        name: The name of the metric.
        labels: Label to value.
        value: The sum of a counter or histogram; the latest value of a gauge.
        count: How many values a histogram has seen; 0 for others.
        buckets: Upper bound to how many values of a histogram lie at it or below;
            empty for others.
    """

    name: str
    labels: Mapping[str, str]
    value: float
    count: int = 0
    buckets: Mapping[float, int] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Statistics:
    """
    What this process has done so far, in a few figures.

    Attributes:
        total_requests: How many requests came.
        successful_requests: How many were answered with what they asked for.
        failed_requests: How many were not.
        success_rate: The share of those answered that succeeded, from 0 to 1.
        average_generation_time: Seconds from door to response, on average.
        model_usage: ``provider/model`` to how many operations ended there.
        total_cost_usd: What they cost; lost answers count at their price.
        unknown_outcomes: How many operations may have been charged without an
            answer.
    """

    total_requests: int = 0
    successful_requests: int = 0
    failed_requests: int = 0
    success_rate: float = 0.0
    average_generation_time: float = 0.0
    model_usage: Mapping[str, int] = attrs.field(factory=dict)
    total_cost_usd: Decimal = Decimal(0)
    unknown_outcomes: int = 0


_Labels = frozenset[tuple[str, str]]
_ANSWERED = frozenset({"made", "reused"})


@attrs.define(eq=False)
class _Series:
    """The values of one name with one set of labels."""

    value: float = 0.0
    count: int = 0
    buckets: list[int] | None = None

    def observe(self, value: float) -> None:
        if self.buckets is None:
            self.buckets = [0] * (len(BUCKETS) + 1)
        self.value += value
        self.count += 1
        self.buckets[bisect_left(BUCKETS, value)] += 1


@attrs.define(eq=False)
class NoMetrics:
    """Counts nothing."""

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        """Forget it."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Forget it."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Forget it."""


@attrs.define(eq=False)
class MemoryMetrics:
    """
    Keeps the figures of this process, until it ends.

    >>> metrics = MemoryMetrics()
    >>> metrics.count("gaia_requests_total", capability="upscaling")
    >>> metrics.statistics().total_requests
    1

    Attributes:
        max_series: How many combinations of names and labels are kept apart; what
            comes beyond that is counted together, under ``other``.
    """

    max_series: int = MAX_SERIES
    _series: dict[tuple[str, _Labels], _Series] = attrs.field(factory=dict, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            self._get(name, labels).value += value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Note one measurement, in the unit the name ends with."""
        with self._lock:
            self._get(name, labels).observe(value)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a value that goes up and down."""
        with self._lock:
            self._get(name, labels).value = value

    def samples(self) -> tuple[Sample, ...]:
        """Give every series as it stands, sorted by name and labels."""
        with self._lock:
            found = [_sample(*key, series) for key, series in self._series.items()]
        return tuple(
            sorted(found, key=lambda one: (one.name, sorted(one.labels.items())))
        )

    def statistics(self) -> Statistics:
        """Sum up what was done so far."""
        samples = self.samples()
        successful = _sum(_of(samples, "gaia_responses_total", outcome=_ANSWERED))
        answered = _sum(_of(samples, "gaia_responses_total"))
        times = list(_of(samples, "gaia_operation_seconds"))
        measured = sum(sample.count for sample in times)
        return Statistics(
            total_requests=int(_sum(_of(samples, "gaia_requests_total"))),
            successful_requests=int(successful),
            failed_requests=int(answered - successful),
            success_rate=successful / answered if answered else 0.0,
            average_generation_time=_sum(times) / measured if measured else 0.0,
            model_usage=_usage(_of(samples, "gaia_operations_total")),
            total_cost_usd=_dollars(_sum(_of(samples, "gaia_cost_usd_total"))),
            unknown_outcomes=int(
                _sum(_of(samples, "gaia_operations_total", state={"unknown"}))
            ),
        )

    def _get(self, name: str, labels: Mapping[str, str]) -> _Series:
        """Find a series; when there are too many, the one that takes the rest."""
        key = (name, frozenset(labels.items()))
        found = self._series.get(key)
        if found is None:
            if len(self._series) >= self.max_series:
                key = (name, frozenset((label, OTHER) for label in labels))
            found = self._series.setdefault(key, _Series())
        return found


def _sample(name: str, labels: _Labels, series: _Series) -> Sample:
    sums = accumulate(series.buckets or ())
    bounds = (*BUCKETS, float("inf"))
    return Sample(
        name=name,
        labels=dict(sorted(labels)),
        value=series.value,
        count=series.count,
        buckets=dict(zip(bounds, sums, strict=False)),
    )


def _of(
    samples: Iterable[Sample], name: str, **wanted: Collection[str | None]
) -> Iterator[Sample]:
    """Pick the samples of a name, with one of the wanted values in each label."""
    for sample in samples:
        if sample.name == name and all(
            sample.labels.get(label) in values for label, values in wanted.items()
        ):
            yield sample


def _sum(samples: Iterable[Sample]) -> float:
    return sum(sample.value for sample in samples)


def _usage(samples: Iterable[Sample]) -> dict[str, int]:
    """Count by model, the most used first; what reached no model is left out."""
    counts: dict[str, int] = {}
    for sample in samples:
        provider, model = sample.labels.get("provider"), sample.labels.get("model")
        if provider and model:
            name = f"{provider}/{model}"
            counts[name] = counts.get(name, 0) + int(sample.value)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _dollars(value: float) -> Decimal:
    """Turn a sum into dollars, to the micro-dollar the ledger counts in."""
    return Decimal(value).quantize(_SIX_PLACES)
