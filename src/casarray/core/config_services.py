"""The services of one array: its profile, changed and extended by its `[[array.service]]` tables."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from casarray.core.config import ProbeKind, Service
from casarray.core.config_values import Report, show
from casarray.core.forwarding.table import MAX_GROUP_ID
from casarray.core.kerberos.approach import approach
from casarray.core.profiles import PROFILES, WELL_KNOWN
from casarray.core.toml_lines import Path

_WEB = (ProbeKind.HTTP, ProbeKind.HTTPS)
_RPC = (ProbeKind.RPC, ProbeKind.KERBEROS)


def nearest(word: str, known: Collection[str]) -> str | None:
    """The known word that was probably meant."""
    return next(iter(get_close_matches(word[:64], list(known), 1, 0.6)), None)


def merge_services(
    profile: str, without: tuple[str, ...], given: list[tuple[Path, dict[str, Any]]], path: Path, report: Report
) -> tuple[Service, ...]:
    """The services in force, none when nothing names any.

    ``given`` are the values of each `[[array.service]]` table, and where it stands; ``path`` is the array's.
    """
    services = _of_profile(profile, without, path, report)
    places: dict[str, Path] = {}
    for place, values in given:
        name = values["name"]
        if name in places:
            report.wrong(
                (*place, "name"), f"{show(name)} is already the name of another service", "choose another name"
            )
            continue
        places[name] = place
        services[name] = _service(values, services, place, report)
    merged = tuple(services.values())
    if not profile or profile in PROFILES:  # else what is missing would only repeat that problem
        _check_together(merged, places, path, report)
    return merged


def _of_profile(profile: str, without: tuple[str, ...], path: Path, report: Report) -> dict[str, Service]:
    if profile and profile not in PROFILES:
        close = nearest(profile, PROFILES)
        known = ", ".join(f'"{name}"' for name in PROFILES)
        right = f'did you mean "{close}"?' if close else f"write one of {known}"
        report.wrong((*path, "profile"), f"there is no profile {show(profile)}", right)
        return {}
    services = {s.name: s for s in PROFILES[profile].services} if profile else {}
    known = f"it has {', '.join(services)}" if services else "the array has no profile"
    for index, name in enumerate(without):
        if name not in services:
            report.wrong(
                (*path, "without", index), f"the profile has no service {show(name)}", f"leave it out: {known}"
            )
        services.pop(name, None)
    return services


def _service(values: dict[str, Any], known: Mapping[str, Service], place: Path, report: Report) -> Service:
    """One table, on top of the service of that name if there is one."""
    name: str = values["name"]
    base = known.get(name) or WELL_KNOWN.get(name)
    if base is not None:
        kept = base if values.get("probe", ProbeKind.RPC) in _RPC else replace(base, interfaces=())
        service = replace(kept, **values)
    else:
        dynamic = "port" not in values
        mapper = next((s for s in known.values() if s.mapper), None)
        defaults = {
            "port": None,
            "group": mapper.group if dynamic and mapper else _group_called(name),
            "probe": ProbeKind.RPC if dynamic else ProbeKind.TCP,
        }
        service = Service(**(defaults | values))
    _check_alone(service, values, place, report)
    return service


def _group_called(service: str) -> str:
    """A group's name for a service that is alone in it: a group's name starts with a letter and is short."""
    name = service.replace("-", "_")
    return (name if name[0].isalpha() else f"g{name}")[:15]


def _check_alone(service: Service, values: Mapping[str, Any], place: Path, report: Report) -> None:
    """Keys that have no meaning beside each other."""
    for key in ("path", "status"):
        over_http = service.probe in _WEB or (service.probe is ProbeKind.KERBEROS and key == "path")
        if key in values and not over_http:
            report.wrong(
                (*place, key),
                f'has no meaning with probe "{service.probe}"',
                f'set probe = "http" or "https", or leave {key} out',
            )
    if "interfaces" in values and service.probe not in _RPC:
        report.wrong(
            (*place, "interfaces"),
            f'has no meaning with probe "{service.probe}"',
            'set probe = "rpc", or leave interfaces out',
        )
    if service.probe is ProbeKind.KERBEROS and approach(service) is None:
        report.wrong(
            place,
            f"nothing says how to show service {show(service.name)} a ticket",
            'set kerberos_service = "http", "imap", "pop", "smtp" or "exchangeMDB", and port',
        )
        return
    if service.port is None and (service.probe not in _RPC or not service.interfaces):
        report.wrong(
            place,
            f"service {show(service.name)} has no port",
            'set port, or, for an RPC service on a dynamic port, probe = "rpc" and interfaces',
        )
    if service.port is None and service.mapper:
        report.wrong(place, f"the endpoint mapper {show(service.name)} has no port", "set port = 135")


def _check_together(services: tuple[Service, ...], places: Mapping[str, Path], path: Path, report: Report) -> None:
    """What services of one array may not do to each other."""
    mapper: Service | None = None
    on_port: dict[int, Service] = {}
    for service in services:
        place = places.get(service.name, path)
        if service.mapper:
            if mapper is not None:
                right = f"leave mapper out here: {show(mapper.name)} is the array's one"
                report.wrong((*place, "mapper"), "a second endpoint mapper", right)
            mapper = mapper or service
        if service.port is None:
            continue
        other = on_port.setdefault(service.port, service)
        if other.group != service.group or (other is not service and other.mapper != service.mapper):
            culprit = place if service.name in places else places.get(other.name, path)
            what = f"port {service.port} serves both {show(other.name)} and {show(service.name)}"
            report.wrong((*culprit, "port"), what, "choose another port, or the same group for both")
    for service in services:
        if service.port is None and service.interfaces and (mapper is None or mapper.group != service.group):
            right = f'set group = "{mapper.group}"' if mapper else 'add the profile "msrpc", or set port'
            what = f"service {show(service.name)} has a dynamic port, and its group {show(service.group)} has no mapper"
            report.wrong(places.get(service.name, path), what, right)
    groups = {service.group for service in services}
    if len(groups) > MAX_GROUP_ID:
        right = "give services that belong together the same group"
        report.wrong(path, f"there are {len(groups)} affinity groups, and at most {MAX_GROUP_ID} can be", right)
