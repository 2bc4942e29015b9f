"""The figures of a server, as Prometheus reads them."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gaia_core.metrics import METRICS, MemoryMetrics, MetricKind, Sample


@attrs.define(eq=False)
class _Figures(Collector):
    """
    Gives what was counted, each metric as one family.

    Attributes:
        metrics: What counted it.
        version: The version of Gaia that did.
    """

    metrics: MemoryMetrics
    version: str

    def collect(self) -> Iterator[Metric]:
        """Give every family."""
        yield InfoMetricFamily("gaia", "What runs here.", {"version": self.version})
        for name, found in groupby(self.metrics.samples(), lambda one: one.name):
            yield _family(name, list(found))


def exposition(
    metrics: MemoryMetrics, *, version: str, accept: str
) -> tuple[bytes, str]:
    """
    Write everything that was counted.

    Args:
        metrics: What counted it.
        version: The version of Gaia.
        accept: What the client takes, as it says in its ``Accept``.

    Returns:
        The text, and its media type.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(metrics, version))
    ProcessCollector(registry=registry)
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


def _family(name: str, samples: Sequence[Sample]) -> Metric:
    known = METRICS.get(name)
    labels = known.labels if known else _labels_of(samples)
    text = known.help if known else "Counted by a plugin or by the host."
    kind = known.kind if known else _kind_of(name, samples)
    if kind is MetricKind.HISTOGRAM:
        histogram = HistogramMetricFamily(name, text, labels=labels)
        for one in samples:
            histogram.add_metric(
                _values(one, labels), _bounds(one), sum_value=one.value
            )
        return histogram
    family: CounterMetricFamily | GaugeMetricFamily
    if kind is MetricKind.COUNTER:
        family = CounterMetricFamily(name, text, labels=labels)
    else:
        family = GaugeMetricFamily(name, text, labels=labels)
    for one in samples:
        family.add_metric(_values(one, labels), one.value)
    return family


def _values(sample: Sample, labels: Iterable[str]) -> list[str]:
    return [str(sample.labels.get(label, "")) for label in labels]


def _bounds(sample: Sample) -> list[tuple[str, float]]:
    """Write the classes of a histogram; each counts what is in those before it."""
    return [
        ("+Inf" if bound == float("inf") else repr(bound), count)
        for bound, count in sample.buckets.items()
    ]


def _labels_of(samples: Iterable[Sample]) -> tuple[str, ...]:
    return tuple(sorted({label for one in samples for label in one.labels}))


def _kind_of(name: str, samples: Iterable[Sample]) -> MetricKind:
    """Tell by its values what a metric is that the catalogue does not know."""
    if any(one.buckets for one in samples):
        return MetricKind.HISTOGRAM
    return MetricKind.COUNTER if name.endswith("_total") else MetricKind.GAUGE
