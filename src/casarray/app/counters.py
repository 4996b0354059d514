"""The name, unit and meaning of every metric, and how it is read from a `Status`. The manual's page is this table."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from casarray.app.operations import ArrayStatus, DirectoryStatus, FastPathStatus, GroupStatus, MemberStatus, Status
from casarray.core.config import Wish

#: What the RPC proxy counts, in `RpcHttpStatus.events`.
RPC_HTTP_EVENTS: Mapping[str, str] = {
    "http_connections": "HTTP connections of clients",
    "connections": "virtual connections opened: both channels and a member",
    "request:RPC_IN_DATA": "requests for IN channels, echoes and legs of logons",
    "request:RPC_OUT_DATA": "requests for OUT channels, echoes and legs of logons",
    "request:other": "requests with another method",
    "refused:limit": "HTTP connections refused: this client had too many, or there were too many in all",
    "refused:request": "channels refused: no server in the URL, or a length that no channel has",
    "refused:target": "channels refused: the server in the URL is none of the array's",
    "refused:cookie": "channels refused: the cookie of another client's connection, or of none",
    "refused:channel": "channels refused: a second one with the same cookie, or a successor of none",
    "refused:server": "virtual connections refused: no member, or one that does not answer",
    "challenged": "requests that were asked who the client is",
    "denied:logon": "proofs that were not right",
    "timeout:head": "connections that did not say in time what they want",
    "closed:alone": "virtual connections whose other half did not come",
    "closed:flow": "virtual connections ended: more was sent than there was room for",
    "closed:flood": "virtual connections ended: too many control messages without any RPC",
    "closed:handover": "virtual connections ended: a channel was not replaced in time",
    "closed:member": "virtual connections ended because their member was taken out",
    "closed:out-of-turn": "virtual connections ended: a message at the wrong moment",
    "closed:rts": "virtual connections ended: a control message that is none",
    "closed:server": "virtual connections ended: the member said what is no RPC",
    "closed:silent": "virtual connections ended: the client said nothing for too long",
    "out_of_turn": "connections ended: a message at the wrong moment",
}

Sample = tuple[tuple[str, ...], float]  # the labels' values, in the metric's order, and the value


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    kind: Literal["gauge", "counter"]
    unit: str
    labels: tuple[str, ...]
    meaning: str
    samples: Callable[[Status], Iterator[Sample]]


#: What the endpoint-mapper relay counts, in `ArrayStatus.mapper`. ``event:kind`` tells kinds of one event apart.
MAPPER_EVENTS: Mapping[str, str] = {
    "connections": "connections of clients",
    "refused:client_limit": "connections refused: this client had too many already",
    "refused:total_limit": "connections refused: there were too many in all",
    "refused:no_member": "connections refused: no member was eligible",
    "ept_map": "`ept_map` calls answered",
    "ept_lookup": "`ept_lookup` calls answered",
    "rewritten": "towers whose address was replaced by the array's",
    "authenticated": "answers that nobody between may read, passed on as they were",
    "pinholes": "dynamic ports opened for a client",
    "ranges": "dynamic ranges opened for a client whose answers could not be read",
    "pinhole_failures": "openings that the forwarder refused",
    "dial_failures": "members that did not take the connection",
    "member_reset": "connections that their member reset",
    "ended_with_member": "connections ended because their member was taken out",
    "timeout:silent": "clients that said nothing in time",
    "timeout:slow": "clients that did not finish a PDU in time",
    "timeout:idle": "connections without a call for too long",
    "timeout:unanswered": "calls that the member did not answer in time",
    "timeout:stalled": "clients that did not read their answers",
}
#: Broken input ends its connection and is counted as ``wire_error:KIND``; the kinds are the codec's.
WIRE_ERROR = "wire_error"


def _per_array(value: Callable[[ArrayStatus], float]) -> Callable[[Status], Iterator[Sample]]:
    def samples(status: Status) -> Iterator[Sample]:
        for array in status.arrays:
            yield (array.name,), value(array)

    return samples


def _fast_path(value: Callable[[FastPathStatus], float]) -> Callable[[Status], Iterator[Sample]]:
    def samples(status: Status) -> Iterator[Sample]:
        for array in status.arrays:
            if array.fast_path is not None:
                yield (array.name,), value(array.fast_path)

    return samples


def _per_group(value: Callable[[GroupStatus], float]) -> Callable[[Status], Iterator[Sample]]:
    def samples(status: Status) -> Iterator[Sample]:
        for array in status.arrays:
            for group in array.groups:
                yield (array.name, group.name), value(group)

    return samples


def _per_member(value: Callable[[MemberStatus], float]) -> Callable[[Status], Iterator[Sample]]:
    def samples(status: Status) -> Iterator[Sample]:
        for array in status.arrays:
            for group in array.groups:
                for member in group.members:
                    yield (array.name, group.name, member.name), value(member)

    return samples


def _gateway(status: Status) -> Iterator[Sample]:
    gateway = status.gateway
    yield (gateway.name, gateway.mode, gateway.return_path, gateway.version), 1


def _uptime(status: Status) -> Iterator[Sample]:
    yield (), status.gateway.uptime_seconds


def _resident(status: Status) -> Iterator[Sample]:
    yield (), status.gateway.rss_bytes


def _warnings(status: Status) -> Iterator[Sample]:
    yield (), len(status.warnings)


def _directory(value: Callable[[DirectoryStatus], float]) -> Callable[[Status], Iterator[Sample]]:
    def samples(status: Status) -> Iterator[Sample]:
        if status.directory is not None:
            yield (status.directory.store,), value(status.directory)

    return samples


def _mapper_events(status: Status) -> Iterator[Sample]:
    for array in status.arrays:
        if any(service.mapper for service in array.services):
            # From the first scrape on, so that a rate does not miss the first event.
            for event, count in (dict.fromkeys(MAPPER_EVENTS, 0) | dict(array.mapper)).items():
                name, _, kind = event.partition(":")
                yield (array.name, name, kind), count


def _told(status: Status) -> Iterator[Sample]:
    for kind, count in sorted(status.autodiscover.items()):
        yield (kind,), count


def _rpc_http_events(status: Status) -> Iterator[Sample]:
    if status.rpc_http is not None:
        for event, count in (dict.fromkeys(RPC_HTTP_EVENTS, 0) | dict(status.rpc_http.events)).items():
            name, _, kind = event.partition(":")
            yield (name, kind), count


def _rpc_http_connections(status: Status) -> Iterator[Sample]:
    if status.rpc_http is not None:
        yield (), status.rpc_http.connections


def _states(status: Status) -> Iterator[Sample]:
    """One series for each state, 1 for the one in force: alerts need no table of numbers."""
    for array in status.arrays:
        states = {member.name: member.state for group in array.groups for member in group.members}
        for name, state in states.items():
            for wish in Wish:
                yield (array.name, name, wish.value), float(state is wish)


def _services(value: Callable[[bool, float | None], float | None]) -> Callable[[Status], Iterator[Sample]]:
    def samples(status: Status) -> Iterator[Sample]:
        for array in status.arrays:
            for group in array.groups:
                for member in group.members:
                    for service in member.services:
                        if (found := value(service.up, service.latency_ms)) is not None:
                            yield (array.name, member.name, service.name), found

    return samples


_MEMBER = ("array", "group", "member")
_SERVICE = ("array", "member", "service")

METRICS: tuple[Metric, ...] = (
    Metric(
        "casarray_gateway_info",
        "gauge",
        "1",
        ("gateway", "mode", "return_path", "version"),
        "Always 1; its labels say what answers, `mode` what really carries the packets.",
        _gateway,
    ),
    Metric("casarray_uptime_seconds", "gauge", "seconds", (), "Age of the gateway's process.", _uptime),
    Metric(
        "casarray_resident_bytes", "gauge", "bytes", (), "Memory of the gateway's process that is resident.", _resident
    ),
    Metric("casarray_warnings", "gauge", "warnings", (), "Warnings that `casarray status` shows.", _warnings),
    Metric(
        "casarray_directory_reachable",
        "gauge",
        "0 or 1",
        ("store",),
        "The directory that arrays come from can be read; absent when they stand in the configuration file.",
        _directory(lambda directory: float(directory.reachable)),
    ),
    Metric(
        "casarray_directory_age_seconds",
        "gauge",
        "seconds",
        ("store",),
        "Time since the directory was last seen to hold what is served.",
        _directory(lambda directory: directory.age_seconds),
    ),
    Metric(
        "casarray_rpc_http_connections",
        "gauge",
        "connections",
        (),
        "RPC over HTTP: virtual connections there are; absent without an RPC proxy.",
        _rpc_http_connections,
    ),
    Metric(
        "casarray_rpc_http_events_total",
        "counter",
        "events",
        ("event", "kind"),
        "RPC over HTTP: what the RPC proxy met with.",
        _rpc_http_events,
    ),
    Metric(
        "casarray_array_ready",
        "gauge",
        "0 or 1",
        ("array",),
        "The array forwards, and every group has a member.",
        _per_array(lambda array: float(array.ready)),
    ),
    Metric(
        "casarray_array_panic",
        "gauge",
        "0 or 1",
        ("array",),
        "Every member of some group looks down, and the last known good ones are kept in use.",
        _per_array(lambda array: float(array.panic)),
    ),
    Metric(
        "casarray_fast_path_interfaces",
        "gauge",
        "interfaces",
        ("array",),
        "Interfaces between which standing connections go past netfilter; absent in userspace mode or if not wanted.",
        _fast_path(lambda fast_path: float(len(fast_path.interfaces))),
    ),
    Metric(
        "casarray_fast_path_packets_total",
        "counter",
        "packets",
        ("array",),
        "Packets that went past netfilter; begins anew with the gateway.",
        _fast_path(lambda fast_path: float(fast_path.packets)),
    ),
    Metric(
        "casarray_pins",
        "gauge",
        "clients",
        ("array", "group"),
        "Clients that are held on a member.",
        _per_group(lambda group: group.pins),
    ),
    Metric(
        "casarray_group_members_eligible",
        "gauge",
        "members",
        ("array", "group"),
        "Members that clients may be led to. Zero is an outage.",
        _per_group(lambda group: sum(member.eligible for member in group.members)),
    ),
    Metric(
        "casarray_member_eligible",
        "gauge",
        "0 or 1",
        _MEMBER,
        "Clients may be led to the member.",
        _per_member(lambda member: float(member.eligible)),
    ),
    Metric(
        "casarray_member_state",
        "gauge",
        "0 or 1",
        ("array", "member", "state"),
        "What the operator wants of the member: 1 for the state in force, 0 for the others.",
        _states,
    ),
    Metric(
        "casarray_member_weight",
        "gauge",
        "weight",
        _MEMBER,
        "Its configured weight.",
        _per_member(lambda member: member.weight),
    ),
    Metric(
        "casarray_member_share_ratio",
        "gauge",
        "0 to 1",
        _MEMBER,
        "Its part of the slots: of clients that are not pinned yet.",
        _per_member(lambda member: member.share),
    ),
    Metric(
        "casarray_member_connections",
        "gauge",
        "connections",
        _MEMBER,
        "Connections that live on the member.",
        _per_member(lambda member: member.connections),
    ),
    Metric(
        "casarray_member_new_connections_total",
        "counter",
        "connections",
        _MEMBER,
        "Connections led to the member.",
        _per_member(lambda member: member.new_connections),
    ),
    Metric(
        "casarray_member_carried_bytes_total",
        "counter",
        "bytes",
        _MEMBER,
        "Bytes carried for the member, both directions.",
        _per_member(lambda member: member.bytes_carried),
    ),
    Metric(
        "casarray_service_up",
        "gauge",
        "0 or 1",
        _SERVICE,
        "The service's probes on this member succeed.",
        _services(lambda up, _: float(up)),
    ),
    Metric(
        "casarray_probe_latency_seconds",
        "gauge",
        "seconds",
        _SERVICE,
        "How long the last answered probe took; absent when none was answered.",
        _services(lambda _, latency: None if latency is None else latency / 1000),
    ),
    Metric(
        "casarray_mapper_events_total",
        "counter",
        "events",
        ("array", "event", "kind"),
        "What the endpoint-mapper relay met, by event; `kind` tells refusals, time-outs and wire errors apart.",
        _mapper_events,
    ),
    Metric(
        "casarray_autodiscover_answers_total",
        "counter",
        "answers",
        ("kind",),
        "What Autodiscover answered: `settings`, `redirect-address`, `redirect-url`, or `error-` and its number; "
        "absent where it does not answer, and before the first of a kind.",
        _told,
    ),
)
