"""Real Samba servers behind the array, asked by real clients: rpcclient, impacket, smbtorture."""

import asyncio
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator

import pytest

from casarray.lab import netns, samba
from casarray.lab.samba import SambaSite, client_environment

pytestmark = [
    pytest.mark.root,
    pytest.mark.samba,
    pytest.mark.skipif(bool(why := netns.missing() or samba.missing()), reason=str(why)),
]

CLIENTS = range(0, 240, 20)

#: Asks the array's mapper for an interface as impacket does, then calls that interface on the port it was told.
IMPACKET = """
import json, sys
from impacket.dcerpc.v5 import epm, lsat, lsad, samr, srvs, transport
user, password = (line.partition("=")[2] for line in open(sys.argv[2]).read().split())
told = []
for module in (srvs, samr, lsad):
    binding = epm.hept_map(sys.argv[1], module.MSRPC_UUID_%s, protocol="ncacn_ip_tcp")
    rpc = transport.DCERPCTransportFactory(binding)
    rpc.set_credentials(user, password)
    dce = rpc.get_dce_rpc()
    dce.set_auth_level(5)
    dce.connect()
    dce.bind(module.MSRPC_UUID_%s)
    told.append(binding)
    if module is srvs:
        name = srvs.hNetrServerGetInfo(dce, 101)["InfoStruct"]["ServerInfo101"]["sv101_name"].strip("\\0")
    dce.disconnect()
print(json.dumps({"name": name, "bindings": told}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SambaSite]:
    built = SambaSite(tmp_path_factory.mktemp("samba"), health={"slow_start": '"0s"'})

    async def start() -> None:
        await built.__aenter__()
        await built.start_gateway()

    try:
        asyncio.run(start())
        yield built
    finally:
        built.close()


def come_from(site: SambaSite, number: int) -> str:
    """From now on, programs on the clients' host reach the array from this address."""
    source = site.plan.client(number)
    site.host("clients").ip(f"route replace {site.vip}/32 dev eth0 src {source}")
    return source


def rpcclient(site: SambaSite, command: str, binding: str = "[sign]") -> str:
    """What rpcclient says, called at the array's address."""
    done = site.host("clients").run(
        "rpcclient",
        *site.login(),
        f"ncacn_ip_tcp:{site.vip}{binding}",
        "-c",
        command,
        check=False,
        env=client_environment(site.folder),
    )
    return done.stdout + done.stderr


def server_of(site: SambaSite) -> str:
    """The server that answers rpcclient: it names itself."""
    said = rpcclient(site, "srvinfo")
    found = re.search(r"\b(CAS\d)\b", said)
    return found.group(1).lower() if found else f"nobody: {said.strip()}"


def impacket(site: SambaSite, address: str) -> dict[str, object]:
    """What impacket finds at this address."""
    script = IMPACKET.replace(
        "module.MSRPC_UUID_%s", "getattr(module, [n for n in dir(module) if n.startswith('MSRPC_UUID')][0])"
    )
    done = site.host("clients").run(
        sys.executable, "-W", "ignore", "-c", script, address, str(site.folder / "login"), timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_rpcclient_is_led_to_one_server_and_stays_on_it_over_reconnects(site: SambaSite) -> None:
    owners: dict[str, set[str]] = {}
    for _ in range(3):
        for number in CLIENTS:
            owners.setdefault(come_from(site, number), set()).add(server_of(site))
    assert all(len(names) == 1 for names in owners.values()), owners
    assert set().union(*owners.values()) == {"cas1", "cas2", "cas3"}


def test_impacket_is_told_the_arrays_address_and_finds_the_same_server_there(site: SambaSite) -> None:
    for number in list(CLIENTS)[:4]:
        come_from(site, number)
        before = server_of(site)
        found = impacket(site, site.vip)
        assert str(found["name"]).lower() == before
        bindings = found["bindings"]
        assert isinstance(bindings, list)
        first = site.first_port(before)
        for binding in bindings:
            host, port = re.fullmatch(r"ncacn_ip_tcp:(.*)\[(\d+)\]", binding).groups()  # type: ignore[union-attr]  # a binding that does not match fails the test as well
            assert host == site.vip
            assert int(port) in range(first, first + 50)


def test_a_dynamic_port_nobody_was_told_stays_shut(site: SambaSite) -> None:
    come_from(site, 201)
    port = site.first_port("cas1") + 1
    connect = f"import socket; socket.create_connection(('{site.vip}', {port}), 2)"
    done = site.host("clients").run(sys.executable, "-c", connect, check=False)
    assert "ConnectionRefusedError" in done.stderr


def test_ipv6_clients_are_served_too(site: SambaSite) -> None:
    binding = f"ncacn_ip_tcp:{site.plan.vip6}[sign]"
    done = site.host("clients").run(
        "rpcclient", *site.login(), binding, "-c", "srvinfo", check=False, env=client_environment(site.folder)
    )
    assert re.search(r"CAS\d", done.stdout), done.stdout + done.stderr


SUITES = ("rpc.epmapper", "rpc.mgmt", "rpc.dssetup", "rpc.scanner", "rpc.bind", "rpc.altercontext", "rpc.asyncbind")


def torture(site: SambaSite, address: str, suite: str) -> dict[str, str]:
    """What smbtorture says of each test of the suite."""
    done = site.host("clients").run(
        "smbtorture",
        *site.login(),
        "--target=samba3",
        f"ncacn_ip_tcp:{address}",
        suite,
        check=False,
        timeout=120,
        env=client_environment(site.folder),
    )
    return {name: verdict for verdict, name in re.findall(r"^(success|failure|error|skip): (\S+)", done.stdout, re.M)}


@pytest.mark.skipif(not shutil.which("smbtorture"), reason="smbtorture missing (Debian package samba-testsuite)")
@pytest.mark.parametrize("suite", SUITES)
def test_smbtorture_says_the_same_through_the_array_as_direct(site: SambaSite, suite: str) -> None:
    come_from(site, 20)
    owner = server_of(site)
    direct = torture(site, site.addresses(owner)[0], suite)
    through = torture(site, site.vip, suite)
    assert direct, "smbtorture ran nothing"
    assert through == direct


def test_clients_of_a_killed_server_go_on_elsewhere_and_nobody_else_moves(site: SambaSite) -> None:
    before = {number: (come_from(site, number), server_of(site))[1] for number in CLIENTS}
    victim = before[CLIENTS[0]]
    site.stop_server(victim)
    killed = time.monotonic()
    come_from(site, CLIENTS[0])
    while (now := server_of(site)).startswith(("nobody", victim)):
        assert time.monotonic() - killed < 15, f"{now}\n{site.gateway_log()[-2000:]}"
    after = {number: (come_from(site, number), server_of(site))[1] for number in CLIENTS}
    assert victim not in after.values()
    assert {n for n in CLIENTS if before[n] != after[n]} == {n for n in CLIENTS if before[n] == victim}
