"""The network of `casarray test outlook`: names, ports, certificates, Autodiscover, RPC connections with a logon.

`casarray.app.connectivity.Network` over asyncio. Whatever goes wrong comes back as a sentence, never as an exception.
"""

import asyncio
import contextlib
import os
import ssl
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

from casarray.adapters import dns as host_dns
from casarray.adapters.net.dial import failure_of, probing_context
from casarray.adapters.net.rpc_channel import Channel, Nonsense, NotThere, Rejected, RpcFault
from casarray.app.connectivity import Connection
from casarray.core.autodiscover.request import Request
from casarray.core.autodiscover.walk import LookUp, Visit
from casarray.core.dcerpc.auth import AuthLevel, AuthType, ClientAuth
from casarray.core.dcerpc.client import Reply
from casarray.core.dcerpc.syntax import Syntax
from casarray.core.errors import CasarrayError, Denied, Unavailable
from casarray.core.forwarding.table import Address
from casarray.core.health.certificate import names
from casarray.core.health.conversation import Failure
from casarray.core.kerberos.proof import SKEW
from casarray.core.outlook.asking import Certificate, Discovered, Open, Opened, Resolved, Way, Went
from casarray.core.outlook.clocks import ClockAsker, difference_text
from casarray.core.outlook.wish import Means

if TYPE_CHECKING:
    from collections.abc import Callable

    from casarray.adapters.http_logon import WebLogons
    from casarray.adapters.net.rpc_http_client import HttpLogon
    from casarray.adapters.rpc_logon import Credential, Kind, Logon, Logons

_WAYS = {
    Failure.REFUSED: Went(Way.REFUSED, "refuses connections"),
    Failure.RESET: Went(Way.LOST, "resets the connection"),
    Failure.TIMEOUT: Went(Way.SILENT, "does not accept connections in time"),
}
HTTPS = 443
LAST_TURNS = 5  # of the event loop
MOST_TOLD = 3  # of the places where Autodiscover was not found
LEVEL = AuthLevel.PRIVACY  # what Outlook takes unless told otherwise


class OutlookNetwork:
    """One test's connections; its tickets are forgotten with it."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._logons: Logons | None = None
        self._on_the_web: WebLogons | None = None

    # Names and ports.

    async def resolve(self, name: str, *, outside: bool) -> Resolved | Went:
        """By the host's own resolver, or by the name server of the outside."""
        with contextlib.suppress(ValueError):
            return Resolved((ip_address(name),))
        if outside:
            return await asyncio.to_thread(self._resolve_outside, name)
        found, alias = await asyncio.gather(
            asyncio.to_thread(host_dns.resolve, [name]), asyncio.to_thread(host_dns.canonical, [name])
        )
        if not found:
            return Went(Way.UNKNOWN, "this machine's resolver finds no address")
        return Resolved(found[name], alias.get(name, ""))

    def _resolve_outside(self, name: str) -> Resolved | Went:
        server = self._means.outside_dns
        try:
            import dns.exception  # noqa: PLC0415 - half a second, and only where it is wanted
            import dns.resolver  # noqa: PLC0415 - half a second to load
        except ImportError:
            return Went(Way.SILENT, "the library dnspython is missing: pip install 'casarray[kerberos]'")
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = [server]
        found: list[Address] = []
        alias, detail = "", ""
        for kind in ("A", "AAAA"):
            try:
                answer = resolver.resolve(
                    f"{name.rstrip('.')}.", kind, raise_on_no_answer=False, lifetime=self._patience
                )
            except dns.resolver.NXDOMAIN:
                return Went(Way.UNKNOWN, f"{server} says that there is no such name")
            except (dns.exception.DNSException, OSError, ValueError) as error:
                detail = str(error)
                continue
            found += [ip_address(str(record)) for record in answer.rrset or ()]
            canonical = str(answer.canonical_name).rstrip(".")
            alias = canonical if canonical.casefold() != name.rstrip(".").casefold() else ""
        if found:
            return Resolved(tuple(found), alias)
        if detail:
            return Went(Way.SILENT, detail)
        return Went(Way.UNKNOWN, f"{server} has no address for it")

    async def reach(self, host: str, port: int) -> Went | None:
        """Connect and hang up."""
        try:
            async with asyncio.timeout(self._patience):
                _, writer = await asyncio.open_connection(*self.where(host, port))
        except OSError as error:  # a time-out is one too
            return self._not_connected(error)
        writer.close()
        return None

    async def certificate(self, host: str, port: int) -> Certificate | Went:
        """The names in the certificate that the port shows."""
        try:
            async with asyncio.timeout(self._patience):
                _, writer = await asyncio.open_connection(
                    *self.where(host, port), ssl=probing_context(), server_hostname=host
                )
        except ssl.SSLError as error:
            return Went(Way.TLS, f"does not speak TLS ({error.reason or error})")
        except OSError as error:
            return self._not_connected(error)
        shown: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        der = shown.getpeercert(binary_form=True) if shown is not None else None
        writer.transport.abort()  # it has served: nobody waits for the end of TLS
        return Certificate(*names(der or b""))

    def _not_connected(self, error: OSError) -> Went:
        if isinstance(error, TimeoutError):
            return Went(Way.SILENT, f"does not accept connections within {self._patience:g} s")
        failure, detail = failure_of(error)
        return _WAYS.get(failure) or Went(Way.UNREACHABLE, f"cannot be reached ({detail})")

    @property
    def _patience(self) -> float:
        return self._means.timeout_seconds

    # Autodiscover.

    async def discover(self, address: str) -> Discovered | Went:
        """The whole way of a client, with all its redirects."""
        from casarray.adapters.autodiscover_client import AutodiscoverClient  # noqa: PLC0415 - only where wanted

        means = self._means
        try:
            client = AutodiscoverClient(
                self._web_logon(),
                ca=means.authorities,
                verify=not means.trust_any_certificate,
                seconds=self._patience,
                connect_to=self.where,
            )
            urls = (means.autodiscover_url,) if means.autodiscover_url else ()
            walked = await client.walk(Request(address), urls)
        except CasarrayError as error:
            return Went(Way.DENIED, str(error))
        if walked.response is not None:
            return Discovered(walked.response, walked.url)
        tried = [f"{_asked(hop.step)} {hop.words}" for hop in walked.hops if not hop.ok]
        return Went(Way.SILENT, "; ".join(tried[:MOST_TOLD]) or "nobody answers")

    def where(self, host: str, port: int) -> tuple[str, int]:
        """Where a host is really reached, by whatever name it is called."""
        return host, port

    def _web_logon(self) -> "Callable[[str], HttpLogon] | None":
        """With the password over HTTPS alone; without one, with a ticket for the web server, if there is one."""
        user, password = self._means.log_on.user, self._means.log_on.password
        if password:
            from casarray.adapters.net.rpc_http_client import Basic  # noqa: PLC0415 - as above

            return lambda _: Basic(user, password)
        return self._web_logons().later

    def _web_logons(self) -> "WebLogons":
        if self._on_the_web is None:
            from casarray.adapters.http_logon import WebLogons  # noqa: PLC0415 - only where wanted

            self._on_the_web = WebLogons(_credential(self._means))
        return self._on_the_web

    # RPC.

    async def open(self, wanted: Open) -> Connection | Went:
        """Connect, bind and log on."""
        logon: Logon | None = None
        if wanted.target:
            try:
                logon = await asyncio.to_thread(self._log_on, wanted.target)
            except Denied as error:
                return _denied(error)
            except CasarrayError as error:
                return Went(Way.DENIED, str(error))
        channel = await (self._connect_by_proxy(wanted) if wanted.proxy else self._connect(wanted))
        if isinstance(channel, Went):
            return channel
        went = await self._bind(channel, wanted, logon)
        if went is not None:
            channel.close(hard=True)
            return await self._looked_at_clock(went, wanted)
        return _Connection(channel, logon)

    async def _looked_at_clock(self, went: Went, wanted: Open) -> Went:
        """A server that refuses a ticket may have another time than we, and does not say so by itself."""
        if went.way is not Way.DENIED or self._means.log_on.kind == "ntlm" or wanted.proxy:
            return went
        asker = ClockAsker()
        channel = await self._connect(wanted)
        if isinstance(channel, Went):
            return went
        began = time.time()
        with contextlib.suppress(CasarrayError):
            await channel.bind(wanted.interface, auth=ClientAuth(asker, AuthType.NTLM, LEVEL))
        channel.close(hard=True)
        if asker.time is None or abs(ahead := asker.time - began) <= SKEW:
            return went
        where = difference_text(ahead)
        return Went(Way.CLOCK, f"that of {wanted.host} is {where} this machine's, and it does not take our ticket")

    async def _connect(self, wanted: Open) -> Channel | Went:
        try:
            return await Channel.open(wanted.host, wanted.port, patience=self._patience)
        except Unavailable as error:
            cause = error.__cause__
            return self._not_connected(cause) if isinstance(cause, OSError) else Went(Way.UNREACHABLE, str(error))

    async def _connect_by_proxy(self, wanted: Open) -> Channel | Went:
        """RPC over HTTP: the proxy proves by its certificate who it is, and then we to it."""
        from casarray.adapters.net.rpc_http_client import RpcProxy, open_rpc_http  # noqa: PLC0415 - only where wanted

        means = self._means
        name, _, port = wanted.proxy.partition(":")
        trusted = probing_context() if means.trust_any_certificate else _trusting(means.authorities)
        try:
            logon = self._proxy_logon(name)
            where, at = self.where(name, int(port or HTTPS))
            proxy = RpcProxy(where, at, trusted, name, logon=logon)
            return await open_rpc_http(proxy, wanted.host, wanted.port, patience=self._patience)
        except Denied as error:
            return Went(Way.PROXY_DENIED, str(error))
        except (CasarrayError, ValueError) as error:
            return Went(Way.UNREACHABLE, f"does not lead to {wanted.host} on {wanted.port}: {error}")

    def _proxy_logon(self, name: str) -> "Callable[[], HttpLogon] | None":
        """How to log on to the RPC proxy. `Denied` for what cannot be done."""
        from casarray.adapters.net.rpc_http_client import Basic  # noqa: PLC0415 - as above

        means, way = self._means, self._means.proxy_authentication
        if way == "none":
            return None
        if way == "basic":
            if not means.log_on.password:
                raise Denied("a logon by Basic takes a password: give one, or log on in another way (--proxy-auth)")
            return lambda: Basic(means.log_on.user, means.log_on.password)
        logons = self._web_logons()
        return lambda: logons.open(way, name)

    def _log_on(self, target: str) -> "Logon":
        if self._logons is None:
            from casarray.adapters.rpc_logon import Logons  # noqa: PLC0415 - its libraries are an extra

            self._logons = Logons(_credential(self._means))
        return self._logons.open(_kind(self._means.log_on.kind), target, LEVEL)

    async def _bind(self, channel: Channel, wanted: Open, logon: "Logon | None") -> Went | None:
        auth = logon.auth() if logon is not None else None
        try:
            await channel.bind(wanted.interface, group_id=wanted.group_id, auth=auth)
        except Denied as error:
            return _denied(error)
        except CasarrayError as error:
            return _went(error, channel)
        return None

    async def close(self) -> None:
        """Forget the tickets, and let connections end that were hung up a moment ago: TLS takes some turns for it."""
        for _ in range(LAST_TURNS):
            await asyncio.sleep(0)
        if self._logons is not None:
            await asyncio.to_thread(self._logons.close)
            self._logons = None
        if self._on_the_web is not None:
            self._on_the_web.close()
            self._on_the_web = None


class _Connection:
    """`casarray.app.connectivity.Connection`."""

    def __init__(self, channel: Channel, logon: "Logon | None") -> None:
        self._channel = channel
        mechanism = logon.mechanism if logon is not None else ""
        self.opened = Opened(channel.rpc.group_id, mechanism, logon.why_not_kerberos if logon is not None else "")

    async def call(self, interface: Syntax, opnum: int, stub: bytes) -> Reply | Went:
        """Make a call."""
        try:
            return await self._channel.call(interface, opnum, stub)
        except RpcFault as fault:
            return Went(Way.FAULT, f"answers call {opnum} with {fault}", fault.status)
        except CasarrayError as error:
            return _went(error, self._channel)

    def close(self) -> None:
        """Hang up; a reset leaves nothing behind."""
        self._channel.close(hard=True)


def _went(error: CasarrayError, channel: Channel) -> Went:
    """What a connection's end says."""
    match error:
        case NotThere():
            return Went(Way.NOT_THERE, "does not have the interface")
        case Rejected():
            return Went(Way.REJECTED, f"refuses the bind: {error}")
        case Nonsense():
            return Went(Way.NONSENSE, f"answers with what is no RPC ({error})")
        case Denied():
            return _denied(error)
        case _ if channel.lost_at is not None:
            how = "resets the connection" if channel.ending == "reset" else "closes the connection"
            return Went(Way.LOST, f"accepts connections, {how} and does not answer")
        case _:
            return Went(Way.SILENT, f"accepts connections and does not answer ({error})")


def _denied(error: Denied) -> Went:
    """A logon that failed; because of a clock, or not."""
    said = str(error)
    clock = any(word in said.casefold() for word in ("clock skew", "skew too great", "clocks of", "clock of"))
    return Went(Way.CLOCK if clock else Way.DENIED, said)


def _asked(step: Visit | LookUp) -> str:
    return step.url if isinstance(step, Visit) else f"SRV {step.name}"


def _trusting(authorities: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authorities or None)


def _kind(kind: str) -> "Kind":
    match kind:
        case "kerberos" | "ntlm":
            return kind
        case _:
            return "negotiate"


def _credential(means: Means) -> "Credential":
    from casarray.adapters.rpc_logon import Credential  # noqa: PLC0415 - its libraries are an extra

    user, domain = means.log_on.user, ""
    if not means.log_on.password:
        return Credential(ccache=os.environ.get("KRB5CCNAME", ""))
    if "\\" in user:
        domain, _, user = user.partition("\\")
    elif "@" in user:
        user, _, domain = user.partition("@")
    return Credential(user, domain, means.log_on.password)
