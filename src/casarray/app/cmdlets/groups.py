"""The cmdlets of availability groups and their servers."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from casarray.app.cmdlets.changing import Draft, carry_out, made_records
from casarray.app.cmdlets.identity import GROUP, SERVER, find, find_server, identity
from casarray.app.cmdlets.parameters import identity_parameter, ignored, with_common
from casarray.app.cmdlets.showing import show
from casarray.app.directory import DirectoryService
from casarray.core.directory import edits
from casarray.core.directory.model import AvailabilityGroup, Directory
from casarray.core.directory.parts import some, with_server, without_server
from casarray.core.errors import Conflict
from casarray.core.shell.cmdlet import Bound, Cmdlet, Host, Impact, Parameter, ParameterKind, Value

Refit = Callable[[Directory, AvailabilityGroup, str], AvailabilityGroup]


def get(service: DirectoryService, bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
    """The availability groups."""
    return show(service, GROUP, bounds)


def new(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Make availability groups."""

    def alter(draft: Draft, bound: Bound) -> str:
        group = AvailabilityGroup(
            bound.text("Name"), allow_cross_site_rpc_client_access=bound.flag("AllowCrossSiteRpcClientAccess")
        )
        for name in bound.texts("Server"):
            group = with_server(draft.before, group, find_server(draft.before, SERVER, name).name)
        draft.make(group)
        return group.name

    outcome = carry_out(service, bounds, host, "New-DatabaseAvailabilityGroup", alter)
    return made_records(service, outcome, GROUP)


def set_(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Change availability groups."""

    def alter(draft: Draft, bound: Bound) -> str:
        group = _group(draft, bound)
        fields: dict[str, object] = {"name": bound.text("Name")} if bound.given("Name") else {}
        if bound.given("AllowCrossSiteRpcClientAccess"):
            fields["allow_cross_site_rpc_client_access"] = bound.flag("AllowCrossSiteRpcClientAccess")
        draft.change(group, edits.altered(draft.before, draft.now(group), **fields))
        return group.name

    carry_out(service, bounds, host, "Set-DatabaseAvailabilityGroup", alter)
    return ()


def remove(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Remove empty availability groups."""

    def alter(draft: Draft, bound: Bound) -> str:
        group = _group(draft, bound)
        if group.servers:
            raise Conflict(
                f"the availability group {group.name} has servers ({some(group.servers)}): remove these from it first, "
                f"with Remove-DatabaseAvailabilityGroupServer"
            )
        draft.remove(group)
        return group.name

    carry_out(service, bounds, host, "Remove-DatabaseAvailabilityGroup", alter)
    return ()


def refit(
    service: DirectoryService, action: str, change: Refit, bounds: Sequence[Bound], host: Host
) -> Iterable[Value]:
    """Add servers to an availability group, or take them out."""

    def alter(draft: Draft, bound: Bound) -> str:
        group = _group(draft, bound)
        server = find_server(draft.before, SERVER, identity(bound, SERVER, "MailboxServer"))
        draft.change(group, change(draft.before, draft.now(group), server.name))
        return f"{group.name}\\{server.name}"

    carry_out(service, bounds, host, action, alter)
    return ()


def _group(draft: Draft, bound: Bound) -> AvailabilityGroup:
    group = find(draft.before, GROUP, identity(bound, GROUP))
    assert isinstance(group, AvailabilityGroup)
    return group


_ACROSS = Parameter(
    "AllowCrossSiteRpcClientAccess",
    ParameterKind.BOOLEAN,
    help="Whether clients keep the array of the preferred site while a database is active in another. Default: $false.",
)
_WITNESS = ignored("WitnessServer", "WitnessDirectory", "DatabaseAvailabilityGroupIpAddresses")


def cmdlets(service: DirectoryService) -> tuple[Cmdlet, ...]:
    """What this file offers."""
    must = True
    server = Parameter(
        "MailboxServer",
        mandatory=must,
        position=1,
        from_pipeline=("Name", ""),
        completes="server",
        help="A server with the mailbox role.",
    )
    group = Parameter("Identity", mandatory=must, position=0, completes="group", help="The availability group.")
    return (
        Cmdlet(
            "Get-DatabaseAvailabilityGroup",
            partial(get, service),
            with_common(
                identity_parameter("group", mandatory=False), more=ignored("Status", kind=ParameterKind.SWITCH)
            ),
            synopsis="Lists the availability groups, or shows one.",
            examples=("Get-DatabaseAvailabilityGroup | Format-List Name,Servers",),
        ),
        Cmdlet(
            "New-DatabaseAvailabilityGroup",
            partial(new, service),
            with_common(
                Parameter("Name", mandatory=must, position=0, from_pipeline=("Name",), help="Its name."), more=_WITNESS
            ),
            Impact.LOW,
            "Makes an availability group without servers.",
            ("New-DatabaseAvailabilityGroup DAG1",),
        ),
        Cmdlet(
            "Set-DatabaseAvailabilityGroup",
            partial(set_, service),
            with_common(identity_parameter("group"), Parameter("Name", help="Another name."), _ACROSS, more=_WITNESS),
            Impact.LOW,
            "Changes whether clients are led across sites after a switchover.",
            ("Set-DatabaseAvailabilityGroup DAG1 -AllowCrossSiteRpcClientAccess $true",),
        ),
        Cmdlet(
            "Remove-DatabaseAvailabilityGroup",
            partial(remove, service),
            with_common(identity_parameter("group")),
            Impact.HIGH,
            "Removes an availability group that has no servers any more.",
            ("Remove-DatabaseAvailabilityGroup DAG1",),
        ),
        Cmdlet(
            "Add-DatabaseAvailabilityGroupServer",
            partial(refit, service, "Add-DatabaseAvailabilityGroupServer", with_server),
            with_common(group, server),
            Impact.LOW,
            "Adds a mailbox server to an availability group.",
            ("Get-MailboxServer mbx* | Add-DatabaseAvailabilityGroupServer DAG1",),
        ),
        Cmdlet(
            "Remove-DatabaseAvailabilityGroupServer",
            partial(refit, service, "Remove-DatabaseAvailabilityGroupServer", without_server),
            with_common(group, server, more=ignored("ConfigurationOnly", kind=ParameterKind.SWITCH)),
            Impact.HIGH,
            "Takes a mailbox server out of an availability group.",
            ("Remove-DatabaseAvailabilityGroupServer DAG1 mbx2",),
        ),
    )
