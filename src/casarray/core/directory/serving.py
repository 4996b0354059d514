"""What of a directory a gateway serves: the directory's arrays and servers as a configuration.

A directory may hold things that cannot be served: an array without an address, a server that has none of the array's
family. They are left out, each with a sentence, and everything else is served: one wrong entry that somebody makes far
away must not stop a gateway.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from casarray.core.config import Config, DirectorySettings, Gateway, Server, Site
from casarray.core.config_file import read_array
from casarray.core.config_rules import Draft, check_rules
from casarray.core.config_values import Report
from casarray.core.directory import model
from casarray.core.directory.model import Directory, key
from casarray.core.forwarding.table import Address

Resolved = Mapping[str, tuple[Address, ...]]
"""Folded FQDN -> the addresses that DNS has for it."""


@dataclass(frozen=True, slots=True)
class Served:
    """A configuration, and what of the directory is not in it and why."""

    config: Config
    left_out: tuple[str, ...]


def unresolved(directory: Directory) -> frozenset[str]:
    """The FQDNs whose addresses the directory does not have: DNS has to say. Of what may be served alone."""
    sites = {key(array.site) for array in directory.arrays.values()}
    arrays = {key(array.fqdn) for array in directory.arrays.values() if not array.addresses}
    members = (s for s in directory.servers.values() if s.is_member and key(s.site) in sites and not s.addresses)
    return frozenset(arrays | {key(server.fqdn) for server in members})


def serve(directory: Directory, gateway: Gateway, settings: DirectorySettings, resolved: Resolved) -> Served:
    """The configuration of a gateway that serves the arrays of this directory."""
    left_out: list[str] = []
    draft = Draft(gateway, settings)
    draft.sites = [(("site", site.name), site) for site in _sites(directory)]
    draft.site_names = frozenset(site.name for _, site in draft.sites)
    for array in sorted(directory.arrays.values(), key=lambda a: key(a.name)):
        report = Report()
        place = ("array", array.name)
        value = read_array(_table_of(array, settings, resolved), place, report)
        if value is not None:
            draft.arrays.append((place, value))
        left_out += _told(report)
    served = {key(array.site) for _, array in draft.arrays}
    for server in sorted(directory.servers.values(), key=lambda s: key(s.name)):
        if key(server.site) not in served or not server.is_member:
            continue
        if not (addresses := server.addresses or resolved.get(key(server.fqdn), ())):
            left_out.append(f"server {server.name} is left out: there is no address for {server.fqdn} in DNS")
            continue
        site = directory.sites[key(server.site)].name if key(server.site) in directory.sites else server.site
        value_ = Server(server.name, site, _one_of_each(addresses), server.weight, server.roles, server.fqdn)
        draft.servers.append((("server", server.name), value_))
    left_out += _drop_what_breaks_rules(draft)
    return Served(draft.config(), tuple(left_out))


def _sites(directory: Directory) -> Iterator[Site]:
    for site in directory.sites.values():
        subnets = [s.network for s in directory.subnets.values() if key(s.site) == key(site.name)]
        yield Site(site.name, tuple(subnets))


def _table_of(array: model.Array, settings: DirectorySettings, resolved: Resolved) -> dict[str, Any]:
    """The array as it would stand in the file."""
    addresses = array.addresses or resolved.get(key(array.fqdn), ())
    table: dict[str, Any] = {"name": array.name, "fqdn": array.fqdn, "site": array.site}
    table["addresses"] = [str(address) for address in addresses]
    if "profile" not in array.settings and "service" not in array.settings:
        table["profile"] = settings.profile
    return table | dict(array.settings)


def _one_of_each(addresses: tuple[Address, ...]) -> tuple[Address, ...]:
    """DNS may have several; a member is reached at one of each family."""
    first = {address.version: address for address in reversed(addresses)}
    return tuple(first[version] for version in sorted(first))


def _drop_what_breaks_rules(draft: Draft) -> list[str]:
    """Until no rule is broken: what breaks one goes, servers before the arrays they would harm."""
    told: list[str] = []
    while True:
        report = Report()
        check_rules(draft, report)
        faulty = {path[:2] for path, _, _ in report.problems}
        if not faulty:
            return told
        told += _told(report)
        servers = [(place, server) for place, server in draft.servers if place[:2] not in faulty]
        if len(servers) < len(draft.servers):
            draft.servers = servers
            continue
        arrays = [(place, array) for place, array in draft.arrays if place[:2] not in faulty]
        sites = [(place, site) for place, site in draft.sites if place[:2] not in faulty]
        if len(arrays) == len(draft.arrays) and len(sites) == len(draft.sites):
            return told  # it is the gateway's own table, which the file has been held against already
        draft.arrays, draft.sites = arrays, sites


def _told(report: Report) -> list[str]:
    found = []
    for path, what, _ in report.problems:
        kind, name = path[0], path[1] if len(path) > 1 else ""
        about = ".".join(str(part) for part in path[2:])
        found.append(f"{kind} {name} is left out: {f'{about}: ' if about else ''}{what}")
    return found


def seed(config: Config, tables: Mapping[str, Any], before: Directory) -> Directory:
    """The directory with everything that a configuration file names; ``tables`` is the file's text as TOML gives it.

    What the file does not name stays as it is; so does, of what it names, what a file cannot say.
    """
    after = before
    for site in config.sites:
        known = before.sites.get(key(site.name))
        after = after.put(known or model.Site(site.name))
        after = after.put(*(model.Subnet(network, site.name) for network in site.subnets))
    raw = {key(table["name"]): table for table in tables.get("array", [])}
    for array in config.arrays:
        settings = {k: v for k, v in raw[key(array.name)].items() if k not in {"name", "fqdn", "site", "addresses"}}
        after = after.put(model.Array(array.name, array.fqdn, array.site, array.addresses, settings))
    domains = {key(array.site): array.fqdn.partition(".")[2] for array in config.arrays}
    usual = next(iter(domains.values()), "")
    for server in config.servers:
        fqdn = server.fqdn or f"{server.name}.{domains.get(key(server.site), usual)}".rstrip(".")
        roles = tuple(role for role in model.ROLES if role in server.roles)
        access = model.RpcClientAccess() if model.CLIENT_ACCESS in roles else None
        old = before.servers.get(key(server.name))
        if old is not None:  # being taken out of the array, and public folders, are said elsewhere
            access = old.rpc_client_access if model.CLIENT_ACCESS in old.roles and access else access
        after = after.put(
            model.Server(
                server.name,
                fqdn,
                server.site,
                roles,
                access,
                server.addresses,
                server.weight,
                old.public_folders if old else False,
            )
        )
    return after


def pruned(config: Config, directory: Directory) -> Directory:
    """Without the sites, subnets, arrays and servers that the file does not name."""
    named = {
        model.Kind.SITE: {key(site.name) for site in config.sites},
        model.Kind.SUBNET: {str(network) for site in config.sites for network in site.subnets},
        model.Kind.ARRAY: {key(array.name) for array in config.arrays},
        model.Kind.SERVER: {key(server.name) for server in config.servers},
    }
    gone = [t for kind, names in named.items() for name, t in directory.of(kind).items() if name not in names]
    return directory.without(*gone)
