"""The probe of RPC over HTTP: an RPC proxy is asked for an echo, an RPC server on its own port greets.

Neither needs credentials. A proxy that first wants to know who asks (401) is up: it answers for itself, and what the
probe would learn beyond that is the logon's business.
"""

from casarray.core.health.conversation import Answer, Ask, Dial, Encrypt, Steps
from casarray.core.rpc_http.http import IN, AnswerHead, Target, request_head, take_answer
from casarray.core.rpc_http.messages import Echo
from casarray.core.rpc_http.rts import decode_rts
from casarray.core.rpc_http.server import BANNER

SERVER_PORTS = frozenset({593, 6001, 6002, 6003, 6004})
PLAIN_PORT = 80
MAILBOX_PORT = 6001
_OK, _LOGON = 200, 401


def rpc_http(port: int, host: str) -> Steps:
    """The conversation: with a server on 593 and 6001 to 6004, else with a proxy, over TLS except on 80."""
    return greets(port) if port in SERVER_PORTS else echoes(port, host, tls=port != PLAIN_PORT)


def greets(port: int) -> Steps:
    """Up when what listens says that it is an RPC server over HTTP."""
    yield Dial(port)
    heard = b""
    while len(heard) < len(BANNER):
        heard += yield Ask("greet as an RPC server over HTTP")
        if not BANNER.startswith(heard[: len(BANNER)]):
            return Answer(False, f"says something else on {port} than {BANNER.decode()}")
    return Answer(True, f"greets on {port} as an RPC server over HTTP")


def echoes(port: int, host: str, *, tls: bool) -> Steps:
    """Up when the RPC proxy answers an echo, or asks for a logon."""
    yield Dial(port)
    if tls:
        yield Encrypt(host)
    what, unread = "answer an echo of RPC over HTTP", bytearray()
    data = request_head(IN, Target(host, MAILBOX_PORT), host, 4) + bytes(4)
    head: AnswerHead | None = None
    while head is None or head.status < _OK:
        if (head := take_answer(unread)) is None:
            unread += yield Ask(what, data)
            data = b""
    if head.status == _LOGON:
        return Answer(True, f"asks on {port} for a logon, as an RPC proxy does")
    if head.status != _OK:
        return Answer(False, f"answers an echo of RPC over HTTP on {port} with status {head.status}")
    return (yield from _echo(port, unread, head.headers.length))


def _echo(port: int, unread: bytearray, length: int | None) -> Steps:
    size = len(Echo().encode())
    if length != size:
        return Answer(False, f"answers on {port} with 200, but is no RPC proxy")
    while len(unread) < size:
        unread += yield Ask("send the whole echo of RPC over HTTP")
    Echo.read(decode_rts(bytes(unread[:size])))
    return Answer(True, f"answers an echo of RPC over HTTP on {port}")
