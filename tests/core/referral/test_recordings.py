"""The recorded exchanges of tests/captures, asked of a server: it answers them as they are recorded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import pytest
from tests.core.dcerpc.conftest import read_capture
from tests.core.dcerpc.interfaces.address_book import ADAS_DN, ARRAY_DN, HANDLE
from tests.core.referral.talk import Talk

from casarray.core.dcerpc.interfaces import emsmdb, nspi
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.referral.client_access import ClientAccess
from casarray.core.referral.guide import Person

ADA = Person("ada", ADAS_DN, "Ada", "ada@lab", ("a@lab",))


@dataclass(frozen=True, slots=True)
class OneUser:
    """A server that knows Ada alone, whose mailbox is elsewhere."""

    name: str = "cas1"
    fqdn: str = "cas1.lab"
    organization: str = "/o=O"

    def person(self, user_dn: str) -> Person | None:
        return ADA if user_dn == ADAS_DN else None

    def account(self, principal: str) -> Person | None:  # noqa: ARG002 - as all guides
        return None

    def people(self) -> Sequence[Person]:
        return PEOPLE

    def address_book(self, user_dn: str, asker: Person | None) -> str | None:  # noqa: ARG002 - as all guides
        return "cas.lab"

    def fqdn_of(self, server_dn: str, asker: Person | None) -> str | None:  # noqa: ARG002 - as all guides
        return "cas.lab"

    def mailbox_home(self, person: Person) -> str | None:  # noqa: ARG002 - as all guides
        return ARRAY_DN

    def public_folders_home(self, person: Person | None) -> str | None:  # noqa: ARG002 - as all guides
        return ARRAY_DN


PEOPLE = (ADA,)


def the_recorded_handle() -> Callable[[], UUID]:
    return lambda: HANDLE.uuid


@pytest.fixture
def talk() -> Talk:
    """A connection on which the address book, and then the session, have the handle of the recordings."""
    opened = Talk(ClientAccess(OneUser(), the_recorded_handle()))
    opened.ask(NSPI, nspi.Opnum.BIND, nspi.NspiBind(), nspi.NspiBindReply.decode)
    opened.ask(EMSMDB, emsmdb.Opnum.CONNECT, emsmdb.EcDoConnectEx(ADAS_DN), emsmdb.EcDoConnectExReply.decode)
    return opened


@pytest.mark.parametrize(
    ("interface", "opnum", "asked", "answered"),
    [
        (NSPI, nspi.Opnum.DN_TO_MID, "nspi/dn_to_mid", "nspi/dn_to_mid_reply"),
        (NSPI, nspi.Opnum.RESOLVE_NAMES, "nspi/resolve_names", "nspi/resolve_names_reply"),
        (NSPI, nspi.Opnum.RESOLVE_NAMES_W, "nspi/resolve_names_w", "nspi/resolve_names_w_reply"),
        (EMSMDB, emsmdb.Opnum.RPC_EXT, "emsmdb/logon", "emsmdb/logon_wrong_server_reply"),
        (EMSMDB, emsmdb.Opnum.RPC_EXT, "emsmdb/release", "emsmdb/release_reply"),
    ],
    ids=lambda value: value.rpartition("/")[2] if isinstance(value, str) else "",
)
def test_a_recorded_question_gets_the_recorded_answer(
    talk: Talk, interface: Syntax, opnum: int, asked: str, answered: str
) -> None:
    assert talk.stub(interface, opnum, read_capture(asked)).stub == read_capture(answered)


@pytest.mark.parametrize(
    ("opnum", "asked"),
    [
        (nspi.Opnum.UPDATE_STAT, "update_stat"),
        (nspi.Opnum.QUERY_ROWS, "query_rows"),
        (nspi.Opnum.GET_MATCHES, "get_matches"),
        (nspi.Opnum.GET_PROP_LIST, "get_prop_list"),
        (nspi.Opnum.GET_PROPS, "get_props"),
        (nspi.Opnum.GET_SPECIAL_TABLE, "get_special_table"),
        (nspi.Opnum.QUERY_COLUMNS, "query_columns"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_other_recorded_question_is_answered_with_success(talk: Talk, opnum: int, asked: str) -> None:
    # Who has not been shown yet has no number: look her up first, as the recorded client had done.
    talk.stub(NSPI, nspi.Opnum.DN_TO_MID, read_capture("nspi/dn_to_mid"))
    result = int.from_bytes(talk.stub(NSPI, opnum, read_capture(f"nspi/{asked}")).stub[-4:], "little")
    assert result in (0, nspi.NspiResult.ERRORS_RETURNED)
