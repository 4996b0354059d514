"""Test-OutlookConnectivity: the way to a mailbox, walked as Outlook walks it, an object for each step."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from casarray.app.cmdlets.parameters import ignored, number, with_common
from casarray.app.directory import DirectoryService
from casarray.core.directory.lookup import accounts_with_address, by_fqdn
from casarray.core.directory.model import Directory, Server, key
from casarray.core.errors import Conflict
from casarray.core.outlook.verdicts import Result, Step
from casarray.core.outlook.wish import Depth, LogOn, Means, Wish
from casarray.core.shell.cmdlet import Bound, Cmdlet, Credential, Host, Parameter, ParameterKind, Record, Value

if TYPE_CHECKING:
    from casarray.app.connectivity import Walker  # loads asyncio, and all of RPC

COLUMNS = ("ClientAccessServer", "ServiceEndpoint", "Scenario", "Result", "Latency")
USUAL_MINUTES = 2
MOST_MINUTES = 60

OpenWalker = Callable[[], "Walker"]


def test(service: DirectoryService, open_walker: OpenWalker, bounds: Sequence[Bound], host: Host) -> Iterator[Value]:
    """Walk for each of them."""
    for bound in bounds:
        directory = service.directory()
        wish = _wish(directory, bound)
        _warn_of_strangers(directory, wish.user, host)
        steps = open_walker().test(directory, wish, _means(bound), partial(_tell, host), _seconds(bound))
        for step in steps:
            if step.trouble is not None:
                host.warn(f"{step.server}, {step.scenario}: {step.text}. Next: {step.next}.")
            yield record(step)


def record(step: Step) -> Record:
    """A step as an object."""
    properties: dict[str, Value] = {
        "ClientAccessServer": step.server,
        "ServiceEndpoint": step.endpoint,
        "Scenario": str(step.scenario),
        "Result": str(step.result),
        "Latency": step.latency_ms,
        "Mechanism": step.mechanism,
        "Text": step.text,
        "Error": str(step.trouble or ""),
        "Sees": step.sees,
        "Next": step.next,
    }
    return Record("OutlookConnectivity", properties, COLUMNS)


def _tell(host: Host, step: Step) -> None:
    mark = "" if step.result is Result.SUCCESS else f" ({step.trouble})"
    host.verbose(f"{step.server} {step.endpoint} {step.scenario}: {step.result}{mark}, {step.latency_ms:g} ms")


def _wish(directory: Directory, bound: Bound) -> Wish:
    """What the parameters say. `Conflict` for what does not go together."""
    user = _identity(bound)
    logon = bound.text("RpcAuthenticationType", "Negotiate").casefold()
    by_server = bound.text("RpcTestType", "Array") == "Server"
    named = bound.text("RpcClientAccessServer")
    array, server = "", ""
    if named:
        known = directory.servers.get(key(named)) or by_fqdn(directory, named)
        array, server = ("", named) if isinstance(known, Server) or by_server else (named, "")
    return Wish(
        user,
        array,
        server,
        by_server or bool(server),
        bound.text("Protocol", "TCP") == "HTTP",
        bound.text("RpcProxyServer"),
        logon,
        Depth.DEEP if user else Depth.SELF,
        discover=bound.flag("GetDefaultsFromAutodiscover", True),
    )


def _warn_of_strangers(directory: Directory, user: str, host: Host) -> None:
    known = accounts_with_address(directory, user) if "@" in user else directory.accounts.get(key(user))
    if user and not known:
        host.warn(f"the directory does not know {user}: it is tested as if there were such an account")


def _identity(bound: Bound) -> str:
    """An account by name, DOMAIN\\name or address. Scripts leave it out to test without anybody."""
    text = bound.text("Identity")
    return text if "@" in text else text.rpartition("\\")[2]


def _means(bound: Bound) -> Means:
    credential = bound.values.get("MailboxCredential")
    log_on = LogOn()
    if isinstance(credential, Credential):
        log_on = LogOn(user=credential.user, password=credential.password)
    return Means(
        log_on,
        trust_any_certificate=bound.flag("TrustAnySslCert"),
        proxy_authentication=bound.text("RpcProxyAuthenticationType", "Negotiate").casefold(),
    )


def _seconds(bound: Bound) -> float:
    minutes = number(bound, "TotalTimeoutInMinutes")
    if minutes is None:
        return USUAL_MINUTES * 60.0
    if not 1 <= minutes <= MOST_MINUTES:
        raise Conflict(f"-TotalTimeoutInMinutes {minutes} is nothing; write 1 to {MOST_MINUTES}")
    return minutes * 60.0


_PARAMETERS = (
    Parameter(
        "Identity",
        position=0,
        from_pipeline=("Identity", "Name", ""),
        help="Whose mailbox: an account or an e-mail address. Without, nobody logs on.",
    ),
    Parameter("MailboxCredential", ParameterKind.CREDENTIAL, help="Who logs on. Without, the ticket of kinit does."),
    Parameter("Protocol", choices=("TCP", "HTTP"), help="RPC over TCP (the default), or over HTTP."),
    Parameter("RpcTestType", choices=("Array", "Server"), help="The array, or the server of -RpcClientAccessServer."),
    Parameter(
        "RpcAuthenticationType",
        choices=("NTLM", "Kerberos", "Negotiate"),
        help="How to log on. Default: Negotiate; the property Mechanism says what it came to.",
    ),
    Parameter(
        "RpcProxyAuthenticationType",
        choices=("Basic", "NTLM", "Negotiate"),
        help="How to log on to the RPC proxy, with -Protocol HTTP.",
    ),
    Parameter("RpcClientAccessServer", completes="server", help="An array or a server, by name or FQDN."),
    Parameter("RpcProxyServer", help="The proxy, with -Protocol HTTP. Default: as clients are told."),
    Parameter(
        "GetDefaultsFromAutodiscover", ParameterKind.BOOLEAN, help="Whether Autodiscover is asked. Default: $true."
    ),
    Parameter("TotalTimeoutInMinutes", ParameterKind.INTEGER, help=f"For all of it. Default: {USUAL_MINUTES}."),
    Parameter("TrustAnySslCert", ParameterKind.SWITCH, help="Go on whatever certificate a web server shows."),
)


def outlook_cmdlets(service: DirectoryService, open_walker: OpenWalker) -> tuple[Cmdlet, ...]:
    """What this file offers."""
    more = (
        *ignored("RpcProxyTestType", "WSTestType"),
        *ignored("Archive", "MonitoringContext", kind=ParameterKind.SWITCH),
    )
    return (
        Cmdlet(
            "Test-OutlookConnectivity",
            partial(test, service, open_walker),
            with_common(*_PARAMETERS, more=more),
            synopsis="Walks to a mailbox as Outlook does, and says at which step it would stop, and why.",
            examples=(
                "$c = Get-Credential",
                "Test-OutlookConnectivity -Identity administrator -MailboxCredential $c -Protocol tcp",
                "Test-OutlookConnectivity -RpcTestType Server -RpcClientAccessServer cas1 | Format-List",
            ),
        ),
    )
