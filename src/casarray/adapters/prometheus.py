"""The metrics as Prometheus text: read from the gateway at the moment of the scrape, kept nowhere."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from casarray.app.counters import METRICS
from casarray.app.operations import Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class StatusCollector(Collector):
    """Turns one `Status` into all metric families."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Every metric of `app.counters`, in its order."""
        status = self._status()
        for metric in METRICS:
            family: GaugeMetricFamily | CounterMetricFamily
            if metric.kind == "counter":  # the family puts the "_total" on again
                family = CounterMetricFamily(metric.name.removesuffix("_total"), metric.meaning, labels=metric.labels)
            else:
                family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
            for labels, value in metric.samples(status):
                family.add_metric(labels, value)
            yield family


def exposition(status: Callable[[], Status]) -> bytes:
    """All metrics now, in the text format 0.0.4 that every scraper reads."""
    registry = CollectorRegistry()
    registry.register(StatusCollector(status))
    return generate_latest(registry)
