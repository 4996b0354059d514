"""The cmdlets of sites and their subnets.

Exchange has Get-ADSite and Set-ADSite alone, since sites are Active Directory's; the embedded directory needs the
others too, and ADSubnet is a noun of ours.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from casarray.app.cmdlets.changing import Draft, carry_out, made_records
from casarray.app.cmdlets.identity import SITE, SUBNET, find, identity
from casarray.app.cmdlets.parameters import FORCE, identity_parameter, ignored, network, with_common
from casarray.app.cmdlets.showing import show
from casarray.app.directory import DirectoryService
from casarray.core.directory import edits
from casarray.core.directory.model import Directory, Site, Subnet, Thing, key
from casarray.core.shell.cmdlet import Bound, Cmdlet, Host, Impact, Parameter, ParameterKind, Value


def get(service: DirectoryService, bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
    """The sites."""
    return show(service, SITE, bounds)


def new(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Make sites, with the subnets that are named."""

    def alter(draft: Draft, bound: Bound) -> str:
        site = Site(bound.text("Name"), bound.text("Description"))
        draft.make(site)
        for text in bound.texts("Subnet"):
            draft.make(Subnet(network(text, "Subnet"), site.name))
        return site.name

    outcome = carry_out(service, bounds, host, "New-ADSite", alter)
    return made_records(service, outcome, SITE)


def set_(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Change sites; what is in a site follows its new name."""

    def alter(draft: Draft, bound: Bound) -> str:
        site = find(draft.before, SITE, identity(bound, SITE))
        fields = {
            field: bound.text(name)
            for name, field in (("Name", "name"), ("Description", "description"))
            if bound.given(name)
        }
        draft.change(site, edits.altered(draft.before, draft.now(site), **fields))
        return site.name

    carry_out(service, bounds, host, "Set-ADSite", alter)
    return ()


def remove(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Remove sites that nothing is in."""

    def alter(draft: Draft, bound: Bound) -> str:
        site = find(draft.before, SITE, identity(bound, SITE))
        draft.remove(site)
        return site.name

    carry_out(service, bounds, host, "Remove-ADSite", alter)
    return ()


def get_subnets(service: DirectoryService, bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
    """The subnets, or those of a site."""
    return show(service, SUBNET, bounds, _of_site)


def _of_site(directory: Directory, bound: Bound) -> Callable[[Thing], bool]:
    if not bound.given("Site"):
        return lambda _thing: True
    site = key(find(directory, SITE, identity(bound, SITE, "Site")).name)
    return lambda thing: isinstance(thing, Subnet) and key(thing.site) == site


def new_subnets(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Make subnets."""

    def alter(draft: Draft, bound: Bound) -> str:
        site = find(draft.before, SITE, identity(bound, SITE, "Site")).name
        subnet = Subnet(network(bound.text("Name")), site)
        draft.make(subnet)
        return subnet.name

    outcome = carry_out(service, bounds, host, "New-ADSubnet", alter)
    return made_records(service, outcome, SUBNET)


def set_subnets(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Give subnets to another site."""

    def alter(draft: Draft, bound: Bound) -> str:
        subnet = find(draft.before, SUBNET, identity(bound, SUBNET))
        if bound.given("Site"):
            site = find(draft.before, SITE, identity(bound, SITE, "Site")).name
            draft.change(subnet, edits.altered(draft.before, draft.now(subnet), site=site))
        return subnet.name

    carry_out(service, bounds, host, "Set-ADSubnet", alter)
    return ()


def remove_subnets(service: DirectoryService, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Remove subnets."""

    def alter(draft: Draft, bound: Bound) -> str:
        subnet = find(draft.before, SUBNET, identity(bound, SUBNET))
        draft.remove(subnet)
        return subnet.name

    carry_out(service, bounds, host, "Remove-ADSubnet", alter)
    return ()


_DESCRIPTION = Parameter("Description", help="What people should know about it.")


def cmdlets(service: DirectoryService) -> tuple[Cmdlet, ...]:
    """What this file offers."""
    return (*_of_sites(service), *_of_subnets(service))


def _of_sites(service: DirectoryService) -> tuple[Cmdlet, ...]:
    return (
        Cmdlet(
            "Get-ADSite",
            partial(get, service),
            with_common(identity_parameter("site", mandatory=False)),
            synopsis="Lists the sites with their subnets, or shows one.",
            examples=("Get-ADSite",),
        ),
        Cmdlet(
            "New-ADSite",
            partial(new, service),
            with_common(
                Parameter("Name", mandatory=True, position=0, from_pipeline=("Name",), help="Its name."),
                _DESCRIPTION,
                Parameter("Subnet", ParameterKind.STRINGS, help="Subnets to make with it, like 10.11.0.0/24."),
                FORCE,
            ),
            Impact.LOW,
            "Ours: makes a site.",
            ("New-ADSite Paderborn -Subnet 10.11.0.0/24,10.12.0.0/24",),
        ),
        Cmdlet(
            "Set-ADSite",
            partial(set_, service),
            with_common(
                identity_parameter("site"),
                Parameter("Name", help="Another name; what is in the site follows it."),
                _DESCRIPTION,
                more=ignored("HubSiteEnabled", kind=ParameterKind.BOOLEAN),
            ),
            Impact.LOW,
            "Changes a site.",
            ("Set-ADSite Paderborn -Name Bonn",),
        ),
        Cmdlet(
            "Remove-ADSite",
            partial(remove, service),
            with_common(identity_parameter("site")),
            Impact.HIGH,
            "Ours: removes a site that has no servers, subnets and array any more.",
            ("Remove-ADSite Bonn",),
        ),
    )


def _of_subnets(service: DirectoryService) -> tuple[Cmdlet, ...]:
    name = Parameter("Name", mandatory=True, position=0, from_pipeline=("Name",), help="The subnet, like 10.11.0.0/24.")
    site = Parameter("Site", mandatory=True, from_pipeline=("Site",), completes="site", help="The site it belongs to.")
    return (
        Cmdlet(
            "Get-ADSubnet",
            partial(get_subnets, service),
            with_common(
                identity_parameter("subnet", mandatory=False),
                Parameter("Site", completes="site", help="Those of this site."),
            ),
            synopsis="Ours: lists the subnets, those of a site, or shows one.",
            examples=("Get-ADSubnet -Site Paderborn",),
        ),
        Cmdlet(
            "New-ADSubnet",
            partial(new_subnets, service),
            with_common(name, site, FORCE),
            Impact.LOW,
            "Ours: makes a subnet of a site. Overlapping another site's is refused, unless -Force says it is meant.",
            ("New-ADSubnet 10.11.0.0/24 -Site Paderborn",),
        ),
        Cmdlet(
            "Set-ADSubnet",
            partial(set_subnets, service),
            with_common(identity_parameter("subnet"), Parameter("Site", completes="site", help="Another site."), FORCE),
            Impact.LOW,
            "Ours: gives a subnet to another site.",
            ("Set-ADSubnet 10.11.0.0/24 -Site Bonn",),
        ),
        Cmdlet(
            "Remove-ADSubnet",
            partial(remove_subnets, service),
            with_common(identity_parameter("subnet")),
            Impact.HIGH,
            "Ours: removes a subnet.",
            ("Remove-ADSubnet 10.11.0.0/24",),
        ),
    )
