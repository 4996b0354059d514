"""Knocks at members, in the caller's thread: `casarray.app.kerberos.proving.Knocker`."""

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress

from casarray.adapters.kerberos.initiator import Purse
from casarray.adapters.net.dial import CHUNK, failure_of, probing_context
from casarray.core.config import KerberosSettings
from casarray.core.errors import Denied
from casarray.core.health.conversation import Answer, Ask, Dial, Encrypt, Failure, Step, Steps, Talk
from casarray.core.kerberos.approach import Approach, Protocol
from casarray.core.kerberos.knock_http import knock_http
from casarray.core.kerberos.knock_mail import knock_mail
from casarray.core.kerberos.knock_rpc import knock_rpc
from casarray.core.kerberos.knocks import SHOWN, Heard, Knock, Outcome, carefully
from casarray.core.kerberos.proof import Got, NoTicket


class GssKnocker:
    """Tickets by the system's GSSAPI, servers over TCP."""

    def __init__(self, settings: KerberosSettings) -> None:
        self._purse = Purse(settings.principal, settings.keytab, settings.ccache)

    @property
    def owner(self) -> str:
        """Our principal, once there was a ticket."""
        return self._purse.owner

    def get(self, name: str) -> Got | NoTicket:
        """A ticket for the service, new from the KDC the first time."""
        return self._purse.get(name)

    def forget(self) -> None:
        """Ask the KDC for all of them anew."""
        self._purse.forget()

    def knock(self, way: Approach, name: str, host: str, address: str, seconds: float) -> Heard:
        """Show the ticket for ``name`` at that address, in so many seconds in all. Raises nothing."""
        try:
            steps = steps_of(self._purse, way, name, host)
        except Denied as error:
            return Heard(Outcome.UNREACHABLE, f"was not asked: {error}", ours=True)
        heard: list[Heard] = []
        answer = _Caller(address, time.monotonic() + seconds).carry(Talk("", _overheard(steps, heard.append)))
        if heard:
            return heard[0]
        outcome = Outcome.REFUSED if answer.reason.endswith(SHOWN) else Outcome.UNREACHABLE
        return Heard(outcome, answer.reason.strip(), ours=answer.ours)

    def close(self) -> None:
        """Forget the tickets. Twice is once."""
        self._purse.close()


def steps_of(purse: Purse, way: Approach, name: str, host: str, *, login: bool = True) -> Knock:
    """The conversation that shows the purse's ticket for ``name``. `Denied` when there is none."""
    if way.protocol is Protocol.RPC:
        return carefully(knock_rpc(way, purse.security(name)))
    initiator = purse.initiator(name, way.protocol)
    if way.protocol is Protocol.HTTP:
        return carefully(knock_http(way, host, initiator))
    return carefully(knock_mail(way, host, initiator, login=login))


def _overheard(knock: Knock, tell: Callable[[Heard], None]) -> Steps:
    tell((yield from knock))
    return Answer(True, "")


class _Caller:
    """One blocking connection at a time, within a deadline."""

    def __init__(self, address: str, deadline: float) -> None:
        self._address = address
        self._deadline = deadline
        self._socket: socket.socket | None = None

    def carry(self, talk: Talk) -> Answer:
        """Perform the steps to their end."""
        step = talk.begin()
        try:
            while not isinstance(step, Answer):
                try:
                    told = self._perform(step)
                except TimeoutError:
                    return talk.fail(Failure.TIMEOUT)
                except ssl.SSLError as error:
                    return talk.fail(Failure.TLS, error.reason or "not TLS")
                except socket.gaierror:
                    return talk.fail(Failure.OURS, f"nothing says what address {self._address} has")
                except OSError as error:
                    return talk.fail(*failure_of(error))
                step = talk.go_on(told) if told or not isinstance(step, Ask) else talk.fail(Failure.CLOSED)
            return step
        finally:
            self._hang_up()

    def _perform(self, step: Step) -> bytes:
        if isinstance(step, Dial):
            self._hang_up()
            self._socket = socket.create_connection((self._address, step.port), self._left())
            return b""
        assert self._socket is not None
        self._socket.settimeout(self._left())
        if isinstance(step, Encrypt):
            self._socket = probing_context().wrap_socket(self._socket, server_hostname=step.host or None)
            return self._socket.getpeercert(binary_form=True) or b""
        if step.data:
            self._socket.sendall(step.data)
        return self._socket.recv(CHUNK) if isinstance(step, Ask) else b""

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _hang_up(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None
