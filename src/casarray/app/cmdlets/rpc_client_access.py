"""Get-, New-, Set- and Remove-RpcClientAccess: whether a server is in the array of its site, and what it accepts."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from casarray.app.cmdlets.changing import Draft, Warn, carry_out
from casarray.app.cmdlets.identity import SERVER, all_of, find_server, has_wildcard, identity, matching
from casarray.app.cmdlets.parameters import number, server_parameter, with_common
from casarray.app.cmdlets.records import rpc_client_access_record
from casarray.app.directory import DirectoryService
from casarray.core.directory.model import Server
from casarray.core.directory.parts import (
    rpc_client_access,
    with_rpc_client_access,
    with_rpc_settings,
    without_rpc_client_access,
)
from casarray.core.shell.cmdlet import Bound, Cmdlet, Host, Impact, Parameter, ParameterKind, Value

NOT_ENFORCED = "MaximumConnections is kept, but as in Exchange 2010 nothing enforces it"


def get(service: DirectoryService, bounds: Sequence[Bound], _host: Host) -> Iterator[Value]:
    """The RPC client access of all servers that have it, or of one."""
    directory = service.directory()
    for bound in bounds:
        asked = identity(bound, SERVER, "Server") if bound.given("Server") else "*"
        one = not has_wildcard(asked) and bound.input is None
        found = all_of(directory, SERVER) if asked == "*" else matching(directory, SERVER, asked)
        for server in found:
            assert isinstance(server, Server)
            if server.rpc_client_access is not None:
                yield rpc_client_access_record(server)
            elif one:
                rpc_client_access(server)  # says that it has none


def settings(bound: Bound) -> dict[str, object]:
    """What a New- or Set- says about the settings."""
    fields: dict[str, object] = {}
    if bound.given("BlockedClientVersions"):
        fields["blocked_client_versions"] = bound.text("BlockedClientVersions")
    if bound.given("EncryptionRequired"):
        fields["encryption_required"] = bound.flag("EncryptionRequired")
    if (most := number(bound, "MaximumConnections")) is not None:
        fields["maximum_connections"] = most
    if bound.given("Name"):
        fields["name"] = bound.text("Name")
    return fields


def new(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Put servers (back) into the array of their site."""

    def alter(draft: Draft, bound: Bound) -> str:
        server = _server(draft, bound)
        draft.change(server, with_rpc_client_access(draft.now(server), **settings(bound)))
        return server.name

    outcome = carry_out(service, bounds, host, "New-RpcClientAccess", alter, warn=limits(bounds))
    if outcome is None:
        return ()
    host.verbose("restart the Address Book service of the servers, so that it serves them again")
    return (rpc_client_access_record(c.after) for c in outcome.changes if isinstance(c.after, Server))


def set_(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Change the settings of servers."""

    def alter(draft: Draft, bound: Bound) -> str:
        server = _server(draft, bound)
        draft.change(server, with_rpc_settings(draft.now(server), **settings(bound)))
        return server.name

    carry_out(service, bounds, host, "Set-RpcClientAccess", alter, warn=limits(bounds))
    return ()


def remove(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Take servers out of the array of their site."""

    def alter(draft: Draft, bound: Bound) -> str:
        server = _server(draft, bound)
        draft.change(server, without_rpc_client_access(draft.now(server)))
        return server.name

    if carry_out(service, bounds, host, "Remove-RpcClientAccess", alter) is not None:
        host.verbose("New-RpcClientAccess puts a server back")
    return ()


def limits(bounds: Sequence[Bound]) -> Warn:
    """Who sets a limit should know that it is none."""
    set_some = any(bound.given("MaximumConnections") for bound in bounds)
    return lambda _outcome: (NOT_ENFORCED,) if set_some else ()


def _server(draft: Draft, bound: Bound) -> Server:
    return find_server(draft.before, SERVER, identity(bound, SERVER, "Server"))


_SETTINGS = (
    Parameter("BlockedClientVersions", help='Outlook versions to refuse, like "0.0.0-5.9.9;7.0.0-65535.65535.65535".'),
    Parameter("EncryptionRequired", ParameterKind.BOOLEAN, help="Refuse clients that do not encrypt. Default: $true."),
    Parameter("MaximumConnections", ParameterKind.INTEGER, help="1 to 65535. Kept, but not enforced, as in Exchange."),
    Parameter("Name", help="The name of the settings. Default: RpcClientAccess."),
)


def cmdlets(service: DirectoryService) -> tuple[Cmdlet, ...]:
    """What this file offers."""
    server = server_parameter(position=0)
    return (
        Cmdlet(
            "Get-RpcClientAccess",
            partial(get, service),
            with_common(server_parameter(position=0, mandatory=False)),
            synopsis="Lists the servers with RPC client access: those that are in the array of their site.",
            examples=("Get-RpcClientAccess", "Get-RpcClientAccess -Server cas1 | Format-List"),
        ),
        Cmdlet(
            "New-RpcClientAccess",
            partial(new, service),
            with_common(server, *_SETTINGS),
            Impact.LOW,
            "Puts a client access server (back) into the array of its site.",
            ("New-RpcClientAccess -Server cas1",),
        ),
        Cmdlet(
            "Set-RpcClientAccess",
            partial(set_, service),
            with_common(server, *_SETTINGS),
            Impact.LOW,
            "Changes which clients a client access server takes.",
            ("Set-RpcClientAccess -Server cas1 -EncryptionRequired $false",),
        ),
        Cmdlet(
            "Remove-RpcClientAccess",
            partial(remove, service),
            with_common(server),
            Impact.HIGH,
            "Takes a client access server out of the array of its site; New-RpcClientAccess puts it back.",
            ("Remove-RpcClientAccess -Server cas1",),
        ),
    )
