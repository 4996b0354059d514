"""Standing in for servers that are gone: which name a client came by, and what is kept of it."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest
from tests.core.referral.talk import ALICE, PEOPLE, SERVERS, numbered

from casarray.app.referral import BOOK, MAILBOX, MAPPER, ReferralService, kept
from casarray.core.config import Config, Gateway, ReferralSettings, Retired
from casarray.core.dcerpc.association import BindRefused, Failed, Reply, RpcClient, Send
from casarray.core.dcerpc.auth import AuthLevel
from casarray.core.dcerpc.interfaces import emsmdb, epm, rfr
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.epm import EPM
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.pdu import Auth
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.dcerpc.tower import Tower
from casarray.core.directory.model import Directory
from casarray.core.errors import Unavailable
from casarray.core.referral.visits import Visit

ONE, BOTH, SIX = ip_address("10.11.0.50"), ip_address("10.11.0.51"), ip_address("fd00::50")
CLIENT = ip_address("10.9.8.7")
RETIRED = (
    Retired("old1.domain.tld", (ONE, SIX)),
    Retired("old2.domain.tld", (BOTH,), "Berlin"),
    Retired("old3.domain.tld", (BOTH,)),
)


def service(directory: Directory = PEOPLE, times: Sequence[float] = (1.0, 2.0, 3.0, 4.0)) -> ReferralService:
    clock = iter(times)
    config = Config(Gateway("gw1"), (), (), (), referral=ReferralSettings(), retired=RETIRED)
    made = ReferralService(config, numbered(), lambda: next(clock))
    made.directory = directory
    for post in made.posts:
        post.listening(post.ports)
    return made


class Client:
    """One connection to it."""

    def __init__(self, made: ReferralService, address: Any, kind: str, interface: Syntax, client: Any = CLIENT) -> None:
        post = next(post for post in made.posts if post.address == address)
        self.visitor = made.visitor(post, kind, client)
        self.rpc = RpcClient()
        self.interface = interface
        self._say(self.rpc.bind(interface))

    def call(self, opnum: int, asked: Any) -> bytes:
        (event,) = self._say(self.rpc.call(self.interface, opnum, asked.encode()))
        assert isinstance(event, Reply), event
        return event.stub

    def _say(self, octets: bytes) -> Any:
        answer = b""
        for event in self.visitor.rpc.receive(octets):
            answer += event.data if hasattr(event, "data") else self.visitor.answer(event)  # type: ignore[arg-type]  # the two events that there are here
        return self.rpc.receive(answer)


def referred(made: ReferralService, address: Any = ONE, client: Any = CLIENT) -> Client:
    talk = Client(made, address, BOOK, RFR, client)
    talk.call(rfr.Opnum.GET_NEW_DSA, rfr.RfrGetNewDsa(ALICE))
    return talk


def asked_for(talk: Client, name: str) -> str | None:
    stub = talk.call(rfr.Opnum.GET_FQDN_FROM_SERVER_DN, rfr.RfrGetFqdnFromServerDn(SERVERS + name))
    return rfr.RfrGetFqdnFromServerDnReply.decode(stub).fqdn


def mapped(address: Any, interface: Syntax) -> tuple[str, int | None]:
    talk = Client(service(), address, MAPPER, EPM)
    stub = talk.call(epm.EPT_MAP, epm.EptMap(Tower.tcp(interface)))
    (tower,) = epm.EptMapReply.decode(stub).towers
    return str(tower.address), tower.port


def test_the_mapper_tells_the_address_it_was_asked_at_and_its_own_ports() -> None:
    assert mapped(ONE, NSPI) == mapped(ONE, RFR) == ("10.11.0.50", 5000)
    assert mapped(BOTH, EMSMDB) == ("10.11.0.51", 5001)


def test_a_tower_has_no_room_for_an_address_of_ipv6() -> None:
    assert mapped(SIX, EMSMDB) == ("0.0.0.0", 5001)


def test_who_only_asks_the_mapper_has_not_come() -> None:
    made = service()
    talk = Client(made, ONE, MAPPER, EPM)
    talk.call(epm.EPT_MAP, epm.EptMap(Tower.tcp(NSPI)))
    talk.visitor.gone()
    assert made.visits.lines() == ()


def test_a_client_is_kept_once_for_each_connection_as_soon_as_it_says_who_it_is() -> None:
    made = service()
    talk = referred(made)
    talk.call(rfr.Opnum.GET_NEW_DSA, rfr.RfrGetNewDsa(ALICE))
    assert made.visits.lines() == (Visit("alice", "10.9.8.7", "old1", 1.0, 1.0),)
    talk.visitor.gone()
    referred(made).visitor.gone()
    assert made.visits.lines() == (Visit("alice", "10.9.8.7", "old1", 1.0, 2.0, 2),)


def test_a_client_that_never_says_who_it_is_is_kept_by_its_address_when_it_leaves() -> None:
    made = service()
    talk = Client(made, ONE, BOOK, RFR)
    assert asked_for(talk, "cas.domain.tld") == "cas.domain.tld"
    assert made.visits.lines() == ()
    talk.visitor.gone()
    assert made.visits.lines() == (Visit("", "10.9.8.7", "old1", 1.0, 1.0),)


def test_a_client_that_says_nothing_at_all_has_not_come() -> None:
    made = service()
    Client(made, ONE, BOOK, RFR).visitor.gone()
    assert made.visits.lines() == ()


def test_a_client_that_cannot_authenticate_is_kept_too_and_the_log_says_what_is_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = service()
    for _ in range(2):
        visitor = made.visitor(made.posts[0], MAILBOX, CLIENT)
        rpc = RpcClient()
        asked = rpc.bind(EMSMDB, auth=Auth(10, AuthLevel.PRIVACY, 1, b"NTLMSSP"))
        answer = b"".join(event.data for event in visitor.rpc.receive(asked) if isinstance(event, Send))
        assert [type(event) for event in rpc.receive(answer)] == [BindRefused]
        visitor.gone()
    assert made.visits.lines() == (Visit("", "10.9.8.7", "old1", 1.0, 2.0, 2),)
    assert made.calls["old1", "refused authentication"] == 2
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 1
    assert "10.9.8.7 could not authenticate by NTLM to old1" in said[0]


def test_calls_that_are_not_there_are_counted_under_one_name() -> None:
    made = service()
    talk = Client(made, ONE, BOOK, RFR)
    for opnum in (90, 91):
        (event,) = talk._say(talk.rpc.call(RFR, opnum, b""))
        assert isinstance(event, Failed)
    assert made.calls == {("old1", "other"): 2}


def test_behind_an_address_of_two_names_the_name_is_the_one_that_the_client_asks_about() -> None:
    made = service()
    talk = referred(made, BOTH)
    assert asked_for(talk, "OLD3") == "cas.domain.tld"  # by the site of the address
    assert asked_for(talk, "old2") == "outlook.berlin.domain.tld"  # by the site that it is said to have been in
    assert [visit.name for visit in made.visits.lines()] == ["old3"]


def test_behind_an_address_of_two_names_a_client_that_names_none_came_by_either() -> None:
    made = service()
    referred(made, BOTH).visitor.gone()
    assert [visit.name for visit in made.visits.lines()] == ["old2 or old3"]


def test_a_session_is_kept_too_and_ends_with_its_connection() -> None:
    made = service()
    talk = Client(made, ONE, MAILBOX, EMSMDB)
    talk.call(emsmdb.Opnum.CONNECT, emsmdb.EcDoConnectEx(ALICE))
    (post, *_) = made.posts
    assert post.access.open_handles == 1
    talk.visitor.gone()
    assert post.access.open_handles == 0
    assert [visit.user for visit in made.visits.lines()] == ["alice"]
    assert made.calls["old1", "EcDoConnectEx"] == 1


def test_what_an_administrator_should_know_is_said() -> None:
    assert service().warnings() == ()
    assert "no array" in " ".join(service(Directory()).warnings())
    still = PEOPLE.put(PEOPLE.servers["cas1"])
    config = Config(Gateway("gw1"), (), (), (), retired=(Retired("cas1.domain.tld", (ONE,)),))
    made = ReferralService(config, numbered(), lambda: 0.0)
    made.directory = still
    assert "cas1 is retired here and still a member" in " ".join(made.warnings())


class Damaged:
    """A list that cannot be read."""

    aside = 0

    def load(self) -> Sequence[Visit]:
        raise Unavailable("it is damaged")

    def save(self, visits: Sequence[Visit]) -> None:
        raise AssertionError(visits)

    def put_aside(self) -> object:
        self.aside += 1
        return "elsewhere"


def test_a_damaged_list_is_put_aside_and_keeps_nobody_from_being_led() -> None:
    store = Damaged()
    assert kept(store) == ()
    assert store.aside == 1
