"""A small organisation to change and to break, and what must hold of every directory."""

from collections import Counter
from ipaddress import ip_address, ip_network

from casarray.core.directory.changes import Change, difference
from casarray.core.directory.model import (
    CLIENT_ACCESS,
    MAILBOX,
    Account,
    Array,
    AvailabilityGroup,
    Copy,
    Database,
    Directory,
    Kind,
    Server,
    Site,
    Subnet,
    key,
)


def subnet(network: str, site: str) -> Subnet:
    """A subnet from its text."""
    return Subnet(ip_network(network), site)


def mailbox_server(name: str, site: str) -> Server:
    """A server without client access."""
    return Server(name, f"{name}.domain.tld", site, (MAILBOX,), None)


ORGANISATION = Directory("Contoso").put(
    Site("Paderborn"),
    Site("Berlin"),
    Site("Leer", "no array, no client access"),
    Site("Ulm", "a client-access server without an array"),
    subnet("10.0.0.0/8", "Paderborn"),
    subnet("10.20.0.0/16", "Berlin"),
    subnet("fd00::/16", "Paderborn"),
    subnet("fd00:20::/32", "Berlin"),
    Server("cas1", "cas1.domain.tld", "Paderborn", addresses=(ip_address("10.12.0.21"),)),
    Server("cas2", "cas2.domain.tld", "Paderborn"),
    mailbox_server("mbx1", "Paderborn"),
    mailbox_server("mbx2", "Paderborn"),
    Server("ber1", "ber1.domain.tld", "Berlin", (CLIENT_ACCESS, MAILBOX)),
    mailbox_server("leer1", "Leer"),
    mailbox_server("ulm1", "Ulm"),
    Server("ulm2", "ulm2.domain.tld", "Ulm"),
    Array("CAS", "cas.domain.tld", "Paderborn", (ip_address("10.11.0.100"),), {"profile": "exchange-2010"}),
    Array("BER", "outlook.berlin.domain.tld", "Berlin"),
    AvailabilityGroup("DAG1", ("mbx1", "ber1")),
    Database("DB1", "mbx1", (Copy("mbx1", 1), Copy("ber1", 2)), "cas.domain.tld"),
    Database("DB2", "mbx2", (Copy("mbx2"),), "cas.domain.tld"),
    Account("alice", "DB1", "alice@domain.tld", "Alice"),
)


def broken(directory: Directory) -> list[str]:
    """What does not hold of this directory, worked out without the code that is tested."""
    found = []
    for kind in Kind:
        found += [f"{thing.name} under {name}" for name, thing in directory.of(kind).items() if key(thing.name) != name]
    sites, servers = set(directory.sites), directory.servers
    named: list[Array | Server] = [*directory.servers.values(), *directory.arrays.values()]
    placed: list[Array | Server | Subnet] = [*directory.subnets.values(), *named]
    for thing in placed:
        if key(thing.site) not in sites:
            found.append(f"{thing.KIND} {thing.name} is in the site {thing.site}, which is not there")
    arrays = Counter(key(array.site) for array in directory.arrays.values())
    found += [f"{count} arrays in {site}" for site, count in arrays.items() if count > 1]
    found += [f"{name} twice" for name, n in Counter(key(thing.fqdn) for thing in named).items() if n > 1]
    found += [f"{name} twice" for name, n in Counter(a for thing in named for a in thing.addresses).items() if n > 1]
    holders = [(group.name, name) for group in directory.groups.values() for name in set(map(key, group.servers))]
    holders += [
        (database.name, key(copy.server)) for database in directory.databases.values() for copy in database.copies
    ]
    for holder, name in holders:
        if name not in servers or MAILBOX not in servers[name].roles:
            found.append(f"{holder} refers to {name}, which is no mailbox server")
    grouped = Counter(name for group in directory.groups.values() for name in set(map(key, group.servers)))
    found += [f"{name} in {count} groups" for name, count in grouped.items() if count > 1]
    fqdns = {key(thing.fqdn) for thing in named}
    for database in directory.databases.values():
        if len({key(copy.server) for copy in database.copies}) != len(database.copies) or not database.copies:
            found.append(f"{database.name} has no copy or two on one server")
        if key(database.active_server) not in {key(copy.server) for copy in database.copies}:
            found.append(f"{database.name} is active where it has no copy")
        if key(database.rpc_client_access_server) not in fqdns:
            found.append(f"{database.name} names {database.rpc_client_access_server}, which is not there")
    found += [
        f"{a.name} in {a.database}"
        for a in directory.accounts.values()
        if a.database and key(a.database) not in directory.databases
    ]
    return found


def changes_of(after: Directory, before: Directory = ORGANISATION) -> tuple[Change, ...]:
    """What was changed in the organisation."""
    return difference(before, after)
