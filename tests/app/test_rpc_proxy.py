"""Which server a client of the RPC proxy gets: names, ports, members, and what is remembered."""

from dataclasses import dataclass, field, replace
from ipaddress import ip_address

import pytest

from casarray.app.rpc_proxy import INTERFACES, SHUNNED, RingLeader, ServerFinder
from casarray.core.config import Backend, Config
from casarray.core.config_file import load_config
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.errors import ConfigError, Denied, NotFound, Unavailable
from casarray.core.forwarding.table import Address
from casarray.core.rpc_http.http import Target

SITE = """
[gateway]
name = "gw1"
[[site]]
name = "Ulm"
[[array]]
name = "CAS"
fqdn = "cas.lab.example"
site = "Ulm"
addresses = ["10.11.0.100"]
profile = "exchange-2010"
[[server]]
name = "cas1"
site = "Ulm"
address = "10.12.0.21"
[[server]]
name = "cas2"
site = "Ulm"
address = "10.12.0.22"
"""
CLIENT = ip_address("10.20.0.1")
CLIENTS = [ip_address(f"10.20.{n // 200}.{n % 200 + 1}") for n in range(400)]


@dataclass
class Asker:
    """The mappers of all members."""

    asked: list[tuple[str, int, Syntax]] = field(default_factory=list)
    known: bool = True

    async def __call__(self, address: Address, mapper_port: int, interface: Syntax) -> int:
        self.asked.append((str(address), mapper_port, interface))
        if not self.known:
            raise Unavailable("it does not know")
        return 6005 if interface == EMSMDB else 6006


@dataclass
class Hands:
    """A finder, and the hands of its clock."""

    config: Config
    now: float = 0.0
    asker: Asker = field(default_factory=Asker)

    def __post_init__(self) -> None:
        self.leader = RingLeader(self.config, self.config.arrays[0], lambda: self.now)
        leaders = {"CAS": self.leader}
        self.finder = ServerFinder(lambda: self.config, leaders.get, self.asker, lambda: self.now)


def hands(text: str = SITE, **settings: object) -> Hands:
    config = load_config(text)
    return Hands(replace(config, rpc_http=replace(config.rpc_http, **settings)))  # type: ignore[arg-type]  # as named


@pytest.mark.parametrize("name", ["cas.lab.example", "CAS.LAB.EXAMPLE", "cas", "cas.lab.example."])
async def test_the_arrays_name_leads_to_the_clients_member(name: str) -> None:
    here = hands()
    place = await here.finder.find(Target(name, 6001), CLIENT)
    route = here.leader.route(CLIENT)
    assert route is not None
    assert (place.address, place.port, place.member_id) == (route.address, 6005, route.member_id)


async def test_all_ports_of_one_client_lead_to_one_member() -> None:
    here = hands()
    for client in CLIENTS[:50]:
        places = [await here.finder.find(Target("cas.lab.example", port), client) for port in INTERFACES]
        assert len({place.address for place in places}) == 1
    assert len({(await here.finder.find(Target("cas", 6001), client)).address for client in CLIENTS}) == 2


@pytest.mark.parametrize("name", ["cas2", "cas2.lab.example"])
async def test_a_members_name_leads_to_that_member(name: str) -> None:
    place = await hands().finder.find(Target(name, 6004), CLIENT)
    assert (str(place.address), place.port, place.interface) == ("10.12.0.22", 6006, NSPI)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (Target("elsewhere.example", 6001), NotFound),
        (Target("10.12.0.21", 6001), NotFound),
        (Target("cas", 135), Denied),
        (Target("cas", 3389), Denied),
    ],
)
def test_nothing_else_may_be_reached(target: Target, error: type[Exception]) -> None:
    with pytest.raises(error):
        hands().finder.check(target)


def test_members_and_arrays_can_be_kept_from_being_named() -> None:
    with pytest.raises(NotFound, match="no array called cas1"):
        hands(server_names=False).finder.check(Target("cas1", 6001))
    with pytest.raises(NotFound):
        hands(arrays=("OTHER",)).finder.check(Target("cas", 6001))
    hands(arrays=("cas",)).finder.check(Target("cas1", 6001))


async def test_a_port_is_remembered_for_a_while_and_asked_anew_when_nobody_answers_there() -> None:
    here = hands()
    for _ in range(3):
        place = await here.finder.find(Target("cas", 6001), CLIENT)
    assert len(here.asker.asked) == 1
    here.now = 61.0
    await here.finder.find(Target("cas", 6001), CLIENT)
    assert len(here.asker.asked) == 2
    here.finder.unreachable(place)
    await here.finder.find(Target(f"cas{place.member_id and str(place.address)[-1]}", 6001), CLIENT)
    assert len(here.asker.asked) == 3


async def test_a_member_that_is_unreachable_gives_its_clients_to_another_and_they_stay_there() -> None:
    here = hands()
    first = await here.finder.find(Target("cas", 6001), CLIENT)
    here.finder.unreachable(first)
    second = await here.finder.find(Target("cas", 6001), CLIENT)
    assert second.address != first.address
    here.now = 2 * SHUNNED
    assert (await here.finder.find(Target("cas", 6004), CLIENT)).address == second.address


async def test_the_last_member_left_is_tried_even_so() -> None:
    here = hands()
    for _ in range(2):
        here.finder.unreachable(await here.finder.find(Target("cas", 6001), CLIENT))
    assert (await here.finder.find(Target("cas", 6001), CLIENT)).port == 6005


async def test_an_array_that_nobody_leads_is_unavailable() -> None:
    here = hands()
    finder = ServerFinder(lambda: here.config, lambda _: None, here.asker, lambda: 0.0)
    with pytest.raises(Unavailable, match="no member may be used"):
        await finder.find(Target("cas", 6001), CLIENT)


async def test_a_mapper_that_does_not_know_is_unavailable() -> None:
    here = hands()
    here.asker.known = False
    with pytest.raises(Unavailable):
        await here.finder.find(Target("cas", 6001), CLIENT)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('listen = "10.0.0.1:443"', "everybody on the way to 10.0.0.1:443 could read along"),
        ('listen = "127.0.0.1:80"\ncertificate = "/etc/a.pem"', "there is no key to go with it"),
        ('listen = "127.0.0.1:80"\narrays = ["CAX"]', "there is no array"),
        ('listen = "443"', "is not an address with a port"),
        ("timeout = 5", "rpc-http.timeout"),
    ],
)
def test_a_configuration_that_cannot_be_right_is_refused(table: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(f"[rpc-http]\n{table}\n{SITE}")


def test_a_configuration_of_the_proxy_is_read() -> None:
    text = '[rpc-http]\nlisten = "10.11.0.5:443"\ncertificate = "/c.pem"\nkey = "/k.pem"\narrays = ["CAS"]\n'
    settings = load_config(text + SITE).rpc_http
    assert (settings.listen, settings.arrays, settings.timeout) == ("10.11.0.5:443", ("CAS",), 900.0)


async def test_members_that_speak_rpc_over_http_are_reached_on_the_port_that_was_asked_for() -> None:
    here = hands(backend=Backend.HTTP)
    place = await here.finder.find(Target("cas", 6004), CLIENT)
    assert (place.port, place.over_http, here.asker.asked) == (6004, True, [])
    assert (await here.finder.find(Target("cas2", 6001), CLIENT)).port == 6001
