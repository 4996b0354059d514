"""What of a directory a gateway serves, and what a configuration file makes of a directory."""

import tomllib
from ipaddress import ip_address, ip_network

import pytest

from casarray.core.config import DirectorySettings, Gateway
from casarray.core.config_file import load_config
from casarray.core.directory import edits
from casarray.core.directory.changes import difference, same
from casarray.core.directory.model import Array, Directory, Kind, Server, Site, Subnet
from casarray.core.directory.serving import Served, pruned, seed, serve, unresolved

FILE = """
[[site]]
name = "Paderborn"
subnets = ["10.11.0.0/24", "10.12.0.0/24"]

[[array]]
name = "CAS"
fqdn = "cas.domain.tld"
site = "Paderborn"
addresses = ["10.11.0.100"]
profile = "exchange-2010"
affinity_timeout = "1h"
[array.health]
interval = "2s"
[[array.service]]
name = "rpc"
port = 59531

[[server]]
name = "cas1"
site = "Paderborn"
address = "10.12.0.21"
weight = 50

[[server]]
name = "mbx1"
site = "Paderborn"
address = "10.12.0.31"
roles = ["mailbox"]
fqdn = "mbx1.other.tld"
"""


def seeded(text: str = FILE, before: Directory | None = None) -> Directory:
    return seed(load_config(text, "f.toml"), tomllib.loads(text), before or Directory())


def served(directory: Directory, **resolved: tuple[str, ...]) -> Served:
    addresses = {name.replace("_", "."): tuple(map(ip_address, texts)) for name, texts in resolved.items()}
    return serve(directory, Gateway("gw1"), DirectorySettings(store=("embedded",)), addresses)


def test_a_file_that_seeds_a_directory_is_served_from_it_as_from_the_file() -> None:
    from_directory = served(seeded())
    from_file = load_config(FILE, "f.toml")
    assert from_directory.left_out == ()
    assert from_directory.config.arrays == from_file.arrays
    assert from_directory.config.sites == from_file.sites
    (array,) = from_file.arrays
    (member,) = from_directory.config.members(array)
    assert (member.name, member.addresses, member.weight) == ("cas1", (ip_address("10.12.0.21"),), 50)


def test_seeding_again_changes_nothing() -> None:
    once = seeded()
    assert difference(once, seeded(before=once)) == ()


def test_a_server_without_a_full_name_gets_its_arrays_domain() -> None:
    directory = seeded()
    assert directory.servers["cas1"].fqdn == "cas1.domain.tld"
    assert directory.servers["mbx1"].fqdn == "mbx1.other.tld"


def test_seeding_leaves_alone_what_a_file_cannot_say() -> None:
    before = edits.remove_rpc_client_access(seeded(), "cas1")
    before = edits.change(before, Kind.SERVER, "mbx1", public_folders=True)
    before = before.put(Site("Berlin"))
    assert same(seeded(before=before), before)


def test_pruning_removes_what_the_file_does_not_name_and_no_databases() -> None:
    directory = edits.new_database(seeded(), "DB1", "mbx1").put(
        Site("Berlin"), Server("old", "old.domain.tld", "Berlin")
    )
    after = pruned(load_config(FILE, "f.toml"), directory)
    assert set(after.sites) == {"paderborn"}
    assert set(after.servers) == {"cas1", "mbx1"}
    assert set(after.databases) == {"db1"}


def test_names_without_addresses_are_asked_of_dns_where_they_may_be_served() -> None:
    directory = Directory().put(
        Site("Paderborn"),
        Site("Berlin"),
        Array("CAS", "cas.domain.tld", "Paderborn"),
        Server("cas1", "cas1.domain.tld", "Paderborn"),
        Server("mbx1", "mbx1.domain.tld", "Paderborn", ("mailbox",), None),
        Server("cas9", "cas9.domain.tld", "Berlin"),
    )
    assert unresolved(directory) == {"cas.domain.tld", "cas1.domain.tld"}
    done = served(directory, cas_domain_tld=("10.11.0.100",), cas1_domain_tld=("10.12.0.21", "10.12.0.22"))
    assert done.left_out == ()
    assert [str(a) for a in done.config.arrays[0].addresses] == ["10.11.0.100"]
    assert [str(a) for a in done.config.servers[0].addresses] == ["10.12.0.21"]  # one of each family


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (
            lambda d: d.put(Server("cas2", "cas2.domain.tld", "Paderborn")),
            "server cas2 is left out: there is no address",
        ),
        (
            lambda d: d.put(Server("cas2", "cas2.domain.tld", "Paderborn", addresses=(ip_address("10.12.0.21"),))),
            "10.12.0.21 belongs to the server",
        ),
        (
            lambda d: d.put(Server("cas2", "cas2.domain.tld", "Paderborn", addresses=(ip_address("fd12::22"),))),
            "has no IPv4 address",
        ),
        (lambda d: d.put(Site("B"), Array("B", "b.domain.tld", "B")), "array B is left out: addresses"),
        (
            lambda d: d.put(Site("B"), Array("B", "b.tld.x", "B", (ip_address("10.9.9.9"),), {"nonsense": 1})),
            "array B is left out: nonsense: unknown key",
        ),
        (lambda d: d.put(Site("B"), Subnet(ip_network("10.77.0.0/16"), "B")), ""),
    ],
)
def test_what_cannot_be_served_is_left_out_by_name_and_all_else_is_served(spoil: object, named: str) -> None:
    done = served(spoil(seeded()))  # type: ignore[operator]  # one of the lambdas above
    assert "CAS" in {array.name for array in done.config.arrays}
    if named:
        assert any(named in sentence for sentence in done.left_out), done.left_out
    else:
        assert done.left_out == ()


def test_a_server_taken_out_of_the_array_is_no_member() -> None:
    done = served(edits.remove_rpc_client_access(seeded(), "cas1"))
    assert done.config.members(done.config.arrays[0]) == ()
