"""A ticket shown to an RPC server: a bind in DCE style ([MS-RPCE] 3.3.1.5.2)."""

from casarray.core.dcerpc.auth import AuthLevel, AuthType, ClientAuth, Security
from casarray.core.dcerpc.client import BindRefused, Bound, Broken, ClientEvent, Failed, RpcClient, ShutdownAsked
from casarray.core.dcerpc.pdu import Auth, NakReason
from casarray.core.errors import Denied
from casarray.core.health.conversation import Ask, Dial
from casarray.core.health.rpc import find_port, syntax
from casarray.core.kerberos.approach import Approach
from casarray.core.kerberos.knocks import SHOWN, Heard, Knock, Outcome, Part, refused
from casarray.core.kerberos.refusals import refusal_of

_NO_KERBEROS = (NakReason.AUTHENTICATION_TYPE_NOT_RECOGNIZED,)


def knock_rpc(way: Approach, security: Security, kind: AuthType = AuthType.SPNEGO) -> Knock:
    """Bind with a ticket; the endpoint mapper is asked for the port first, if there is one."""
    port = yield from _port(way)
    if isinstance(port, Heard):
        return port
    interface = syntax(way.interface)
    auth, client = ClientAuth(security, kind, AuthLevel.PRIVACY), RpcClient()
    yield Dial(port)
    data = client.bind(interface, auth=auth.begin(), header_signing=True)
    while True:
        match (yield from _event(client, data)):
            case Bound() as bound:
                found = _next(bound, auth, port)
                if isinstance(found, Heard):
                    return found
                data = client.alter(interface, auth=found)
            case other:
                return _not_bound(other, security, port)


def _port(way: Approach) -> Part[int | Heard]:
    if way.mapper_port is not None:
        found = yield from find_port(syntax(way.interface), way.mapper_port, way.port)
        if isinstance(found, int):
            return found
        if way.port is None:
            return Heard(Outcome.UNREACHABLE, found.reason)
    if way.port is None:
        return Heard(Outcome.UNREACHABLE, "has no endpoint mapper to ask for the port")
    return way.port


def _next(bound: Bound, auth: ClientAuth, port: int) -> Heard | Auth:
    """The next leg, or how it ended."""
    if bound.auth is None and not auth.complete:
        return Heard(Outcome.NOT_PROVEN, f"it takes the bind on {port} and says nothing of the ticket")
    token = bound.auth.token if bound.auth else b""
    if refusal_of(token) is not None:
        return refused(token, f"refuses the ticket on {port}", "")
    try:
        leg = auth.answered(bound.auth, bound.header_signing)
    except Denied as error:
        return Heard(Outcome.REFUSED, str(error))
    if leg is not None:
        return leg
    return Heard(Outcome.ACCEPTED, f"bind on {port}", let_in=all(result.accepted for result in bound.results))


def _not_bound(event: ClientEvent, security: Security, port: int) -> Heard:
    match event:
        case BindRefused(reason=reason, status=None) if reason in _NO_KERBEROS:
            return Heard(Outcome.NOT_OFFERED, f"the bind on {port} is refused: it does not know this way to log on")
        case BindRefused(reason=reason, status=status):
            said = f"reason {reason}" if status is None else f"fault {status:08X}"
            return Heard(Outcome.REFUSED, f"the bind on {port} is refused: {said}")
        case Failed(status=status):
            outcome = Outcome.ACCEPTED if security.complete else Outcome.REFUSED
            return Heard(outcome, f"fault {status:08X} on {port}", let_in=False)
        case other:
            return Heard(Outcome.UNREACHABLE, f"answers the bind on {port} with {type(other).__name__}")


def _event(client: RpcClient, data: bytes) -> Part[ClientEvent]:
    while True:
        for event in client.receive((yield Ask(SHOWN, data))):
            if isinstance(event, Broken):
                raise event.error
            if not isinstance(event, ShutdownAsked):
                return event
        data = b""
