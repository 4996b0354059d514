"""Parameters that many cmdlets share, and how their values are read."""

from collections.abc import Sequence
from ipaddress import ip_network

from casarray.core.config import Network
from casarray.core.config_values import address_of
from casarray.core.errors import Conflict
from casarray.core.forwarding.table import Address
from casarray.core.shell.cmdlet import Bound, Parameter, ParameterKind

PIPED = ("Identity", "Name", "")  # what an identity is taken from, of an object in the pipeline

FORCE = Parameter(
    "Force", ParameterKind.SWITCH, help="Do it although clients are still told a name that this takes away."
)


def identity_parameter(completes: str, *, mandatory: bool = True) -> Parameter:
    """-Identity, the first word."""
    text = "Name, FQDN, GUID, ExchangeLegacyDN or distinguished name" + ("." if mandatory else "; with wildcards.")
    return Parameter("Identity", mandatory=mandatory, position=0, from_pipeline=PIPED, completes=completes, help=text)


def server_parameter(name: str = "Server", *, mandatory: bool = True, position: int | None = None) -> Parameter:
    """A server by any of its names."""
    piped = ("Server", *PIPED) if name == "Server" else (name,)
    return Parameter(
        name,
        mandatory=mandatory,
        position=position,
        from_pipeline=piped,
        completes="server",
        help="A server's name, FQDN, GUID or distinguished name.",
    )


def ignored(*names: str, kind: ParameterKind = ParameterKind.STRING) -> tuple[Parameter, ...]:
    """Parameters that scripts give and that mean nothing here: taken, and passed over."""
    return tuple(Parameter(name, kind, help="Taken for the sake of scripts; means nothing here.") for name in names)


DOMAIN_CONTROLLER = ignored("DomainController")[0]


def addresses(bound: Bound, name: str = "Address") -> tuple[Address, ...]:
    """A parameter that takes addresses."""
    found = []
    for text in bound.texts(name):
        address = address_of(text)
        if isinstance(address, str):
            raise Conflict(f'-{name}: "{text}" {address}; write addresses like 10.11.0.100 or 2001:db8::100')
        found.append(address)
    return tuple(dict.fromkeys(found))  # one named twice is one


def network(text: str, name: str = "Name") -> Network:
    """A subnet."""
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        raise Conflict(f'-{name}: "{text}" is not a subnet; write one like 10.11.0.0/24 or 2001:db8:11::/64') from None
    if "/" not in text:
        raise Conflict(f'-{name}: "{text}" has no prefix length; write it like {found.network_address}/24')
    if found.network_address != ip_network(text.partition("/")[0]).network_address:
        raise Conflict(f'-{name}: "{text}" is an address within a subnet; the subnet is {found}')
    return found


def host_part(fqdn: str) -> str:
    """``cas.domain.tld`` -> ``cas``."""
    return fqdn.partition(".")[0]


def number(bound: Bound, name: str) -> int | None:
    """An INTEGER parameter."""
    value = bound.values.get(name)
    return None if value is None else int(str(value))


def with_common(*parameters: Parameter, more: Sequence[Parameter] = ()) -> tuple[Parameter, ...]:
    """Each cmdlet's own parameters, and those that all take."""
    return (*parameters, *more, DOMAIN_CONTROLLER)
