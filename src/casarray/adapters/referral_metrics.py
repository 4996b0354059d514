"""`/metrics` and `/healthz` of the referral: read at the moment of the scrape, kept nowhere."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from casarray.adapters.prometheus import CONTENT_TYPE
from casarray.app.referral import ReferralService
from casarray.core.referral.visits import by_name

#: Each metric with its meaning; the manual's page names them all.
MEANINGS: Mapping[str, str] = {
    "casarray_referral_connections": "Connections of clients now",
    "casarray_referral_events_total": "What the listener met, by event; kind tells refusals and time-outs apart",
    "casarray_referral_answers_total": "Calls answered in the place of a retired server",
    "casarray_referral_users": "Users who have come to a retired server",
    "casarray_referral_clients": "Client addresses that have come to a retired server",
    "casarray_referral_last_visit_seconds": "When the last one came, in seconds since the epoch",
}


class _Metrics(Collector):
    def __init__(self, service: ReferralService, counters: Callable[[], Mapping[str, int]]) -> None:
        self._service = service
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        yield _gauge("connections", value=float(self._service.connections()))
        events = _counter("events", "event", "kind")
        for event, number in self._counters().items():
            name, _, kind = event.partition(":")
            events.add_metric((name, kind), number)
        yield events
        answers = _counter("answers", "name", "call")
        for labels, number in list(self._service.calls.items()):
            answers.add_metric(labels, number)
        yield answers
        users, clients, last = (_gauge(what, "name") for what in ("users", "clients", "last_visit_seconds"))
        for old in by_name(self._service.visits.lines()):
            users.add_metric((old.name,), old.users)
            clients.add_metric((old.name,), old.clients)
            last.add_metric((old.name,), old.last)
        yield from (users, clients, last)


def _gauge(what: str, *labels: str, value: float | None = None) -> GaugeMetricFamily:
    name = f"casarray_referral_{what}"
    if value is not None:
        return GaugeMetricFamily(name, MEANINGS[name], value)
    return GaugeMetricFamily(name, MEANINGS[name], labels=labels)


def _counter(what: str, *labels: str) -> CounterMetricFamily:
    name = f"casarray_referral_{what}"  # the family puts the "_total" on
    return CounterMetricFamily(name, MEANINGS[f"{name}_total"], labels=labels)


def referral_app(service: ReferralService, counters: Callable[[], Mapping[str, int]]) -> Starlette:
    """What is served on the metrics address."""
    registry = CollectorRegistry()
    registry.register(_Metrics(service, counters))

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE)

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("\n".join(("ok", *service.warnings(), "")))

    return Starlette(routes=[Route("/metrics", metrics, methods=["GET"]), Route("/healthz", healthz, methods=["GET"])])
