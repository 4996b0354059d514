"""Get-, New-, Set- and Remove-ClientAccessArray."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from casarray.app.cmdlets.changing import Draft, carry_out, made_records
from casarray.app.cmdlets.identity import ARRAY, SITE, find, identity
from casarray.app.cmdlets.parameters import FORCE, addresses, host_part, identity_parameter, with_common
from casarray.app.cmdlets.showing import show
from casarray.app.directory import DirectoryService, Outcome
from casarray.core.directory import edits
from casarray.core.directory.lookup import by_fqdn, servers_of_site, site_of
from casarray.core.directory.model import Array, Directory, Thing, key
from casarray.core.directory.parts import some
from casarray.core.shell.cmdlet import Bound, Cmdlet, Host, Impact, Parameter, ParameterKind, Value


def get(service: DirectoryService, bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
    """The arrays, or those of a site."""
    return show(service, ARRAY, bounds, _of_site)


def _of_site(directory: Directory, bound: Bound) -> Callable[[Thing], bool]:
    if not bound.given("Site"):
        return lambda _thing: True
    site = find(directory, SITE, identity(bound, SITE, "Site"))
    return lambda thing: isinstance(thing, Array) and key(thing.site) == key(site.name)


def new(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Make an array; tell of databases in its site that go on naming a server."""

    def alter(draft: Draft, bound: Bound) -> str:
        site = find(draft.before, SITE, identity(bound, SITE, "Site")).name
        fqdn = bound.text("Fqdn")
        name = bound.text("Name") or host_part(fqdn)
        draft.make(edits.array(draft.before, name, fqdn, site, addresses=addresses(bound)))
        return name

    outcome = carry_out(service, bounds, host, "New-ClientAccessArray", alter, warn=_unexpected)
    return made_records(service, outcome, ARRAY)


def _unexpected(outcome: Outcome) -> Iterable[str]:
    """What an administrator would otherwise find out from his users."""
    for change in outcome.changes:
        if isinstance(change.after, Array):
            yield from _left_behind(outcome.after, change.after)


def _left_behind(directory: Directory, array: Array) -> Iterable[str]:
    named = _naming_a_server(directory, array)
    if named:
        yield (
            f"clients of {some(named)} are still told a server: set RpcClientAccessServer of these databases to "
            f"{array.fqdn}"
        )
    for address in array.addresses:
        site = site_of(directory, address)
        if site is None or key(site) != key(array.site):
            where = f"belongs to the site {site}" if site else "belongs to no site"
            yield f"the address {address} {where}, not to {array.site}: give that site its subnet with New-ADSubnet"


def _naming_a_server(directory: Directory, array: Array) -> list[str]:
    here = {key(server.name) for server in servers_of_site(directory, array.site)}
    return [
        f"{database.name} ({database.rpc_client_access_server})"
        for database in directory.databases.values()
        if key(database.active_server) in here
        and not isinstance(by_fqdn(directory, database.rpc_client_access_server), Array)
    ]


def set_(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Change arrays."""

    def alter(draft: Draft, bound: Bound) -> str:
        array = find(draft.before, ARRAY, identity(bound, ARRAY))
        fields: dict[str, object] = {
            field: bound.text(name) for name, field in (("Name", "name"), ("Fqdn", "fqdn")) if bound.given(name)
        }
        if bound.given("Site"):
            fields["site"] = find(draft.before, SITE, identity(bound, SITE, "Site")).name
        if bound.given("Address"):
            fields["addresses"] = addresses(bound)
        now = draft.now(array)
        assert isinstance(now, Array)
        if bound.given("ServiceAccount") or bound.given("Published"):
            fields["settings"] = _settings(now, bound)
        draft.change(array, edits.altered(draft.before, now, **fields))
        return array.name

    carry_out(service, bounds, host, "Set-ClientAccessArray", alter, warn=_unexpected)
    return ()


def _settings(array: Array, bound: Bound) -> Mapping[str, object]:
    """The array's further keys with what was given of them; what was given empty goes."""
    given: dict[str, object] = {}
    if bound.given("ServiceAccount"):
        given["service_account"] = bound.text("ServiceAccount").strip().rpartition("\\")[2]
    if bound.given("Published"):
        given["published"] = [name.strip().rstrip(".") for name in bound.texts("Published") if name.strip()]
    return {name: value for name, value in {**array.settings, **given}.items() if value or name not in given}


def remove(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Remove arrays."""

    def alter(draft: Draft, bound: Bound) -> str:
        array = find(draft.before, ARRAY, identity(bound, ARRAY))
        draft.remove(array)
        return array.name

    carry_out(service, bounds, host, "Remove-ClientAccessArray", alter)
    return ()


_FQDN = "The name that clients connect to, like cas.domain.tld. Only inside should it resolve."
_SITE = Parameter("Site", completes="site", help="The site whose servers are its members.")
_ADDRESS = Parameter(
    "Address", ParameterKind.STRINGS, help="Ours: the addresses of the array. Default: what its FQDN resolves to."
)
_ACCOUNT = Parameter(
    "ServiceAccount", help="Ours: the shared account whose keys its members hold. Empty: that of the configuration."
)
_PUBLISHED = Parameter(
    "Published", ParameterKind.STRINGS, help="Ours: further names that its web and mail services are reached by."
)


def cmdlets(service: DirectoryService) -> tuple[Cmdlet, ...]:
    """What this file offers."""
    must = True
    return (
        Cmdlet(
            "Get-ClientAccessArray",
            partial(get, service),
            with_common(identity_parameter("array", mandatory=False), _SITE),
            synopsis="Lists the client access arrays, or shows one.",
            examples=("Get-ClientAccessArray | Format-List Name,Fqdn,Site,Members", "Get-ClientAccessArray -Site Bonn"),
        ),
        Cmdlet(
            "New-ClientAccessArray",
            partial(new, service),
            with_common(
                Parameter("Name", position=0, from_pipeline=("Name",), help="Default: the host part of the FQDN."),
                Parameter("Fqdn", mandatory=must, from_pipeline=("Fqdn",), help=_FQDN),
                Parameter("Site", mandatory=must, from_pipeline=("Site",), completes="site", help=_SITE.help),
                _ADDRESS,
            ),
            Impact.LOW,
            "Makes the client access array of a site. All client access servers of the site are its members.",
            ("New-ClientAccessArray -Name CAS -Fqdn cas.domain.tld -Site Paderborn",),
        ),
        Cmdlet(
            "Set-ClientAccessArray",
            partial(set_, service),
            with_common(
                identity_parameter("array"),
                Parameter("Name", help="Another name."),
                Parameter("Fqdn", help=_FQDN),
                _SITE,
                _ADDRESS,
                _ACCOUNT,
                _PUBLISHED,
                FORCE,
            ),
            Impact.LOW,
            "Changes a client access array. Clients keep the FQDN they were told, so that is better left as it is.",
            ("Set-ClientAccessArray CAS -Address 10.11.0.100",),
        ),
        Cmdlet(
            "Remove-ClientAccessArray",
            partial(remove, service),
            with_common(identity_parameter("array"), FORCE),
            Impact.HIGH,
            "Removes a client access array, unless databases tell its name to their clients.",
            ("Remove-ClientAccessArray CAS -WhatIf",),
        ),
    )
