"""The sealed channel between an administrator's commands and a member's agent.

Kerberos only, both sides prove who they are, every message is encrypted, vouched for, and in its turn. The acceptor is
the server's *own* machine account (``host/FQDN``), so the shared keys never travel under themselves. Nothing is looked
up by reverse DNS, and nothing is taken from the environment but libkrb5's configuration and, where the settings name
neither keytab nor cache, the usual cache of whoever calls.
"""

import itertools
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import gssapi
from gssapi.exceptions import GSSError, MissingCredentialsError

from casarray.core.errors import CasarrayError, Denied, Unavailable
from casarray.core.kerberos.agent_messages import frame, frame_length

KRB5 = gssapi.OID.from_int_seq("1.2.840.113554.1.2.2")
_WANTED = (
    gssapi.RequirementFlag.mutual_authentication
    | gssapi.RequirementFlag.replay_detection
    | gssapi.RequirementFlag.out_of_sequence_detection
    | gssapi.RequirementFlag.integrity
    | gssapi.RequirementFlag.confidentiality
)
_MOST_LEGS = 8
_caches = itertools.count()
TABLE = -1765328384  # what libkrb5 adds to the numbers of RFC 4120 7.5.9

#: Sentences by error number, below `TABLE` those of libkrb5 itself. {host} is the member.
_SENTENCES: Mapping[int, str] = {
    7: "{host} has no account in the realm that host/{host} belongs to: join it, or correct its name in the directory",
    32: "the ticket has expired: log on again (kinit)",
    35: "{host} holds another key than the realm has for host/{host}: its machine keytab is old, join it anew",
    37: "the clocks of this machine and {host} (or of the domain controller) are more than 5 minutes apart: set them",
    41: "{host} cannot read a ticket for host/{host}: its machine keytab is not the one of its account",
    44: "{host} holds another key version than the realm has for host/{host}: its machine keytab is old, join it anew",
    156: "no domain controller (KDC) can be reached",
    189: "there are no Kerberos credentials here: log on with kinit, or set keytab under [kerberos]",
    195: "there are no Kerberos credentials here: log on with kinit, or set keytab under [kerberos]",
}


class Sealed:
    """A connection on which both sides have proven who they are. For one thread at a time."""

    def __init__(self, sock: socket.socket, context: gssapi.SecurityContext, peer: str) -> None:
        self._socket = sock
        self._context = context
        self.peer = peer  # its principal

    def send(self, data: bytes) -> None:
        """One message. `Unavailable` when the line is lost."""
        try:
            sealed = self._context.wrap(data, True)
        except GSSError as error:  # the ticket has ended meanwhile
            raise Unavailable(f"the channel to {self.peer} has ended: {reason(error)}") from None
        send_frame(self._socket, bytes(sealed.message))

    def receive(self) -> bytes:
        """One message; empty at the end. `Unavailable`, `Denied` for what nobody sealed."""
        token = receive_frame(self._socket)
        if not token:
            return b""
        try:
            opened = self._context.unwrap(token)
        except GSSError as error:
            raise Denied(f"a message of {self.peer} is not right: {reason(error)}") from None
        if not opened.encrypted:
            raise Denied(f"a message of {self.peer} came without its seal")
        return bytes(opened.message)

    def close(self) -> None:
        """Hang up. Twice is once."""
        with suppress(OSError):
            self._socket.close()


def credentials(principal: str, keytab: str, ccache: str) -> gssapi.Credentials:
    """Whoever asks: by the keytab, a cache, or the usual cache. `Denied` says what is missing."""
    store: dict[str, str] = {}
    if keytab:
        if not os.access(keytab, os.R_OK):
            raise Denied(f"the keytab {keytab} cannot be read: correct its path or its rights")
        store = {
            "client_keytab": f"FILE:{keytab}",
            "ccache": ccache or f"MEMORY:casarray-{os.getpid()}-{next(_caches)}",
        }
    elif ccache:
        store = {"ccache": ccache}
    name = gssapi.Name(principal, gssapi.NameType.kerberos_principal) if principal else None
    try:
        return gssapi.Credentials(name=name, usage="initiate", mechs=[KRB5], store=store or None)
    except MissingCredentialsError:
        raise Denied(f"there are no Kerberos credentials here{_of(principal)}: log on with kinit, or set keytab under "
                     "[kerberos]") from None  # fmt: skip
    except GSSError as error:
        raise told(error, "the realm") from None


def acceptor_credentials(keytab: str) -> gssapi.Credentials:
    """Any key of the machine's keytab. `Denied` if it cannot be read or holds none."""
    try:
        return gssapi.Credentials(usage="accept", mechs=[KRB5], store={"keytab": f"FILE:{keytab}"})
    except GSSError as error:
        raise Denied(f"the machine's keytab {keytab} cannot be used ({reason(error)}): join the domain, or set keytab "
                     "under [agent]") from None  # fmt: skip


def initiate(sock: socket.socket, host: str, who: gssapi.Credentials) -> Sealed:
    """Prove to the member who we are, and let it prove that it is that. `Denied`, `Unavailable`."""
    realm = str(who.name).rpartition("@")[2]
    target = gssapi.Name(f"host/{host.lower()}@{realm}", gssapi.NameType.kerberos_principal)
    context = gssapi.SecurityContext(name=target, creds=who, usage="initiate", flags=_WANTED, mech=KRB5)
    token: bytes | None = None
    try:
        for _ in range(_MOST_LEGS):
            out = context.step(token)
            if out:
                send_frame(sock, bytes(out))
            if context.complete:
                break
            token = receive_frame(sock)
            if not token:
                raise Denied(f"{host} refused us without a word; its agent's log says why")
    except GSSError as error:
        raise told(error, host) from None
    _check(context, host)
    return Sealed(sock, context, str(target))


def accept(sock: socket.socket, own: gssapi.Credentials, until: float | None = None) -> Sealed:
    """Let a caller prove who it is, before the monotonic time ``until``. `Denied`; `WireError` for what is no frame."""
    context = gssapi.SecurityContext(creds=own, usage="accept")
    try:
        for _ in range(_MOST_LEGS):
            token = receive_frame(sock, until)
            if not token:
                raise Unavailable("the caller hung up before it had proven who it is")
            out = context.step(token)
            if out:
                send_frame(sock, bytes(out))
            if context.complete:
                break
    except GSSError as error:
        raise Denied(f"a caller could not prove who it is: {reason(error)}") from None
    _check(context, "the caller")
    return Sealed(sock, context, str(context.initiator_name))


def _check(context: Any, who: str) -> None:
    """Both sides have what this channel needs."""
    if not context.complete or (context.actual_flags & _WANTED) != _WANTED or context.mech != KRB5:
        raise Denied(f"{who} offers no sealed Kerberos channel")


def send_frame(sock: socket.socket, data: bytes) -> None:
    """One frame."""
    try:
        sock.sendall(frame(data))
    except OSError as error:
        raise Unavailable(f"the connection was lost: {error.strerror or error}") from None


def receive_frame(sock: socket.socket, until: float | None = None) -> bytes:
    """One frame; empty when the other side has ended. `WireError` for a length that cannot be."""
    head = _exactly(sock, 4, until)
    if not head:
        return b""
    length = frame_length(head)
    found = _exactly(sock, length, until)
    if not found:
        raise Unavailable("the connection ended in the middle of a message")
    return found


def _exactly(sock: socket.socket, length: int, until: float | None) -> bytes:
    found = bytearray()
    while len(found) < length:
        try:
            if until is not None:  # one octet now and then does not gain time
                sock.settimeout(max(until - time.monotonic(), 0.001))
            part = sock.recv(min(65536, length - len(found)))
        except TimeoutError:
            raise Unavailable("nothing was answered in time") from None
        except OSError as error:
            raise Unavailable(f"the connection was lost: {error.strerror or error}") from None
        if not part:
            if found:
                raise Unavailable("the connection ended in the middle of a message")
            return b""
        found += part
    return bytes(found)


def told(error: GSSError, host: str) -> CasarrayError:
    """The library's error as ours, with the next step."""
    number = number_of(error)
    text = _SENTENCES.get(number)
    if text is None:
        return Denied(f"{host}: Kerberos failed: {reason(error)}")
    sentence = text.format(host=host)
    return Unavailable(sentence) if number == 156 else Denied(sentence)


def number_of(error: GSSError) -> int:
    """As RFC 4120 7.5.9 has it; from 128 on those of libkrb5."""
    signed: int = error.min_code - (1 << 32) if error.min_code >= 1 << 31 else error.min_code
    return signed - TABLE


def reason(error: GSSError) -> str:
    """The library's sentences, the particular ones first. There is no secret in them."""
    said = [*error.get_all_statuses(error.min_code, False), *error.get_all_statuses(error.maj_code, True)]
    return "; ".join(dict.fromkeys(said))


def _of(principal: str) -> str:
    return f" of {principal}" if principal else ""
