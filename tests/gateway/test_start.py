"""Starting where something is not as it must be: one clear sentence, exit code 1, and nothing left behind."""

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from casarray.core.config import Wish
from casarray.core.errors import Unavailable
from casarray.lab.channel import Channel
from casarray.lab.site import LoopbackSite, NetworkSite, Site

from .gateways import (
    PROGRAM,
    QUICK,
    WHY_NOT,
    cli,
    edit,
    has_address,
    members,
    outlook,
    soon,
    start_in_vain,
    tables,
)

needs_root = [pytest.mark.root, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]

#: As root, and yet without any right: the way to have both a readable interpreter and no capability.
POWERLESS = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkSite]:
    site = NetworkSite(tmp_path_factory.mktemp("start"), servers=("cas1", "cas2"), health=QUICK)
    try:
        asyncio.run(site.__aenter__())
        yield site
    finally:
        site.close()


@pytest_asyncio.fixture
async def net(built: NetworkSite) -> AsyncIterator[NetworkSite]:
    """The site without a gateway; whatever a test starts is ended and taken away."""
    usual = built.config_path.read_text()
    yield built
    await built.stop_gateway()
    built.config_path.write_text(usual)
    built.host("gateway").run(PROGRAM, "remove", "-c", str(built.config_path))
    nothing_is_left(built)


@pytest_asyncio.fixture
async def loop(tmp_path: Path) -> AsyncIterator[LoopbackSite]:
    """A site on loopback without a gateway."""
    async with LoopbackSite(tmp_path, servers=("cas1",), health=QUICK) as site:
        yield site


def nothing_is_left(site: Site) -> None:
    """Neither tables nor addresses."""
    assert tables(site) == []
    assert not has_address(site, site.vip)


async def serves(site: Site, number: int = 1) -> str:
    """The server of a client that goes the whole way."""
    with site.host("clients").inside():
        client = outlook(site, number)
        await client.open()
        client.close()
    return client.member


async def test_a_wrong_file_is_refused_with_line_key_and_right_form(loop: LoopbackSite) -> None:
    edit(loop, ('fqdn = "cas.lab.example"', 'fqnd = "cas.lab.example"'), ("port = ", "port = -"))
    said = start_in_vain(loop)
    text = loop.config_path.read_text()
    for bad, right in (("fqnd", 'did you mean "fqdn"'), ("port = -", "65535")):
        line = text.split(bad)[0].count("\n") + 1
        assert any(line_.startswith(f"{loop.config_path}:{line}: ") for line_ in said.splitlines()), said
        assert right in said
    assert not (loop.folder / "state").exists()
    assert not (loop.folder / "casarray.sock").exists()


async def test_no_file_at_all_is_refused_with_the_way_to_one(loop: LoopbackSite) -> None:
    loop.config_path.unlink()
    assert "casarray init" in start_in_vain(loop)


async def test_a_metrics_port_that_is_taken_is_refused_and_the_control_socket_goes(loop: LoopbackSite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        edit(loop, ('metrics = ""', f'metrics = "{endpoint}"'))
        said = start_in_vain(loop)
    assert endpoint in said
    assert "gateway.metrics" in said
    assert not (loop.folder / "casarray.sock").exists()


async def test_a_folder_that_is_missing_for_the_control_socket_is_named(loop: LoopbackSite) -> None:
    edit(loop, ("/casarray.sock", "/nowhere/casarray.sock"))
    said = start_in_vain(loop)
    assert f"{loop.folder}/nowhere" in said
    assert "control" in said


async def test_a_second_gateway_at_the_same_control_socket_is_refused(loop: LoopbackSite) -> None:
    await loop.start_gateway()
    said = start_in_vain(loop)
    assert "another gateway" in said
    assert loop.control.status().arrays[0].ready
    assert await serves(loop) == "cas1"


async def test_a_second_gateway_with_the_same_address_in_userspace_is_refused(loop: LoopbackSite) -> None:
    await loop.start_gateway()
    edit(loop, ("/casarray.sock", "/other.sock"), ("/state", "/other"))
    said = start_in_vain(loop)
    assert f"already serves {loop.vip}" in said
    assert await serves(loop) == "cas1"


@pytest.mark.parametrize("kind", ["file", "folder in a file"])
async def test_a_state_folder_that_cannot_be_is_named(loop: LoopbackSite, kind: str) -> None:
    (loop.folder / "state").write_text("this is no folder")
    if kind != "file":
        edit(loop, ("/state", "/state/deeper"))
    said = start_in_vain(loop)
    assert f"{loop.folder}/state" in said
    assert "[gateway] state" in said


async def test_a_state_that_is_damaged_is_named(loop: LoopbackSite) -> None:
    (loop.folder / "state").mkdir()
    (loop.folder / "state" / "casarray.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    said = start_in_vain(loop)
    assert "casarray.db" in said
    assert "damaged" in said


async def test_a_port_of_a_service_that_is_taken_is_named(loop: LoopbackSite) -> None:
    for port in (loop.ports.epm, loop.ports.rpc):
        with socket.create_server((loop.vip, port)):
            said = start_in_vain(loop)
        assert loop.vip in said
        assert f"{port} is taken" in said


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_during_the_start_is_heeded(loop: LoopbackSite, sign: signal.Signals) -> None:
    loop.tell("cas1", "all hang-accept")
    edit(loop, ('timeout = "900ms"', 'timeout = "30s"'))
    with await starting(loop) as process:
        process.send_signal(sign)
        began = time.monotonic()
        assert await asyncio.to_thread(process.wait, 10) == 0
        assert time.monotonic() - began < 4
    assert not (loop.folder / "casarray.sock").exists()


async def test_a_sighup_during_the_start_does_not_end_it(loop: LoopbackSite) -> None:
    loop.tell("cas1", "all slow 1")
    edit(loop, ('timeout = "900ms"', 'timeout = "5s"'))
    with await starting(loop) as process:
        process.send_signal(signal.SIGHUP)
        await soon(lambda: "reloaded" in (loop.folder / "starting.log").read_text())
        await soon(lambda: loop.control.status().arrays[0].ready)
        process.terminate()
        assert await asyncio.to_thread(process.wait, 10) == 0


async def starting(site: Site) -> "subprocess.Popen[bytes]":
    """A gateway whose first look at its members takes long."""
    with (site.folder / "starting.log").open("wb") as log:
        process = site.host("gateway").spawn(PROGRAM, "run", "-c", str(site.config_path), stderr=log)
    await soon((site.folder / "casarray.sock").exists)
    await asyncio.sleep(0.1)
    return process


# In the kernel.


class TestInTheKernel:
    """With namespaces, tables and addresses."""

    pytestmark = needs_root

    async def test_a_wrong_file_leaves_nothing_in_the_kernel(self, net: NetworkSite) -> None:
        edit(net, ('mode = "kernel"', 'mode = "kernal"'))
        said = start_in_vain(net)
        assert 'gateway.mode: "kernal"' in said
        assert "userspace" in said
        nothing_is_left(net)

    async def test_a_second_gateway_with_the_same_address_is_refused_and_the_first_unhurt(
        self, net: NetworkSite
    ) -> None:
        await net.start_gateway()
        before = rules(net)
        edit(net, ("/casarray.sock", "/other.sock"), ("/state", "/other"))
        said = start_in_vain(net)
        assert f"already serves {net.vip}" in said
        assert net.gateway is not None
        assert f"process {net.gateway.pid}" in said
        assert rules(net) == before
        assert has_address(net, net.vip)
        assert await serves(net)

    async def test_without_rights_the_kernel_mode_is_one_sentence_with_the_way_out(self, net: NetworkSite) -> None:
        said = start_in_vain(net, *POWERLESS)
        assert "CAP_NET_ADMIN" in said
        assert 'mode = "userspace"' in said
        assert len(said.strip().splitlines()) == 1
        assert said.count(". ") <= 3, said
        nothing_is_left(net)

    async def test_without_nft_the_kernel_mode_is_one_sentence_with_the_way_out(self, net: NetworkSite) -> None:
        said = start_in_vain(net, "env", "PATH=/nowhere")
        assert "nftables" in said
        assert 'mode = "userspace"' in said
        assert len(said.strip().splitlines()) == 1
        nothing_is_left(net)

    @pytest.mark.parametrize("before", [POWERLESS, ("env", "PATH=/nowhere")], ids=["no rights", "no nft"])
    async def test_auto_falls_back_to_userspace_and_warns(self, net: NetworkSite, before: tuple[str, ...]) -> None:
        edit(net, ('mode = "kernel"', 'mode = "auto"'))
        net.host("gateway").sysctl("net.ipv4.ip_unprivileged_port_start", 100)
        net.host("gateway").ip(f"addr add {net.vip}/32 dev eth0", f"addr add {net.plan.vip6}/128 dev eth0 nodad")
        try:
            await started(net, *before)
            status = net.control.status()
            assert status.gateway.mode == "userspace"
            assert any("userspace mode" in warning for warning in status.warnings)
            assert await serves(net)
            assert "userspace mode" in net.gateway_log()
        finally:
            await net.stop_gateway()
            net.host("gateway").sysctl("net.ipv4.ip_unprivileged_port_start", 1024)
            net.host("gateway").ip(f"addr del {net.vip}/32 dev eth0", f"addr del {net.plan.vip6}/128 dev eth0")

    async def test_an_address_that_fits_no_interface_is_refused_and_nothing_is_left(self, net: NetworkSite) -> None:
        edit(net, (f'"{net.vip}"', '"192.0.2.9"'))
        said = start_in_vain(net)
        assert "192.0.2.9" in said
        assert "gateway.interface" in said
        nothing_is_left(net)
        assert not has_address(net, net.plan.vip6)

    async def test_an_interface_that_does_not_exist_is_refused_with_those_that_do(self, net: NetworkSite) -> None:
        edit(net, ('mode = "kernel"', 'mode = "kernel"\ninterface = "eth7"'))
        said = start_in_vain(net)
        assert "eth7" in said
        assert "eth0" in said
        nothing_is_left(net)

    async def test_an_address_that_another_interface_has_stays_there(self, net: NetworkSite) -> None:
        net.host("gateway").ip(f"addr add {net.vip}/32 dev lo")
        await net.start_gateway()
        assert await serves(net)
        assert await net.stop_gateway() == 0
        net.host("gateway").run(PROGRAM, "remove", "-c", str(net.config_path))
        assert has_address(net, net.vip)
        net.host("gateway").ip(f"addr del {net.vip}/32 dev lo")

    async def test_interface_none_leaves_the_address_to_somebody_else(self, net: NetworkSite) -> None:
        edit(net, ('mode = "kernel"', 'mode = "kernel"\ninterface = "none"'))
        await net.start_gateway()
        assert not has_address(net, net.vip)
        net.host("gateway").ip(f"addr add {net.vip}/24 dev eth0")
        try:
            assert await serves(net)
        finally:
            net.host("gateway").ip(f"addr del {net.vip}/24 dev eth0")

    async def test_a_mapper_port_that_is_taken_on_all_addresses_is_refused_and_nothing_is_left(
        self, net: NetworkSite
    ) -> None:
        with net.host("gateway").inside():
            taken = socket.socket()
            taken.bind(("0.0.0.0", 135))
            taken.listen()
        with taken:
            said = start_in_vain(net)
        assert f"{net.vip} port 135 is taken" in said
        nothing_is_left(net)

    async def test_of_two_arrays_none_is_left_when_the_second_cannot_be(self, net: NetworkSite) -> None:
        net.config_path.write_text(
            net.config_path.read_text()
            + '[[site]]\nname = "B"\n[[array]]\nname = "B"\nfqdn = "b.lab.example"\nsite = "B"\n'
            + 'addresses = ["192.0.2.9"]\nprofile = "msrpc"\n'
        )
        said = start_in_vain(net)
        assert "192.0.2.9" in said
        nothing_is_left(net)

    @pytest.mark.parametrize(("options", "word"), [("size=4k", "full"), ("ro", "cannot be written")])
    async def test_a_state_folder_that_takes_nothing_is_refused(
        self, net: NetworkSite, options: str, word: str
    ) -> None:
        state = net.folder / "state"
        state.mkdir(exist_ok=True)
        mount = f"mount -t tmpfs -o {options} none {state}; dd if=/dev/zero of={state}/fill bs=4k count=9 2>&-; "
        said = start_in_vain(net, "unshare", "-m", "sh", "-c", f'{mount} exec "$@"', "sh")
        assert str(state) in said
        assert word in said
        nothing_is_left(net)

    async def test_a_disk_that_fills_up_later_refuses_the_operator_and_hurts_no_client(self, net: NetworkSite) -> None:
        state = net.folder / "state"
        state.mkdir(exist_ok=True)
        edit(net, without="cas2")
        await started(net, "unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size=1m none {state}; exec "$@"', "sh")
        assert net.gateway is not None
        fill_up(Path(f"/proc/{net.gateway.pid}/root{state}/fill"))
        done = await asyncio.to_thread(cli, net, "server", "drain", "cas1")
        assert done.returncode == 1
        assert "could not be written" in done.stderr
        assert members(net)["cas1"].state is Wish.ACTIVE
        assert await serves(net) == "cas1"
        edit(
            net,
            (
                "[[server]]\n",
                '[[server]]\nname = "cas2"\nsite = "Lab"\naddress = ["10.12.0.22", "fd12::22"]\n\n[[server]]\n',
            ),
        )
        with pytest.raises(Unavailable, match="could not be written"):
            await asyncio.to_thread(net.control.reload)
        assert set(members(net)) == {"cas1"}
        assert await serves(net) == "cas1"

    async def test_an_array_that_was_taken_out_while_nobody_ran_is_gone_at_the_next_start(
        self, net: NetworkSite
    ) -> None:
        usual = net.config_path.read_text()
        net.config_path.write_text(
            usual + '[[site]]\nname = "B"\n[[array]]\nname = "B"\nfqdn = "b.lab.example"\nsite = "B"\n'
            'addresses = ["10.11.0.102"]\nprofile = "msrpc"\n'
        )
        await net.start_gateway()
        assert await net.stop_gateway() == 0
        assert "casarray_b" in tables(net)
        net.config_path.write_text(usual)
        await net.start_gateway()
        assert "casarray_b" not in tables(net)
        assert "casarray_cas" in tables(net)
        assert not has_address(net, "10.11.0.102")
        assert await serves(net)

    async def test_an_array_of_another_gateway_is_not_taken_for_something_left_over(self, net: NetworkSite) -> None:
        usual = net.config_path.read_text()
        edit(
            net,
            ("/casarray.sock", "/other.sock"),
            ("/state", "/other"),
            ('name = "CAS"', 'name = "B"'),
            (net.vip, "10.11.0.102"),
            (net.plan.vip6, "fd11::102"),
        )
        await net.start_gateway()
        other, net.gateway = net.gateway, None
        assert other is not None
        net.config_path.write_text(usual)
        await net.start_gateway()
        assert {"casarray_b", "casarray_cas"} <= set(tables(net))
        assert has_address(net, "10.11.0.102")
        assert await net.stop_gateway() == 0
        other.terminate()
        assert await asyncio.to_thread(other.wait, 10) == 0
        await net.start_gateway()  # now it is left over
        assert "casarray_b" not in tables(net)
        assert not has_address(net, "10.11.0.102")

    async def test_an_address_that_was_taken_out_while_nobody_ran_is_gone_at_the_next_start(
        self, net: NetworkSite
    ) -> None:
        usual = f'addresses = ["{net.vip}"'
        edit(net, (usual, f'addresses = ["10.11.0.101", "{net.vip}"'))
        await net.start_gateway()
        assert await net.stop_gateway() == 0
        assert has_address(net, "10.11.0.101")
        edit(net, (f'addresses = ["10.11.0.101", "{net.vip}"', usual))
        await net.start_gateway()
        assert not has_address(net, "10.11.0.101")
        with net.host("clients").inside(), pytest.raises(Unavailable):
            await Channel.open("10.11.0.101", 135, patience=0.5)
        assert await serves(net)


def fill_up(file: Path) -> None:
    """Write until nothing more fits."""
    with suppress(OSError), file.open("wb", buffering=0) as filling:
        while filling.write(bytes(4096)):
            pass


def rules(site: Site) -> str:
    """The tables with the handles of what is in them, without what changes as they are used."""
    told: str = site.host("gateway").run("nft", "-a", "list", "table", "inet", "casarray_cas").stdout
    return "\n".join(line for line in told.splitlines() if "handle" in line and "counter" not in line)


async def started(site: Site, *before: str) -> None:
    """Start the gateway by way of another program."""
    command = [*before, PROGRAM, "run", "-c", str(site.config_path)]
    site.gateway = await site._start("gateway", "gateway", command)
