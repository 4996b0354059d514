"""Whom fixed ports concern: an array, the ports it wants, and every server that should have them.

These are the array's members, for both services, and the mailbox servers of its site that hold public folders: Outlook
goes to those past the array, straight to their RPC Client Access service, so that one needs its port there as well.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from casarray.core import config
from casarray.core.config import Config, ProbeKind, Service
from casarray.core.config_file import read_array
from casarray.core.config_values import Report
from casarray.core.directory import model
from casarray.core.directory.lookup import members
from casarray.core.directory.model import Directory, key
from casarray.core.errors import Conflict
from casarray.core.fixed_ports.ports import FixedPorts, RpcService, check_ports
from casarray.core.profiles import MAPPER_PORT

DEFAULT_PROFILE: Final = "exchange-2010"  # of an array in a directory that names none
_PLACEHOLDER: Final = "192.0.2.1"  # for an array whose address only DNS knows: it has no part in its ports


class Why(StrEnum):
    """What makes a server need fixed ports."""

    MEMBER = "member"
    PUBLIC_FOLDERS = "public folders"


@dataclass(frozen=True, slots=True)
class Target:
    """A server that should have fixed ports."""

    server: str
    hosts: tuple[str, ...]  # its addresses, else its FQDN
    services: tuple[RpcService, ...]
    why: Why = Why.MEMBER


@dataclass(frozen=True, slots=True)
class Subject:
    """An array and what its servers' ports should be."""

    array: str
    fqdn: str
    site: str
    ports: FixedPorts
    names: Mapping[RpcService, str]  # what the array calls the services; those it has
    targets: tuple[Target, ...]
    mapper_port: int = MAPPER_PORT
    unmarked: tuple[str, ...] = ()  # mailbox servers of the site of which nobody said that they hold public folders


def of_config(configured: Config) -> tuple[Subject, ...]:
    """The arrays of a configuration file that have RPC services."""
    found = []
    for array in configured.arrays:
        servers = [s for s in configured.servers if key(s.site) == key(array.site)]
        targets = [Target(s.name, tuple(map(str, s.addresses)), tuple(RpcService)) for s in configured.members(array)]
        inside = {target.server for target in targets}
        unmarked = [s.name for s in servers if model.MAILBOX in s.roles and s.name not in inside]
        found += _subject(array, targets, unmarked)
    return tuple(found)


def of_directory(directory: Directory, profile: str = DEFAULT_PROFILE) -> tuple[Subject, ...]:
    """The arrays of a directory that have RPC services, by name. ``profile``: that of arrays that name none."""
    found = []
    for array in sorted(directory.arrays.values(), key=lambda a: key(a.name)):
        targets = [Target(s.name, _hosts(s), tuple(RpcService)) for s in members(directory, array)]
        inside = {key(target.server) for target in targets}
        near = [
            s
            for s in sorted(directory.servers.values(), key=lambda s: key(s.name))
            if key(s.site) == key(array.site) and model.MAILBOX in s.roles and key(s.name) not in inside
        ]
        targets += [Target(s.name, _hosts(s), (RpcService.RPC,), Why.PUBLIC_FOLDERS) for s in near if s.public_folders]
        found += _subject(effective(array, profile), targets, [s.name for s in near if not s.public_folders])
    return tuple(found)


def _hosts(server: model.Server) -> tuple[str, ...]:
    return tuple(map(str, server.addresses)) or (server.fqdn,)


def _subject(array: config.Array, targets: Iterable[Target], unmarked: Iterable[str]) -> list[Subject]:
    services = {rpc: found for rpc in RpcService if (found := service_of(array, rpc)) is not None}
    if not services:
        return []
    ports = FixedPorts(*(services[rpc].port if rpc in services else None for rpc in RpcService))
    names = {rpc: service.name for rpc, service in services.items()}
    mapper = next((service.port for service in array.services if service.mapper), None)
    mine = tuple(
        Target(t.server, t.hosts, asked, t.why)
        for t in targets
        if (asked := tuple(s for s in t.services if s in names))
    )
    return [Subject(array.name, array.fqdn, array.site, ports, names, mine, mapper or MAPPER_PORT, tuple(unmarked))]


def service_of(array: config.Array, rpc: RpcService) -> Service | None:
    """The array's service that has these interfaces, whatever it is called there."""
    wanted = {str(interface) for interface in rpc.interfaces}
    return next((s for s in array.services if s.probe is ProbeKind.RPC and wanted & set(s.interfaces)), None)


def effective(array: model.Array, profile: str = DEFAULT_PROFILE) -> config.Array:
    """The array as a gateway would serve it. `Conflict` when its settings are wrong."""
    table: dict[str, Any] = {"name": array.name, "fqdn": array.fqdn, "site": array.site}
    table["addresses"] = [str(address) for address in array.addresses] or [_PLACEHOLDER]
    report = Report()
    found = read_array(table | dict(_with_profile(array.settings, profile)), ("array", array.name), report)
    if found is None:
        path, what, right = report.problems[0]
        about = ".".join(map(str, path[2:]))
        raise Conflict(f"array {array.name}: {about and f'{about}: '}{what}; {right}")
    return found


def _with_profile(settings: Mapping[str, object], profile: str) -> Mapping[str, object]:
    """The default profile holds only while an array says nothing of its services."""
    return settings if "profile" in settings or "service" in settings else {"profile": profile} | dict(settings)


def check_set(subject: Subject, ports: FixedPorts, array: config.Array | None = None) -> None:
    """`Conflict` for ports that this array cannot have; with the array itself, its other services are looked at."""
    check_ports(ports)
    for service, port in ports:
        if service not in subject.names:
            raise Conflict(
                f"the array {subject.array} does not offer {service.windows_name}: it has no RPC service with that "
                f"interface; take it out of without in its settings, or leave its port away"
            )
        mine = set(subject.names.values())
        for other in array.services if array is not None else ():
            if other.port == port and other.name not in mine:
                raise Conflict(f"the array {subject.array} has {other.name} on port {port} already; choose another one")


def with_ports(settings: Mapping[str, object], subject: Subject, ports: FixedPorts, profile: str) -> dict[str, object]:
    """The settings of an array in a directory, with these ports; everything else in them stays."""
    changed = dict(_with_profile(settings, profile))
    given = changed.get("service", ())
    tables = [dict(table) for table in given if isinstance(table, Mapping)] if isinstance(given, list | tuple) else []
    for service, port in ports:
        if subject.ports.of(service) == port:
            continue
        name = subject.names[service]
        table = next((t for t in tables if t.get("name") == name), None)
        if table is None:
            tables.append({"name": name, "port": port})
        else:
            table["port"] = port
    return changed | ({"service": tables} if tables else {})
