"""`casarray referral` as a program, and the lab's servers by a directory: asked by impacket and by our own client,
directly and through an array."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from impacket.dcerpc.v5 import epm as impacket_epm
from impacket.dcerpc.v5 import nspi as impacket_nspi
from impacket.dcerpc.v5 import oxabref, transport
from impacket.uuid import uuidtup_to_bin

from casarray.adapters.stores.sqlite_directory import SqliteDirectory
from casarray.app.stores import Note
from casarray.core.dcerpc.interfaces.emsmdb_rops import LogonRedirect, LogonSuccess
from casarray.core.directory.changes import difference
from casarray.core.directory.legacy_dn import of_account, of_server
from casarray.core.directory.model import (
    MAILBOX,
    Account,
    Array,
    Copy,
    Database,
    Directory,
    Server,
    Site,
    Subnet,
)
from casarray.core.referral.address_book import server_guid
from casarray.lab.site import LoopbackSite, free_port

from .gateways import PROGRAM, QUICK, eventually
from .old_profile import host_behind, logged_on_as

RFR_UUID = ("1544f5e0-613c-11d1-93df-00c04fd7bd09", "1.0")
NSPI_UUID = ("f5cc5a18-4264-101a-8c59-08002b2f8426", "56.0")
CAS, FAR = "cas.lab.example", "far.lab.example"


def organisation(site: LoopbackSite) -> Directory:
    """Two sites; alice and bob are at home in the one with the gateway, carol in the other."""
    servers = [
        Server(name, f"{name}.lab.example", "Lab", addresses=tuple(map(ip_address, site.addresses(name))))
        for name in site.names
    ]
    return Directory("Lab").put(
        Site("Lab"),
        Site("Far"),
        Subnet(ip_network(f"{site.net}.0.0/16"), "Lab"),
        *servers,
        Server("mbx1", "mbx1.lab.example", "Lab", (MAILBOX,), None),
        Server("mbx2", "mbx2.lab.example", "Far", (MAILBOX,), None),
        Array("CAS", CAS, "Lab", (ip_address(site.vip),)),
        Array("FAR", FAR, "Far"),
        Database("DB1", "mbx1", (Copy("mbx1"),), "old1.lab.example"),  # which nobody has corrected
        Database("DB2", "mbx2", (Copy("mbx2"),), FAR),
        Account("alice", "DB1", "alice@lab.example", "Alice"),
        Account("bob", "DB1", "bob@lab.example", "Bob"),
        Account("carol", "DB2", "carol@lab.example", "Carol"),
    )


@dataclass(slots=True)
class Place:
    """The array with its servers, and where the referral is to stand in for two servers that are gone."""

    site: LoopbackSite
    directory: Directory
    folder: Path
    ports: dict[str, int]
    old: tuple[str, str]

    def dn(self, user: str) -> str:
        return of_account(self.directory, self.directory.accounts[user])

    @property
    def config(self) -> str:
        return str(self.folder / "referral.toml")

    def write(self, **more: str) -> None:
        """The referral's configuration."""
        keys = {f"{name}_port": str(port) for name, port in self.ports.items()} | {"anonymous": '"everything"'} | more
        text = f'[gateway]\nname = "gw1"\nstate = "{self.folder}/referral"\nmetrics = ""\n'
        text += f'[directory]\nstore = "sqlite:{self.folder}/directory"\n[referral]\n'
        text += "".join(f"{key} = {value}\n" for key, value in keys.items())
        for number, address in enumerate(self.old, 1):
            text += f'[[retired]]\nname = "old{number}.lab.example"\naddresses = ["{address}"]\n'
        Path(self.config).write_text(text)

    def report(self) -> Any:
        """What `casarray referral report` tells."""
        done = subprocess.run(
            [PROGRAM, "referral", "report", "--json", "-c", self.config], capture_output=True, check=True, timeout=30
        )
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("referral")
    site = LoopbackSite(folder, servers=("cas1", "cas2"), health=QUICK)
    directory = organisation(site)
    (folder / "directory").mkdir()
    store = SqliteDirectory(str(folder / "directory"))
    # What names a server that is gone breaks a rule of ours: real directories do.
    store.change(store.read(), difference(Directory(), directory), Note("test", "made"))
    store.close()
    led = directory.put(replace(directory.databases["db1"], rpc_client_access_server=CAS))
    (folder / "led").mkdir()
    told = SqliteDirectory(str(folder / "led"))
    told.change(told.read(), difference(Directory(), led), Note("test", "made"))
    told.close()
    site.server_options = ("--directory", f"sqlite:{folder}/led")
    ports = {"mapper": free_port(23135), "book": free_port(23500), "mailbox": free_port(23600)}
    made = Place(site, directory, folder, ports, (f"{site.net}.2.1", f"{site.net}.2.2"))
    made.write()

    async def start() -> None:
        await site.__aenter__()
        await site.start_gateway()

    try:
        asyncio.run(start())
        yield made
    finally:
        site.close()


@contextmanager
def referring(place: Place, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """The program; ended by SIGTERM with 0 if it still runs then."""
    command = [PROGRAM, "referral", "run", *(options or ("-c", place.config))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", process.communicate(timeout=5)[1]
            yield process
        finally:
            running = process.poll() is None
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=15)[1]
            assert not running or process.returncode == 0, said
            assert "Traceback" not in said, said


def impacket(host: str, port: int, uuid: tuple[str, str] | None = None) -> Any:
    rpc = transport.DCERPCTransportFactory(f"ncacn_ip_tcp:{host}[{port}]")
    rpc.set_connect_timeout(5)
    dce = rpc.get_dce_rpc()
    dce.connect()
    if uuid is not None:
        dce.bind(uuidtup_to_bin(uuid))
    return dce


async def in_a_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.wait_for(asyncio.to_thread(work), 20)


def mapped(host: str, port: int, uuid: tuple[str, str]) -> int:
    """The port that the endpoint mapper there tells; it must say its own address."""
    dce = impacket(host, port)
    found = impacket_epm.hept_map(host, uuidtup_to_bin(uuid), protocol="ncacn_ip_tcp", dce=dce)
    dce.disconnect()
    address, _, told = found.removeprefix("ncacn_ip_tcp:").removesuffix("]").partition("[")
    assert address == host
    return int(told)


def referred(place: Place, host: str, port: int, server: str) -> tuple[str, str]:
    """What RFR there tells alice, by impacket: her address book's server, and the host behind a server's DN."""
    dce = impacket(host, mapped(host, port, RFR_UUID), RFR_UUID)
    book = oxabref.hRfrGetNewDSA(dce, place.dn("alice"))["ppszServer"]
    dn = f"/o=Lab/ou={place.directory.admin_group}/cn=Configuration/cn=Servers/cn={server}\0"
    host_name = oxabref.hRfrGetFQDNFromServerDN(dce, dn)["ppszServerFQDN"]
    dce.disconnect()
    return book.rstrip("\0"), host_name.rstrip("\0")


def looked_up(host: str, port: int) -> tuple[Any, bytes]:
    """The address book there, by impacket: the list of books, everybody's account, and whom two names mean."""
    dce = impacket(host, mapped(host, port, NSPI_UUID), NSPI_UUID)
    bound = impacket_nspi.hNspiBind(dce)
    handle = bound["contextHandle"]
    tables = impacket_nspi.hNspiGetSpecialTable(dce, handle)["ppRows"]["aRow"]
    columns = [0x3A00001F, 0x39FE001F]
    rows = impacket_nspi.hNspiQueryRows(dce, handle, pPropTags=columns)["ppRows"]["aRow"]
    people = [impacket_nspi.simplifyPropertyRow(row) for row in rows]
    meant = impacket_nspi.hNspiResolveNamesW(dce, handle, pPropTags=columns, paStr=["bo", "nobody"])
    impacket_nspi.hNspiUnbind(dce, handle)
    dce.disconnect()
    found = {
        "books": len(tables),
        "people": [person[0x3A00001F].rstrip("\0") for person in people],
        "resolved": [
            number["Data"] if hasattr(number, "fields") else number for number in meant["ppMIds"]["aulPropTag"]
        ],
    }
    return found, bound["pServerGuid"]


EVERYBODY = {"books": 1, "people": ["alice", "bob", "carol"], "resolved": [2, 0]}


async def test_impacket_is_led_to_the_array_by_a_retired_name(place: Place) -> None:
    with referring(place):
        told = await in_a_thread(lambda: referred(place, place.old[0], place.ports["mapper"], "old1"))
    assert told == (CAS, CAS)


async def test_impacket_looks_into_the_address_book_behind_a_retired_name(place: Place) -> None:
    with referring(place):
        found, guid = await in_a_thread(lambda: looked_up(place.old[1], place.ports["mapper"]))
    assert found == EVERYBODY
    assert guid == server_guid("old2.lab.example").bytes_le


async def test_impacket_is_referred_and_looks_people_up_through_the_array(place: Place) -> None:
    vip, port = place.site.vip, place.site.ports.epm
    told = await eventually(lambda: in_a_thread(lambda: referred(place, vip, port, "cas2")))
    assert told == (CAS, "cas2.lab.example")
    found, guid = await in_a_thread(lambda: looked_up(vip, port))
    assert found == EVERYBODY
    assert guid in [server_guid(f"{name}.lab.example").bytes_le for name in place.site.names]


async def logged_on(place: Place, host: str, port: int, user: str, source: str) -> Any:
    """What the server there answers to a user who logs on to his mailbox."""
    return await logged_on_as(host, port, place.dn(user), source)


async def test_an_old_profile_is_led_from_the_retired_name_into_its_mailbox_behind_the_array(place: Place) -> None:
    source, old, mapper = f"{place.site.net}.32.1", place.old[0], place.ports["mapper"]
    with referring(place):
        led = await logged_on(place, old, mapper, "alice", source)
        assert led == LogonRedirect(of_server(place.directory, place.directory.arrays["cas"]))
        assert await host_behind(old, mapper, led.server_dn, source) == CAS
    vip, port = place.site.vip, place.site.ports.epm
    opened = await eventually(lambda: logged_on(place, vip, port, "alice", source))
    assert isinstance(opened, LogonSuccess)


async def test_a_mailbox_of_another_site_is_not_opened_by_the_array(place: Place) -> None:
    vip, port = place.site.vip, place.site.ports.epm
    led = await eventually(lambda: logged_on(place, vip, port, "carol", f"{place.site.net}.32.9"))
    assert led == LogonRedirect(of_server(place.directory, place.directory.arrays["far"]))


async def test_the_report_says_who_came_by_which_name_and_survives_a_kill(place: Place) -> None:
    net, mapper = place.site.net, place.ports["mapper"]
    before = {
        tuple(visit[key] for key in ("user", "client", "name")): visit["count"] for visit in place.report()["visits"]
    }
    came = [("alice", f"{net}.33.1", 0), ("bob", f"{net}.33.2", 0), ("carol", f"{net}.33.3", 1)]
    with referring(place) as process:
        for user, source, number in (*came, came[0]):
            assert isinstance(await logged_on(place, place.old[number], mapper, user, source), LogonRedirect)

        def counts() -> dict[tuple[str, ...], int]:
            lines = place.report()["visits"]
            found = {tuple(visit[key] for key in ("user", "client", "name")): visit["count"] for visit in lines}
            return {line: count - before.get(line, 0) for line, count in found.items() if count != before.get(line)}

        wanted = {
            ("alice", f"{net}.33.1", "old1"): 2,
            ("bob", f"{net}.33.2", "old1"): 1,
            ("carol", f"{net}.33.3", "old2"): 1,
        }

        async def told() -> None:
            assert await asyncio.to_thread(counts) == wanted

        await eventually(told, 15)
        process.kill()
        process.wait()
    with referring(place):
        await logged_on(place, place.old[0], mapper, "bob", f"{net}.33.2")
    assert counts() == wanted | {("bob", f"{net}.33.2", "old1"): 2}
    names = {line["name"]: line for line in place.report()["names"]}
    assert names["old2"]["users"] >= 1


async def test_what_the_directory_says_now_is_what_clients_are_told(place: Place) -> None:
    source, mapper = f"{place.site.net}.34.1", place.ports["mapper"]
    store = SqliteDirectory(str(place.folder / "directory"))
    try:
        with referring(place):
            moved = place.directory.put(replace(place.directory.accounts["bob"], database="DB2"))
            changes = difference(place.directory, moved)
            store.change(store.read(), changes, Note("test", "moved"))

            async def led() -> None:
                answer = await logged_on(place, place.old[0], mapper, "bob", source)
                assert answer == LogonRedirect(of_server(place.directory, place.directory.arrays["far"]))

            await eventually(led, 15)
    finally:
        store.change(store.read(), difference(moved, place.directory), Note("test", "moved back"))
        store.close()


async def test_a_configuration_that_is_read_again_is_in_force_and_a_wrong_one_is_not(place: Place) -> None:
    mapper, source = place.ports["mapper"], f"{place.site.net}.34.2"
    with referring(place) as process:
        try:
            place.write(anonymous='"nothing"')
            process.send_signal(signal.SIGHUP)

            async def refused() -> None:
                with pytest.raises(Exception, match="00000005"):
                    await host_behind(place.old[0], mapper, "/o=Lab/cn=Servers/cn=old1", source)

            await eventually(refused, 15)
            place.write(mapper_port="0")
            process.send_signal(signal.SIGHUP)
            await eventually(refused)
        finally:
            place.write()


def test_a_second_referral_on_the_same_state_is_refused(place: Place) -> None:
    with referring(place):
        done = subprocess.run(
            [PROGRAM, "referral", "run", "-c", place.config], capture_output=True, text=True, check=False, timeout=30
        )
    assert done.returncode == 1
    assert "another casarray referral" in done.stderr


FILE = """\
[gateway]
name = "gw1"
state = "{folder}/alone"
metrics = ""

[referral]
mapper_port = {mapper}
book_port = {book}
mailbox_port = {mailbox}
metrics = "127.0.0.1:{metrics}"

[[site]]
name = "Ulm"

[[array]]
name = "ULM"
fqdn = "ulm.lab.example"
site = "Ulm"
addresses = ["10.11.0.100"]
profile = "exchange-2010"
"""


async def test_without_a_directory_clients_are_led_to_the_array_of_the_file_and_counted(place: Place) -> None:
    metrics, here, source = free_port(23700), f"{place.site.net}.3.1", f"{place.site.net}.35.1"
    path = place.folder / "alone.toml"
    path.write_text(FILE.format(folder=place.folder, metrics=metrics, **place.ports))
    names = ("--listen", here, "--retired", "old8.lab.example", "--retired", "old9.lab.example")
    with referring(place, "-c", str(path), *names):
        for name in ("old9", "OLD8.lab.example"):
            dn = f"/o=Lab/ou=x/cn=Configuration/cn=Servers/cn={name}"
            assert await host_behind(here, place.ports["mapper"], dn, source) == "ulm.lab.example"

        async def told() -> None:
            text = await asyncio.to_thread(read, f"http://127.0.0.1:{metrics}/metrics")
            assert 'casarray_referral_clients{name="old8"} 1.0' in text
            assert 'casarray_referral_clients{name="old9"} 1.0' in text
            assert 'casarray_referral_answers_total{call="RfrGetFQDNFromServerDN",name="old8"} 2.0' in text
            assert "casarray_referral_connections 0.0" in text

        await eventually(told)
        assert await asyncio.to_thread(read, f"http://127.0.0.1:{metrics}/healthz") == "ok\n"


def read(url: str) -> str:
    with urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
    return text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--listen", "127.0.0.1"), "belong together"),
        (("--listen", "nowhere", "--retired", "old1.lab.example"), "write it like"),
        ((), "nothing says for which servers"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(tmp_path: Path, options: tuple[str, ...], reason: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'[gateway]\nname = "gw1"\nstate = "{tmp_path}/s"\n[directory]\nstore = "sqlite:{tmp_path}/s"\n')
    command = [PROGRAM, "referral", "run", "-c", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert reason in done.stderr
