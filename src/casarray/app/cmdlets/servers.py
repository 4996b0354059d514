"""Get-, New-, Set- and Remove- for ClientAccessServer and MailboxServer, and Get-ExchangeServer.

In Exchange a server appears by its installation. The embedded directory has none, so New- and Remove- stand for
installing and removing a role: New- makes the server, or gives an existing one the role; Remove- takes the role, and
with the last one the server.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from casarray.app.cmdlets.changing import Draft, carry_out, made_records
from casarray.app.cmdlets.identity import (
    CLIENT_ACCESS_SERVER,
    MAILBOX_SERVER,
    SERVER,
    SITE,
    Noun,
    find,
    find_server,
    identity,
)
from casarray.app.cmdlets.parameters import (
    FORCE,
    addresses,
    host_part,
    identity_parameter,
    ignored,
    number,
    with_common,
)
from casarray.app.cmdlets.rpc_client_access import limits, settings
from casarray.app.cmdlets.showing import show
from casarray.app.directory import DirectoryService
from casarray.core.directory import edits
from casarray.core.directory.lookup import site_of
from casarray.core.directory.model import CLIENT_ACCESS, MAILBOX, Directory, Server, key
from casarray.core.directory.parts import with_role, with_rpc_settings, without_role
from casarray.core.errors import Conflict
from casarray.core.shell.cmdlet import Bound, Cmdlet, Host, Impact, Parameter, ParameterKind, Value


@dataclass(frozen=True, slots=True)
class Roles:
    """Servers as a cmdlet sees them: what they are called, and the roles that come and go with them."""

    noun: Noun
    roles: tuple[str, ...]  # none: all that a server has


CLIENT_ACCESS_ROLE = Roles(CLIENT_ACCESS_SERVER, (CLIENT_ACCESS,))
MAILBOX_ROLE = Roles(MAILBOX_SERVER, (MAILBOX,))


def get(service: DirectoryService, noun: Noun, bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
    """The servers with the role."""
    return show(service, noun, bounds)


def new(service: DirectoryService, kind: Roles, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Make servers, or give the roles to servers that are there."""

    def alter(draft: Draft, bound: Bound) -> str:
        name, fqdn = _names(bound)
        server = draft.before.servers.get(key(name))
        if server is None:
            if not fqdn:
                raise Conflict(f"the server {name} is new: give its full name with -Fqdn, like {name}.domain.tld")
            site = _site(draft.before, bound, name)
            draft.make(edits.server(draft.before, name, fqdn, site, kind.roles, **_fields(bound)))
            return name
        _refuse_another(draft.before, server, bound, fqdn)
        now = draft.now(server)
        for role in kind.roles:
            now = with_role(now, role)
        draft.change(server, edits.altered(draft.before, now, **_fields(bound)))
        return server.name

    outcome = carry_out(service, bounds, host, f"New-{kind.noun.name}", alter)
    return made_records(service, outcome, kind.noun)


def _names(bound: Bound) -> tuple[str, str]:
    """The name and the FQDN; each may be given as the other."""
    name, fqdn = bound.text("Name"), bound.text("Fqdn")
    if "." in name and not fqdn:
        fqdn, name = name, host_part(name)
    name = name or host_part(fqdn)
    if not name:
        raise Conflict("the server has no name: give it with -Name, or its full name with -Fqdn")
    return name, fqdn


def _refuse_another(directory: Directory, server: Server, bound: Bound, fqdn: str) -> None:
    """Installing a role on a server that is there does not change what the server is."""
    if fqdn and key(fqdn) != key(server.fqdn):
        raise Conflict(f"there is a server {server.name}, and it is {server.fqdn}, not {fqdn}: choose another name")
    if bound.given("Site"):
        site = find(directory, SITE, identity(bound, SITE, "Site")).name
        if key(site) != key(server.site):
            raise Conflict(f"there is a server {server.name}, and it is in the site {server.site}, not in {site}")


def _site(directory: Directory, bound: Bound, name: str) -> str:
    """The site as said, else that of the subnet of its address, as a machine finds its own."""
    if bound.given("Site"):
        return find(directory, SITE, identity(bound, SITE, "Site")).name
    for address in addresses(bound):
        site = site_of(directory, address)
        if site is not None:
            return site
    raise Conflict(
        f"the site of the server {name} is not known: give it with -Site, or give its -Address, if a subnet holds that"
    )


def _fields(bound: Bound) -> dict[str, object]:
    fields: dict[str, object] = {}
    if bound.given("Address"):
        fields["addresses"] = addresses(bound)
    if (weight := number(bound, "Weight")) is not None:
        fields["weight"] = weight
    if bound.given("PublicFolders"):
        fields["public_folders"] = bound.flag("PublicFolders")
    return fields


def altered(directory: Directory, server: Server, bound: Bound) -> Server:
    """A server with what a Set- says about it."""
    fields = _fields(bound)
    fields |= {field: bound.text(name) for name, field in (("Name", "name"), ("Fqdn", "fqdn")) if bound.given(name)}
    if bound.given("Site"):
        fields["site"] = find(directory, SITE, identity(bound, SITE, "Site")).name
    return edits.altered(directory, server, **fields)


def set_(service: DirectoryService, noun: Noun, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Change servers."""

    def alter(draft: Draft, bound: Bound) -> str:
        server = find_server(draft.before, noun, identity(bound, noun))
        draft.change(server, altered(draft.before, draft.now(server), bound))
        return server.name

    carry_out(service, bounds, host, f"Set-{noun.name}", alter)
    return ()


def set_with_access(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Change servers and the settings of their RPC client access by one change: for faces that know one noun."""

    def alter(draft: Draft, bound: Bound) -> str:
        server = find_server(draft.before, SERVER, identity(bound, SERVER))
        now = altered(draft.before, draft.now(server), bound)
        access = settings(Bound({name: value for name, value in bound.values.items() if name != "Name"}))
        draft.change(server, with_rpc_settings(now, **access) if access else now)
        return server.name

    carry_out(service, bounds, host, "Set-ExchangeServer", alter, warn=limits(bounds))
    return ()


def remove(service: DirectoryService, kind: Roles, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Take the roles from servers; a server without any is removed."""

    def alter(draft: Draft, bound: Bound) -> str:
        server = find_server(draft.before, kind.noun, identity(bound, kind.noun))
        now = draft.now(server)
        for role in kind.roles or server.roles:
            now = without_role(now, role)
        if now.roles:
            draft.change(server, now)
        else:
            draft.remove(server)
        return server.name

    carry_out(service, bounds, host, f"Remove-{kind.noun.name}", alter)
    return ()


_ADDRESS = Parameter("Address", ParameterKind.STRINGS, help="Its addresses. Default: what its FQDN resolves to.")
_WEIGHT = Parameter("Weight", ParameterKind.INTEGER, help="Its share of new clients, relative to the others' (100).")
_SITE = Parameter("Site", completes="site", from_pipeline=("Site",), help="Default: that of the subnet of its address.")
_FOLDERS = Parameter("PublicFolders", ParameterKind.BOOLEAN, help="Clients reach public folders on it, past the array.")
_STATUS = ignored("Status", kind=ParameterKind.SWITCH)
_NEW = (
    Parameter("Name", position=0, from_pipeline=("Name",), help="Its short name. Default: the host part of the FQDN."),
    Parameter("Fqdn", from_pipeline=("Fqdn",), help="Its full name, like cas1.domain.tld."),
    _SITE,
)
_SET = (
    Parameter("Name", help="Another name."),
    Parameter("Fqdn", help="Another full name."),
    Parameter("Site", completes="site", help="Another site: it becomes a member of the array there."),
)


def cmdlets(service: DirectoryService) -> tuple[Cmdlet, ...]:
    """What this file offers."""
    return (
        Cmdlet(
            "Get-ExchangeServer",
            partial(get, service, SERVER),
            with_common(identity_parameter("server", mandatory=False), more=_STATUS),
            synopsis="Lists all servers with their roles, or shows one.",
            examples=("Get-ExchangeServer | Where-Object {$_.Site -eq 'Paderborn'}",),
        ),
        *_of_role(service, CLIENT_ACCESS_ROLE, "cas1", (_ADDRESS, _WEIGHT)),
        *_of_role(service, MAILBOX_ROLE, "mbx1", (_ADDRESS, _FOLDERS)),
    )


def _of_role(service: DirectoryService, kind: Roles, example: str, own: tuple[Parameter, ...]) -> tuple[Cmdlet, ...]:
    noun = kind.noun
    return (
        Cmdlet(
            f"Get-{noun.name}",
            partial(get, service, noun),
            with_common(identity_parameter("server", mandatory=False), more=_STATUS),
            synopsis=f"Lists the {noun.word}s, or shows one.",
            examples=(f"Get-{noun.name} | Format-Table", f"Get-{noun.name} {example} | Format-List"),
        ),
        Cmdlet(
            f"New-{noun.name}",
            partial(new, service, kind),
            with_common(*_NEW, *own),
            Impact.LOW,
            f"Ours: makes a {noun.word}, or gives a server that is there the {noun.role} role.",
            (f"New-{noun.name} {example} -Fqdn {example}.domain.tld -Site Paderborn",),
        ),
        Cmdlet(
            f"Set-{noun.name}",
            partial(set_, service, noun),
            with_common(identity_parameter("server"), *_SET, *own, FORCE),
            Impact.LOW,
            f"Changes a {noun.word}.",
            (f"Set-{noun.name} {example} -Address 10.12.0.21",),
        ),
        Cmdlet(
            f"Remove-{noun.name}",
            partial(remove, service, kind),
            with_common(identity_parameter("server"), FORCE),
            Impact.HIGH,
            f"Ours: takes the {noun.role} role from a server; without any role left, the server is removed.",
            (f"Remove-{noun.name} {example} -WhatIf",),
        ),
    )
