"""From the endpoint mapper to the mailbox, as Outlook goes: mapper, RFR, NSPI, EMSMDB connect and logon, affinity.

It stops at the first step at which a client would not get on. What clients get on with all the same is a warning, and
the walk goes on. With a balancer that keeps no affinity each step by itself may succeed: so at the end the mapper is
asked again, the address book opened again, and the mailbox session shown on a second connection; only the server that
issued it knows it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from casarray.core.dcerpc.client import Reply
from casarray.core.dcerpc.cursor import Order
from casarray.core.dcerpc.interfaces import emsmdb, epm, nspi, nspi_names, rfr
from casarray.core.dcerpc.interfaces.emsmdb import EMSMDB
from casarray.core.dcerpc.interfaces.emsmdb_rops import (
    EcDoRpcExt2,
    EcDoRpcExt2Reply,
    LogonRedirect,
    LogonSuccess,
    RopFailure,
    RopLogon,
    RopReply,
    read_replies,
    request_octets,
)
from casarray.core.dcerpc.interfaces.epm import EPM
from casarray.core.dcerpc.interfaces.nspi import NSPI
from casarray.core.dcerpc.interfaces.nspi_entry_ids import Resolved
from casarray.core.dcerpc.interfaces.nspi_properties import PropertyTag
from casarray.core.dcerpc.interfaces.rfr import RFR
from casarray.core.dcerpc.ndr import ContextHandle
from casarray.core.dcerpc.server import ACCESS_DENIED, CONTEXT_MISMATCH
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.dcerpc.tower import TCP, Tower
from casarray.core.directory.legacy_dn import last_name
from casarray.core.errors import WireError
from casarray.core.outlook.asking import Close, Open, Opened, Walk, Way, Went, call, opened, tell
from casarray.core.outlook.journey import Findings, Journey
from casarray.core.outlook.sentences import result_text
from casarray.core.outlook.verdicts import Result, Scenario, Step, Trouble, troubled

T = TypeVar("T")

MAX_TOWERS: Final = 8
MAPPER_LOOKS: Final = 3  # how often the mapper is asked again, to see whether it is always the same
#: Fixed ports of RPC over HTTP. [MS-OXCRPC] 2.1, [MS-OXNSPI] 2.1, [MS-OXABREF] 2.1.
HTTP_PORTS: Mapping[str, int] = {"EMSMDB": 6001, "RFR": 6002, "NSPI": 6004}


@dataclass(frozen=True, slots=True)
class _Service:
    name: str
    interface: Syntax
    service_class: str  # of the name that tickets are asked for
    scenario: Scenario


_EMSMDB = _Service("EMSMDB", EMSMDB, "exchangeMDB", Scenario.CONNECT)
_RFR = _Service("RFR", RFR, "exchangeRFR", Scenario.REFERRAL)
_NSPI = _Service("NSPI", NSPI, "exchangeAB", Scenario.BOOK)
SERVICES = (_EMSMDB, _RFR, _NSPI)


_Question = tuple[int, bytes]  # opnum and stub
_Decode = Callable[[bytes, Order, bool], T]


class _Stopped(Exception):
    """A client would not get on from here."""


def walk_rpc(journey: Journey) -> Walk[Findings]:
    """The whole way at one host; what was found out."""
    findings = Findings(journey)
    walk = _RpcWalk(journey, findings)
    try:
        yield from walk.go()
        findings.complete = True
    except _Stopped:
        pass
    return findings


class _RpcWalk:
    """One walk under way."""

    def __init__(self, journey: Journey, findings: Findings) -> None:
        self._journey = journey
        self._findings = findings
        self._mapped: tuple[tuple[tuple[str, int], ...], str] | None = None
        self._session: ContextHandle | None = None
        self._group = 0

    def go(self) -> Walk[None]:
        if self._journey.proxy:
            self._findings.ports.update(HTTP_PORTS)
        else:
            yield from self._mapper()
        yield from self._referral()
        yield from self._book()
        yield from self._mailbox()
        if self._session is not None:
            yield from self._logon()
        if self._journey.through_array:
            yield from self._affinity()
        if self._session is not None:
            yield from self._disconnect()

    # Telling.

    def _step(self, scenario: Scenario, port: int, text: str = "", mechanism: str = "") -> Step:
        endpoint = f"{self._journey.host}:{port}"
        return Step(self._journey.server, endpoint, scenario, Result.SUCCESS, 0.0, mechanism, text)

    def _tell(self, step: Step) -> Walk[None]:
        """A step is done. A failure ends the walk."""
        self._findings.steps.append((yield from tell(step)))
        if step.result is Result.FAILURE:
            raise _Stopped

    def _stop(self, step: Step, trouble: Trouble, **facts: object) -> Walk[None]:
        """Tell a failure, which ends the walk."""
        yield from self._tell(troubled(step, trouble, **facts))

    # The endpoint mapper.

    def _mapper(self) -> Walk[None]:
        journey = self._journey
        step = self._step(Scenario.MAPPER, journey.mapper_port)
        found = yield from self._ask_mapper("epm")
        if isinstance(found, Went):
            if journey.database:
                detail = f"which {found.detail}"
                facts = {"database": journey.database, "told": journey.name, "name": "ARRAY"}
                yield from self._stop(step, Trouble.DEAD_SERVER, detail=detail, **facts)
            yield from self._stop(step, Trouble.MAPPER_DOWN, detail=found.detail)
            raise _Stopped
        ports, tower, missing = found
        if missing:
            yield from self._stop(step, Trouble.NOT_REGISTERED, service=missing[0], detail=missing[1])
        self._findings.ports.update(ports)
        self._findings.tower = tower
        self._mapped = (tuple(ports.items()), tower)
        text = ", ".join(f"{name} on {port}" for name, port in ports.items())
        step = replace(step, text=text)
        if tower and tower != "0.0.0.0" and journey.own_addresses and tower not in journey.own_addresses:
            step = troubled(step, Trouble.TOWER_ADDRESS, address=journey.host, told=tower)
        yield from self._tell(step)

    def _ask_mapper(self, key: str) -> Walk[tuple[dict[str, int], str, tuple[str, str] | None] | Went]:
        """Ports by interface, the towers' address, and what is missing, with the mapper's word for it."""
        journey = self._journey
        connection = yield from opened(Open(key, journey.host, journey.mapper_port, EPM))
        if isinstance(connection, Went):
            return connection
        ports: dict[str, int] = {}
        address, missing = "", None
        for service in SERVICES:
            stub = epm.EptMap(Tower.tcp(service.interface), MAX_TOWERS).encode()
            reply = yield from call(key, EPM, epm.EPT_MAP, stub)
            if isinstance(reply, Went):
                return reply
            try:
                answer = epm.EptMapReply.decode(reply.stub, reply.order, reply.ndr64)
            except WireError as error:
                return Went(Way.NONSENSE, f"answers ept_map with what makes no sense ({error})")
            tower = next((one for one in answer.towers if one.transport == TCP and one.port), None)
            if tower is None or tower.port is None:
                known = answer.status in (epm.OK, epm.NOT_REGISTERED)
                missing = missing or (service.name, "not registered" if known else f"status 0x{answer.status:08X}")
                continue
            ports[service.name] = tower.port
            address = address or str(tower.address or "")
        yield Close(key)
        return ports, address, missing

    # Connections.

    def _open(self, service: _Service, key: str, step: Step, group_id: int = 0) -> Walk[Opened]:
        """A connection to the service, logged on where that is wanted; what is wrong with it ends the walk."""
        journey, port = self._journey, self._findings.ports[service.name]
        target = journey.target(service.service_class)
        wanted = Open(key, journey.host, port, service.interface, target, group_id, journey.proxy)
        connection = yield from opened(wanted)
        if isinstance(connection, Opened):
            return connection
        facts: dict[str, object] = {"service": service.name, "port": port, "detail": connection.detail, "spn": target}
        match connection.way:
            case Way.CLOCK:
                trouble = Trouble.CLOCK
            case Way.PROXY_DENIED:
                trouble, facts["service"] = Trouble.LOGON_DENIED, "the RPC proxy"
            case Way.DENIED:
                trouble = Trouble.NO_KERBEROS if journey.logon == "kerberos" else Trouble.LOGON_DENIED
            case _:
                trouble = Trouble.PROXY_DOWN if journey.proxy else Trouble.HALF_DEAD
                if journey.through_array and not journey.proxy and (other := (yield from self._other_mapper())):
                    trouble = Trouble.AFFINITY
                    facts["detail"] = f"{other}; {service.name} on {port} {connection.detail}"
        yield from self._stop(step, trouble, **facts)
        raise _Stopped

    def _judged(self, step: Step, connection: Opened, text: str) -> Step:
        """The step as a success, or as the warning that it was NTLM that took the logon."""
        step = replace(step, text=text, mechanism=connection.mechanism)
        if connection.mechanism == "NTLM" and self._journey.logon == "negotiate":
            why = connection.why_not_kerberos or "a ticket was offered, and the server took none"
            return troubled(step, Trouble.NTLM, detail=why)
        return step

    def _asked(self, service: _Service, key: str, step: Step, asked: _Question, decode: _Decode[T]) -> Walk[T]:
        """The answer to a call; one that went wrong, or that makes no sense, ends the walk."""
        opnum, stub = asked
        reply = yield from call(key, service.interface, opnum, stub)
        if isinstance(reply, Reply):
            try:
                return decode(reply.stub, reply.order, reply.ndr64)
            except WireError as error:
                detail = f"answers call {opnum} with what makes no sense ({error})"
                yield from self._stop(step, Trouble.REFUSED, service=service.name, detail=detail)
                raise _Stopped from None
        yield from self._call_failed(service, step, reply)
        raise _Stopped

    def _call_failed(self, service: _Service, step: Step, went: Went) -> Walk[None]:
        target = self._journey.target(service.service_class)
        facts: dict[str, object] = {"service": service.name, "detail": went.detail, "spn": target}
        if went.way is not Way.FAULT:
            facts |= {"port": self._findings.ports[service.name], "detail": f"accepts connections and {went.detail}"}
            yield from self._stop(step, Trouble.HALF_DEAD, **facts)
        if went.status == CONTEXT_MISMATCH:
            facts["detail"] = f"{service.name} does not know the handle that it gave ({went.detail})"
            yield from self._stop(step, Trouble.AFFINITY, **facts)
        if went.status == ACCESS_DENIED:  # where nobody answers the last leg of the logon, the first call does
            yield from self._stop(step, Trouble.LOGON_DENIED, **facts)
        yield from self._stop(step, Trouble.REFUSED, **facts)

    def _other_mapper(self) -> Walk[str]:
        """Whether the mapper is not always the same: how it differs. Empty when it does not, as far as can be seen."""
        first = self._mapped
        if first is None:
            return ""
        for look in range(MAPPER_LOOKS):
            again = yield from self._ask_mapper(f"epm-again-{look}")
            if isinstance(again, Went):
                continue
            ports, tower, _ = again
            if (now := tuple(ports.items())) != first[0]:
                before, after = (", ".join(f"{name} on {port}" for name, port in one) for one in (first[0], now))
                return f"135 said {before}, then {after or 'nothing'}"
            if tower != first[1]:
                return f"135 was answered by {self._whose(first[1])}, then by {self._whose(tower)}"
        return ""

    def _whose(self, address: str) -> str:
        """A member's name and address, if it is one's."""
        name = dict(self._journey.known).get(address, "")
        return f"{name} ({address})" if name else address

    # The services.

    def _referral(self) -> Walk[None]:
        journey = self._journey
        step = self._step(Scenario.REFERRAL, self._findings.ports["RFR"])
        connection = yield from self._open(_RFR, "rfr", step)
        if not journey.deep:
            yield Close("rfr")
            yield from self._tell(self._judged(step, connection, "accepts the bind to RFR"))
            return
        stub = rfr.RfrGetNewDsa(journey.mailbox.dn or "/").encode()
        new_dsa = (rfr.Opnum.GET_NEW_DSA, stub)
        dsa = yield from self._asked(_RFR, "rfr", step, new_dsa, rfr.RfrGetNewDsaReply.decode)
        yield from self._check_name(step, dsa.server, dsa.result, "RfrGetNewDSA")
        if journey.server_dn:
            stub = rfr.RfrGetFqdnFromServerDn(journey.server_dn).encode()
            get_fqdn = (rfr.Opnum.GET_FQDN_FROM_SERVER_DN, stub)
            fqdn = yield from self._asked(_RFR, "rfr", step, get_fqdn, rfr.RfrGetFqdnFromServerDnReply.decode)
            yield from self._check_name(step, fqdn.fqdn, fqdn.result, "RfrGetFQDNFromServerDN")
        yield Close("rfr")
        yield from self._tell(self._judged(step, connection, f"names {dsa.server}"))

    def _check_name(self, step: Step, name: str | None, result: int, what: str) -> Walk[None]:
        if result or not name:
            detail = f"answers {what}: {result_text(result)}" if result else f"answers {what} without a name"
            yield from self._stop(step, Trouble.REFUSED, service="RFR", detail=detail)
        allowed = self._journey.rfr_names
        if allowed and (name or "").casefold() not in {one.casefold() for one in allowed}:
            yield from self._stop(step, Trouble.RFR_NAME, told=name, name=allowed[0])

    def _book(self) -> Walk[None]:
        step = self._step(Scenario.BOOK, self._findings.ports["NSPI"])
        connection = yield from self._open(_NSPI, "nspi", step)
        if not self._journey.deep:
            yield Close("nspi")
            yield from self._tell(self._judged(step, connection, "accepts the bind to NSPI"))
            return
        bound = yield from self._bind_book("nspi", step)
        self._findings.book = bound.server_guid
        found = yield from self._resolve(step, bound.handle)
        unbind = (nspi.Opnum.UNBIND, nspi.NspiUnbind(bound.handle).encode())
        left = yield from self._asked(_NSPI, "nspi", step, unbind, nspi.NspiUnbindReply.decode)
        if left.result != nspi.UNBIND_SUCCESS:
            detail = f"answers NspiUnbind with {left.result}"
            yield from self._stop(step, Trouble.REFUSED, service="NSPI", detail=detail)
        yield Close("nspi")
        yield from self._tell(self._judged(step, connection, f"opens the address book{found}"))

    def _bind_book(self, key: str, step: Step) -> Walk[nspi.NspiBindReply]:
        asked = (nspi.Opnum.BIND, nspi.NspiBind().encode())
        bound = yield from self._asked(_NSPI, key, step, asked, nspi.NspiBindReply.decode)
        if bound.result:
            detail = f"refuses NspiBind: {result_text(bound.result)}"
            yield from self._stop(step, Trouble.REFUSED, service="NSPI", detail=detail)
        return bound

    def _resolve(self, step: Step, handle: ContextHandle) -> Walk[str]:
        """Look the user's name up, as the check of a new profile does."""
        box = self._journey.mailbox
        name = box.account or box.address
        if not name:
            return ""
        asked = nspi_names.NspiResolveNamesW(handle, (name,), nspi.Stat(), (PropertyTag.PR_DISPLAY_NAME_W,))
        question = (nspi.Opnum.RESOLVE_NAMES_W, asked.encode())
        decode = nspi_names.NspiResolveNamesWReply.decode
        reply = yield from self._asked(_NSPI, "nspi", step, question, decode)
        if reply.result:
            detail = f"answers NspiResolveNamesW: {result_text(reply.result)}"
            yield from self._stop(step, Trouble.REFUSED, service="NSPI", detail=detail)
        said = reply.minimal_ids[0] if reply.minimal_ids else Resolved.NOT_AT_ALL
        if said != Resolved.TO_ONE:
            detail = "there are several of that name" if said == Resolved.TO_MORE_THAN_ONE else "there is none"
            yield from self._stop(step, Trouble.NOT_IN_BOOK, name=name, detail=detail)
        shown = reply.rows[0].values if reply.rows else ()
        display = next((item.value for item in shown if isinstance(item.value, str)), "")
        return f" and finds {name}" + (f" ({display})" if display else "")

    def _mailbox(self) -> Walk[None]:
        step = self._step(Scenario.CONNECT, self._findings.ports["EMSMDB"])
        connection = yield from self._open(_EMSMDB, "emsmdb", step)
        if not self._journey.deep:
            yield Close("emsmdb")
            yield from self._tell(self._judged(step, connection, "accepts the bind to EMSMDB"))
            return
        self._group = connection.group_id
        asked = (emsmdb.Opnum.CONNECT, emsmdb.EcDoConnectEx(self._journey.mailbox.dn).encode())
        answer = yield from self._asked(_EMSMDB, "emsmdb", step, asked, emsmdb.EcDoConnectExReply.decode)
        if answer.result:
            detail = f"refuses the session: {result_text(answer.result)}"
            yield from self._stop(step, Trouble.REFUSED, service="EMSMDB", detail=detail)
        self._session = answer.session
        version = ".".join(map(str, answer.server_version))
        yield from self._tell(self._judged(step, connection, f"opens a session, server version {version}"))

    def _logon(self) -> Walk[None]:
        """Open the mailbox within the session: only this tells whether the server is the right one."""
        assert self._session is not None
        step = self._step(Scenario.LOGON, self._findings.ports["EMSMDB"])
        rops = request_octets((RopLogon(self._journey.mailbox.dn),))
        asked = (emsmdb.Opnum.RPC_EXT, EcDoRpcExt2(self._session, rops).encode())
        reply = yield from self._asked(_EMSMDB, "emsmdb", step, asked, EcDoRpcExt2Reply.decode)
        detail = f"refuses the logon: {result_text(reply.result)}" if reply.result else ""
        answers: tuple[RopReply, ...] = ()
        try:
            answers = () if detail else read_replies(reply.rops)[0]
        except WireError as error:
            detail = f"answers the logon with what makes no sense ({error})"
        match answers[:1]:
            case (LogonSuccess() as box,):
                yield from self._tell(replace(step, text=f"the mailbox {box.mailbox_guid} is open"))
            case (LogonRedirect(server_dn=other),):
                yield from self._stop(step, Trouble.WRONG_SERVER, told=last_name(other) or other)
            case (RopFailure(result=result),):
                detail = f"refuses the logon: {result_text(result)}"
                yield from self._stop(step, Trouble.REFUSED, service="EMSMDB", detail=detail)
            case _:
                detail = detail or "does not answer the logon"
                yield from self._stop(step, Trouble.REFUSED, service="EMSMDB", detail=detail)

    def _disconnect(self) -> Walk[None]:
        assert self._session is not None
        asked = emsmdb.EcDoDisconnect(self._session).encode()
        yield from call("emsmdb", EMSMDB, emsmdb.Opnum.DISCONNECT, asked)  # it has served: nobody minds the answer
        yield Close("emsmdb")

    # Affinity.

    def _affinity(self) -> Walk[None]:
        step = self._step(Scenario.AFFINITY, self._findings.ports["EMSMDB"])
        if not self._journey.proxy and (other := (yield from self._other_mapper())):
            yield from self._stop(step, Trouble.AFFINITY, detail=other)
        if self._findings.book is not None:
            yield from self._second_book(step)
        if self._session is not None:
            yield from self._second_session(step)
        yield from self._tell(replace(step, text="all connections reached one server, as far as can be seen"))

    def _second_book(self, step: Step) -> Walk[None]:
        yield from self._open(_NSPI, "nspi-again", step)
        bound = yield from self._bind_book("nspi-again", step)
        yield Close("nspi-again")
        if bound.server_guid != self._findings.book:
            detail = f"the address book was that of {self._findings.book}, then that of {bound.server_guid}"
            yield from self._stop(step, Trouble.AFFINITY, detail=detail)

    def _second_session(self, step: Step) -> Walk[None]:
        """Show the session on a second connection of the same association group."""
        assert self._session is not None
        port = self._findings.ports["EMSMDB"]
        wanted = Open(
            "emsmdb-again",
            self._journey.host,
            port,
            EMSMDB,
            self._journey.target(_EMSMDB.service_class),
            self._group,
            self._journey.proxy,
        )
        connection = yield from opened(wanted)
        if isinstance(connection, Went):
            detail = f"a second connection of the session to {port} {connection.detail}"
            yield from self._stop(step, Trouble.AFFINITY, detail=detail)
        shown = emsmdb.EcDoAsyncConnectEx(self._session).encode()
        reply = yield from call("emsmdb-again", EMSMDB, emsmdb.Opnum.ASYNC_CONNECT, shown)
        yield Close("emsmdb-again")
        if isinstance(reply, Went):
            detail = f"the mailbox's session is not known on a second connection to {port} ({reply.detail})"
            yield from self._stop(step, Trouble.AFFINITY, detail=detail)
