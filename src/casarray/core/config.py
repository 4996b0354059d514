"""The configuration as values, with every default in sight. Reading the file is `core.config_file`'s business."""

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from casarray.core.forwarding.table import Address

Network = IPv4Network | IPv6Network


class Mode(StrEnum):
    """Who carries the packets."""

    KERNEL = "kernel"
    USERSPACE = "userspace"
    AUTO = "auto"  # the kernel where it can be had, else userspace, and says so


class ReturnPath(StrEnum):
    """How a member's answers find their way back to the gateway."""

    ROUTED = "routed"
    MASQUERADE = "masquerade"


class ProbeKind(StrEnum):
    """The conversation that tells whether a service lives."""

    TCP = "tcp"
    HTTP = "http"
    HTTPS = "https"
    RPC = "rpc"
    IMAP = "imap"
    POP3 = "pop3"
    SMTP = "smtp"
    RPC_HTTP = "rpc-http"  # an RPC proxy answers an echo; on 593 and 6001 to 6004 a server greets
    KERBEROS = "kerberos"  # the service takes a ticket for the array's name
    NONE = "none"


class Panic(StrEnum):
    """What to do when every member looks down."""

    KEEP = "keep"  # go on with those that were last known good, loudly
    REFUSE = "refuse"  # refuse clients


class UnreadableMapper(StrEnum):
    """What a client may reach whose endpoint-mapper answers are authenticated, so that they cannot be read."""

    NOTHING = "nothing"
    DYNAMIC_RANGE = "dynamic-range"  # its member's whole dynamic range


class Wish(StrEnum):
    """What the operator wants of a server."""

    ACTIVE = "active"
    DRAIN = "drain"  # pinned clients stay, no new ones
    STANDBY = "standby"  # only when no active member is left
    OUT = "out"  # nobody


@dataclass(frozen=True, slots=True)
class Gateway:
    """The `[gateway]` table."""

    name: str
    mode: Mode = Mode.AUTO
    return_path: ReturnPath = ReturnPath.ROUTED
    source_addresses: tuple[Address, ...] = ()  # masquerade: the pool of source addresses
    fast_path: bool = True  # kernel mode: packets of connections that stand go past netfilter
    interface: str = "auto"
    state: str = "/var/lib/casarray"
    control: str = "/run/casarray.sock"
    metrics: str = "127.0.0.1:9135"  # host:port; empty = none


class Bind(StrEnum):
    """How the gateway proves to Active Directory who it is."""

    GSSAPI = "gssapi"
    SIMPLE = "simple"  # name and password; over TLS alone


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """The `[directory]` table: where arrays and servers come from, if not from the file itself."""

    store: tuple[str, ...] = ("file",)  # file, embedded, sqlite:FOLDER, or LDAP URLs of domain controllers
    interval: float = 0.0  # seconds between two looks; 0: what suits the store
    profile: str = "exchange-2010"  # of arrays that name none
    bind: Bind = Bind.GSSAPI
    principal: str = ""
    keytab: str = ""
    ccache: str = ""
    user: str = ""
    password_file: str = ""
    ca: str = ""
    starttls: bool = False
    timeout: float = 10.0

    @property
    def is_file(self) -> bool:
        """Arrays and servers stand in the configuration file."""
        return self.store == ("file",)


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The `[api]` table: where the REST API is served besides the control socket. TLS and a token are its price."""

    listen: str = ""  # host:port; empty = nowhere
    certificate: str = ""
    key: str = ""
    token_file: str = ""


@dataclass(frozen=True, slots=True)
class KerberosSettings:
    """The `[kerberos]` table: the account under which the arrays' members read tickets, and who may change it."""

    account: str = ""  # of arrays that name none; empty: they have none
    realm: tuple[str, ...] = ()  # LDAP URLs of domain controllers, or "kadmin:REALM"; empty: directory.store, if LDAP
    encryption: tuple[str, ...] = ("aes256", "aes128")
    short_names: bool = False
    lifetime: float = 36000.0  # seconds a service ticket lives at most
    agent_port: int = 7135
    principal: str = ""
    keytab: str = ""
    ccache: str = ""


class Anonymous(StrEnum):
    """What a client gets that does not authenticate."""

    NOTHING = "nothing"
    REFERRAL = "referral"  # where to go, and nobody's entry in the address book
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class ReferralSettings:
    """The `[referral]` table: what stands in for servers that are gone."""

    mapper_port: int = 135
    book_port: int = 5000
    mailbox_port: int = 5001
    keytab: str = ""  # empty: nobody can authenticate
    anonymous: Anonymous = Anonymous.REFERRAL
    encryption_required: bool = False
    state: str = ""  # empty: the gateway's
    metrics: str = ""
    idle_timeout: float = 600.0
    connections_per_client: int = 64


class Backend(StrEnum):
    """What the RPC proxy speaks to the members."""

    TCP = "tcp"  # RPC over TCP, on the port that the endpoint mapper tells
    HTTP = "http"  # RPC over HTTP on 6001, 6002 and 6004, as the proxy of IIS does


@dataclass(frozen=True, slots=True)
class RpcHttpSettings:
    """The `[rpc-http]` table: the RPC proxy."""

    listen: str = ""  # host:port; empty = nowhere
    certificate: str = ""
    key: str = ""
    arrays: tuple[str, ...] = ()  # by name; empty: all
    server_names: bool = True
    keytab: str = ""  # empty: nobody is asked at HTTP
    backend: Backend = Backend.TCP
    connections_per_client: int = 512
    timeout: float = 900.0


@dataclass(frozen=True, slots=True)
class Retired:
    """The `[[retired]]` table: a server that is gone, and where the referral stands in for it."""

    name: str  # full host name
    addresses: tuple[Address, ...]
    site: str = ""

    @property
    def short_name(self) -> str:
        """As it stands in DNs."""
        return self.name.partition(".")[0]


class Proof(StrEnum):
    """How a client proves who it is."""

    NONE = "none"  # whoever comes is answered
    KERBEROS = "kerberos"  # Negotiate, with a ticket
    BASIC = "basic"  # name and password, which the KDC is asked about


@dataclass(frozen=True, slots=True)
class AutodiscoverSettings:
    """The `[autodiscover]` table."""

    listen: str = ""  # host:port; empty = nowhere
    certificate: str = ""
    key: str = ""
    redirect_listen: str = ""
    url: str = ""
    authentication: tuple[Proof, ...] = (Proof.KERBEROS,)
    keytab: str = ""
    realm: str = ""
    redirects: tuple[str, ...] = ()
    deployment_id: str = ""
    anywhere_authentication: str = "Ntlm"
    owa_authentication: str = "Basic, Fba"


@dataclass(frozen=True, slots=True)
class Site:
    """A site and the subnets that belong to it."""

    name: str
    subnets: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """A TCP service of an array."""

    name: str
    port: int | None  # None: a dynamic RPC port, asked of the member's endpoint mapper
    group: str
    probe: ProbeKind = ProbeKind.TCP
    required: bool = True  # a member without it is not eligible in its group
    interfaces: tuple[str, ...] = ()  # probe rpc: "uuid/major.minor" of each interface that must be mapped and bindable
    path: str = "/"  # probe http and https
    status: tuple[int, ...] = (200,)  # probe http and https: the answers that mean up
    mapper: bool = False  # this is the endpoint mapper: Python answers it, and its group has dynamic ports
    kerberos_service: str = ""  # the class of the names that its clients ask tickets for; empty: as its probe says


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """When a service is called up or down. Seconds, counts."""

    interval: float = 1.0
    timeout: float = 0.8
    rise: int = 2
    fall: int = 2  # failures in a row; a refused connection counts as all of them
    slow_start: float = 30.0  # a member that came up gets its full share of new clients after so long
    hold: float = 10.0  # a member that went down three times within a minute stays down this long, doubling


@dataclass(frozen=True, slots=True)
class Array:
    """A client access array."""

    name: str
    fqdn: str
    site: str
    addresses: tuple[Address, ...]
    services: tuple[Service, ...]  # profile and `[[array.service]]` already merged
    profile: str = ""
    affinity_timeout: int = 3 * 3600  # seconds
    affinity_prefix4: int = 32
    affinity_prefix6: int = 128
    seed: int | None = None  # None: derived from the FQDN
    slots: int = 16381
    panic: Panic = Panic.KEEP
    pinhole_timeout: int = 600  # seconds
    unreadable_mapper: UnreadableMapper = UnreadableMapper.NOTHING
    dynamic_ports: tuple[int, int] = (1024, 65535)  # first and last port a member may give out
    mapper_timeout: float = 10.0  # seconds a client of the endpoint mapper may be silent or slow
    mapper_connections_per_client: int = 64
    service_account: str = ""  # the shared account of its members, if it has one of its own
    published: tuple[str, ...] = ()  # further names of its web and mail services
    health: HealthPolicy = field(default_factory=HealthPolicy)


@dataclass(frozen=True, slots=True)
class Server:
    """A machine behind an array. A member of its site's array while it has the role `client-access`."""

    name: str
    site: str
    addresses: tuple[Address, ...]  # one, or one of each family
    weight: int = 100
    roles: tuple[str, ...] = ("client-access",)
    fqdn: str = ""  # its full host name, where somebody asked


@dataclass(frozen=True, slots=True)
class Config:
    """One whole configuration, checked."""

    gateway: Gateway
    sites: tuple[Site, ...]
    arrays: tuple[Array, ...]
    servers: tuple[Server, ...]
    directory: DirectorySettings = DirectorySettings()
    api: ApiSettings = ApiSettings()
    kerberos: KerberosSettings = KerberosSettings()
    referral: ReferralSettings = ReferralSettings()
    retired: tuple[Retired, ...] = ()
    autodiscover: AutodiscoverSettings = AutodiscoverSettings()
    rpc_http: RpcHttpSettings = RpcHttpSettings()

    def members(self, array: Array) -> tuple[Server, ...]:
        """The servers of the array's site that have the client-access role: computed, never stored."""
        return tuple(s for s in self.servers if s.site == array.site and "client-access" in s.roles)
