"""One server's answers over an association: sessions, logons, who may ask, and octets that nobody meant."""

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.referral.talk import ALICE, GROUP, PEOPLE, SERVERS, Fault, Talk, access, by_kerberos, moved

from casarray.core.config import Anonymous
from casarray.core.dcerpc.association import AssociationGroups
from casarray.core.dcerpc.auth import AuthLevel
from casarray.core.dcerpc.interfaces import emsmdb, nspi, rfr
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB, EcResult
from casarray.core.dcerpc.interfaces.emsmdb_rops import (
    NO_HANDLE,
    EcDoRpcExt2,
    EcDoRpcExt2Reply,
    LogonRedirect,
    LogonSuccess,
    PublicLogonSuccess,
    RopFailure,
    RopLogon,
    RopRelease,
    UnknownRop,
    read_replies,
    request_octets,
)
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.ndr import NIL_HANDLE, ContextHandle
from casarray.core.referral.client_access import Demands

wide_or_not = pytest.mark.parametrize("ndr64", [False, True], ids=["NDR", "NDR64"])


def connect(talk: Talk, dn: str = ALICE) -> emsmdb.EcDoConnectExReply:
    return talk.ask(EMSMDB, emsmdb.Opnum.CONNECT, emsmdb.EcDoConnectEx(dn), emsmdb.EcDoConnectExReply.decode)


def perform(talk: Talk, session: ContextHandle, *rops: Any) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    asked = EcDoRpcExt2(session, request_octets(rops))
    return read_replies(talk.ask(EMSMDB, emsmdb.Opnum.RPC_EXT, asked, EcDoRpcExt2Reply.decode).rops)


def logon(name: str, dn: str = ALICE, directory: Any = PEOPLE, **how: Any) -> Any:
    """What a server answers to somebody who logs on there to his own mailbox."""
    talk = Talk(access(name, directory))
    (answer,), _ = perform(talk, connect(talk, dn).session, RopLogon(dn, **how))
    return answer


@wide_or_not
def test_a_session_is_opened_and_ended(ndr64: bool) -> None:
    talk = Talk(access(), ndr64=ndr64)
    opened = connect(talk)
    assert (opened.result, opened.dn_prefix) == (0, "/o=Contoso")
    ended = talk.ask(
        EMSMDB, emsmdb.Opnum.DISCONNECT, emsmdb.EcDoDisconnect(opened.session), emsmdb.EcHandleReply.decode
    )
    assert ended.handle == NIL_HANDLE
    with pytest.raises(Fault, match="1c00001a"):
        perform(talk, opened.session, RopLogon(ALICE))


@pytest.mark.parametrize(
    ("dn", "result"),
    [("", EcResult.ACCESS_DENIED), (f"{GROUP}/cn=Recipients/cn=nobody", EcResult.UNKNOWN_USER)],
    ids=["empty", "unknown"],
)
def test_a_session_is_not_opened_for_nobody(dn: str, result: EcResult) -> None:
    opened = connect(Talk(access()), dn)
    assert (opened.session, opened.result) == (NIL_HANDLE, result)


def test_a_user_without_a_mailbox_has_no_session() -> None:
    assert connect(Talk(access()), f"{GROUP}/cn=Recipients/cn=dave").result == EcResult.UNKNOWN_USER


def test_a_session_counts_on_another_connection_of_its_group_and_on_no_other() -> None:
    server, groups = access(), AssociationGroups()
    first = Talk(server, groups=groups)
    session = connect(first).session
    second = Talk(server, groups=groups, group_id=first.server.group_id)
    assert perform(second, session, RopRelease())[0] == ()
    stranger = Talk(server, groups=groups)
    with pytest.raises(Fault, match="1c00001a"):
        perform(stranger, session, RopRelease())


def test_with_the_last_connection_of_a_group_its_sessions_are_run_down() -> None:
    server = access()
    talk = Talk(server)
    connect(talk)
    assert server.open_handles == 1
    server.forget_group(talk.server.group_id)
    assert server.open_handles == 0


@pytest.mark.parametrize("name", ["cas1", "cas2"])
def test_a_member_of_the_mailboxs_array_opens_it(name: str) -> None:
    assert isinstance(logon(name), LogonSuccess)


def test_a_mailbox_has_the_same_guid_on_every_server_and_another_one_than_others() -> None:
    here, there, other = (
        logon(name, dn) for name, dn in (("cas1", ALICE), ("cas2", ALICE), ("cas1", f"{GROUP}/cn=Recipients/cn=bob"))
    )
    assert here.mailbox_guid == there.mailbox_guid != other.mailbox_guid


@pytest.mark.parametrize("name", ["ber1", "mbx1", "old1"])
def test_any_other_server_leads_a_mailbox_logon_to_the_array(name: str) -> None:
    assert logon(name) == LogonRedirect(f"{SERVERS}cas.domain.tld")


def test_after_a_switchover_the_other_sites_array_is_the_right_one() -> None:
    there = moved(PEOPLE, "DB1", "ber1")
    assert logon("cas1", directory=there) == LogonRedirect(f"{SERVERS}outlook.berlin.domain.tld")
    assert isinstance(logon("ber1", directory=there), LogonSuccess)


def test_on_a_mailbox_server_public_folders_are_opened_and_a_mailbox_is_not() -> None:
    assert isinstance(logon("mbx1", logon_flags=0), PublicLogonSuccess)
    assert isinstance(logon("mbx1"), LogonRedirect)


def test_on_a_member_of_the_array_it_is_the_other_way_round() -> None:
    marked = PEOPLE.put(replace(PEOPLE.servers["mbx2"], public_folders=True))
    assert logon("cas1", directory=marked, logon_flags=0) == LogonRedirect(f"{SERVERS}mbx2", 0)


def test_a_logon_to_nobodys_mailbox_fails_and_leaves_no_handle() -> None:
    talk = Talk(access())
    nobody = f"{GROUP}/cn=Recipients/cn=nobody"
    answers, handles = perform(talk, connect(talk).session, RopLogon(nobody))
    assert answers == (RopFailure(EcResult.UNKNOWN_USER),)
    assert handles == (NO_HANDLE,)


def test_what_is_opened_gets_the_handle_where_the_client_wants_it() -> None:
    talk = Talk(access())
    answers, handles = perform(talk, connect(talk).session, RopLogon(ALICE, handle_index=2), RopRelease())
    assert [answer.handle_index for answer in answers] == [2]
    assert handles[2] != NO_HANDLE
    assert set(handles[:2]) == {NO_HANDLE}


def test_an_operation_that_nobody_knows_is_not_supported() -> None:
    talk = Talk(access())
    answers, _ = perform(talk, connect(talk).session, UnknownRop(0x29, b"\0\0\0"))
    assert answers == (RopFailure(EcResult.NOT_SUPPORTED, 0x29),)


def test_sessions_are_opened_over_sealed_connections_alone_where_that_is_wanted() -> None:
    server = access(demands=Demands(encrypted=True))
    assert connect(Talk(server)).result == EcResult.NOT_ENCRYPTED
    assert connect(Talk(server, caller=by_kerberos("alice", AuthLevel.INTEGRITY))).result == EcResult.NOT_ENCRYPTED
    assert connect(Talk(server, caller=by_kerberos("alice"))).result == 0


@pytest.mark.parametrize(
    ("anonymous", "served"),
    [
        (Anonymous.NOTHING, set()),
        (Anonymous.REFERRAL, {RFR, EMSMDB}),
        (Anonymous.EVERYTHING, {RFR, EMSMDB, NSPI}),
    ],
)
def test_who_does_not_authenticate_gets_no_more_than_is_meant_for_strangers(
    anonymous: Anonymous, served: set[Any]
) -> None:
    calls = (
        (RFR, rfr.Opnum.GET_NEW_DSA, rfr.RfrGetNewDsa(ALICE)),
        (NSPI, nspi.Opnum.BIND, nspi.NspiBind()),
        (EMSMDB, emsmdb.Opnum.CONNECT, emsmdb.EcDoConnectEx(ALICE)),
    )
    server = access(demands=Demands(anonymous))
    for interface, opnum, asked in calls:
        Talk(server, caller=by_kerberos("alice")).stub(interface, opnum, asked.encode())
        if interface in served:
            Talk(server).stub(interface, opnum, asked.encode())
        else:
            with pytest.raises(Fault, match="00000005"):
                Talk(server).stub(interface, opnum, asked.encode())


@wide_or_not
def test_the_referral_service_names_the_array_and_then_the_host_behind_a_redirect(ndr64: bool) -> None:
    talk = Talk(access("old1"), ndr64=ndr64)
    named = talk.ask(RFR, rfr.Opnum.GET_NEW_DSA, rfr.RfrGetNewDsa(ALICE), rfr.RfrGetNewDsaReply.decode)
    assert (named.server, named.result) == ("cas.domain.tld", 0)
    asked = rfr.RfrGetFqdnFromServerDn(logon("old1").server_dn)
    host = talk.ask(RFR, rfr.Opnum.GET_FQDN_FROM_SERVER_DN, asked, rfr.RfrGetFqdnFromServerDnReply.decode)
    assert (host.fqdn, host.result) == ("cas.domain.tld", 0)


def test_the_referral_service_says_so_when_it_knows_nothing() -> None:
    asked = rfr.RfrGetFqdnFromServerDn(f"{SERVERS}nobody")
    host = Talk(access()).ask(RFR, rfr.Opnum.GET_FQDN_FROM_SERVER_DN, asked, rfr.RfrGetFqdnFromServerDnReply.decode)
    assert (host.fqdn, host.result) == (None, 0x8004010F)


def test_a_call_that_is_not_there_is_out_of_range() -> None:
    for interface in (RFR, NSPI, EMSMDB):
        with pytest.raises(Fault, match="1c010002"):
            Talk(access()).stub(interface, 99, b"")


@given(
    opnum=st.sampled_from([(RFR, n) for n in rfr.Opnum] + [(NSPI, n) for n in nspi.Opnum] + [(EMSMDB, 11)]),
    stub=st.binary(max_size=200),
    opened=st.booleans(),
)
def test_whatever_octets_come_there_is_an_answer_or_a_fault(opnum: Any, stub: bytes, opened: bool) -> None:
    interface, number = opnum
    talk = Talk(access())
    head = b""
    if opened and interface == NSPI:
        bound = talk.ask(NSPI, nspi.Opnum.BIND, nspi.NspiBind(), nspi.NspiBindReply.decode)
        head = nspi.NspiUnbind(bound.handle).encode()[:20]
    elif opened and interface == EMSMDB:
        head = emsmdb.EcDoDisconnect(connect(talk).session).encode()
    with contextlib.suppress(Fault):
        talk.stub(interface, number, head + stub)
