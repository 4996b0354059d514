"""Every key of the configuration file. The manual's page is made from this."""

from collections.abc import Mapping

from casarray.core import config
from casarray.core import config_values as read
from casarray.core.config import Bind, Mode, Panic, ProbeKind, ReturnPath, UnreadableMapper
from casarray.core.config_access import API, KERBEROS
from casarray.core.config_autodiscover import AUTODISCOVER
from casarray.core.config_referral import REFERRAL, RETIRED
from casarray.core.config_rpc_http import RPC_HTTP
from casarray.core.config_table import Key, Table
from casarray.core.kerberos.approach import KINDS

ROLES = ("client-access", "mailbox")

_DAY = 86400.0
_ADDRESSES = 'write a list of addresses, like ["10.11.0.100"]'


GATEWAY = Table(
    "[gateway]",
    config.Gateway,
    "The gateway itself. Any of these can also be given in the environment: `CASARRAY_GATEWAY_MODE=userspace`.",
    (
        Key(
            "name",
            read.read_name,
            "What this gateway is called in status, logs and metrics.",
            '"gw1"',
            default="the host's name",
        ),
        Key(
            "mode",
            read.choice(Mode),
            "Who carries the packets: `kernel` (nftables), `userspace` (slower, needs no privileges), or `auto`: the "
            "kernel where it can be had, else userspace, and says so.",
            '"kernel"',
        ),
        Key(
            "return_path",
            read.choice(ReturnPath),
            "How answers of the servers find back: `routed`: their route to the clients leads through this gateway, "
            "and they see the clients' addresses; `masquerade`: they see an address of the gateway.",
            '"masquerade"',
        ),
        Key(
            "source_addresses",
            read.list_of(read.read_address, _ADDRESSES, at_most=4096),
            "With `masquerade`: the addresses that clients are hidden behind; one client always behind the same one. "
            "Each address allows about 64,000 connections to one port of one server. Empty: the gateway's own address.",
            '["10.12.0.240", "10.12.0.241"]',
        ),
        Key(
            "fast_path",
            read.read_boolean,
            "In kernel mode: packets of connections that stand go past netfilter, through programs on the interfaces, "
            "where the kernel can (Linux 5.11, no other programs there); `casarray status` says whether. Firewalls and "
            "counters of this host then see the first packets of a connection and one each second.",
            "false",
        ),
        Key(
            "interface",
            read.read_link,
            "Where the arrays' addresses are put when no interface has them, announced by ARP and ND. `auto` finds the "
            "interface by the route; `none`: somebody else brings the addresses (keepalived, BGP).",
            '"eth0"',
        ),
        Key(
            "state",
            read.read_file_path,
            "Folder of what must survive: the embedded directory and the operators' wishes.",
            '"/var/lib/casarray"',
        ),
        Key(
            "control",
            read.read_socket_path,
            "The local control socket, mode 0660: who may write to it may operate the gateway.",
            '"/run/casarray.sock"',
        ),
        Key(
            "metrics",
            read.read_endpoint,
            "Where `/metrics`, `/healthz` and `/readyz` are served. Empty: nowhere.",
            '"127.0.0.1:9135"',
        ),
    ),
)

DIRECTORY = Table(
    "[directory]",
    config.DirectorySettings,
    "Where sites, arrays and servers come from. With another store than `file`, those in this file count for "
    "`casarray apply` alone.",
    (
        Key(
            "store",
            read.one_or_list_of(
                read.read_store,
                'write "file", "embedded", "sqlite:FOLDER", or LDAP URLs like "ldap://dc1.domain.tld"',
                at_most=16,
            ),
            "`file`: this file. `embedded`: the directory in `gateway.state`, kept by `casarray apply` and the shell. "
            "`ldap://DC` or `ldaps://DC`, one or several domain controllers: Active Directory.",
            '["ldap://dc1.domain.tld", "ldap://dc2.domain.tld"]',
        ),
        Key(
            "interval",
            read.duration(0.05, 3600),
            "Time between two looks whether the store changed.",
            '"30s"',
            default="embedded: 50 ms; Active Directory: 15 s",
        ),
        Key(
            "profile",
            read.read_service_name,
            "The profile of arrays that name none, as those in Active Directory do.",
            '"exchange-2013"',
        ),
        Key(
            "bind", read.choice(Bind), "How to log on to Active Directory: Kerberos, or name and password.", '"simple"'
        ),
        Key(
            "principal",
            read.read_text,
            "With `gssapi`: the Kerberos name to log on as. Empty: the keytab's or cache's first.",
            '"gw1$@DOMAIN.TLD"',
        ),
        Key(
            "keytab",
            read.read_file_path,
            "With `gssapi`: the keytab with that name's key.",
            '"/etc/casarray/gw1.keytab"',
            default="none",
        ),
        Key(
            "ccache",
            read.read_text,
            "With `gssapi`: a credentials cache that somebody else keeps fresh.",
            '"FILE:/run/casarray/krb5cc"',
        ),
        Key("user", read.read_text, "With `simple`: the user's name or DN.", '"casarray@domain.tld"'),
        Key(
            "password_file",
            read.read_file_path,
            "With `simple`: a file whose first line is the password, readable by the gateway's user alone.",
            '"/etc/casarray/ldap-password"',
            default="none",
        ),
        Key(
            "ca",
            read.read_file_path,
            "Certificates that may vouch for the domain controllers.",
            '"/etc/casarray/ca.pem"',
            default="none",
        ),
        Key("starttls", read.read_boolean, "Switch `ldap://` connections to TLS before logging on.", "true"),
        Key("timeout", read.duration(0.5, 300), "So long a domain controller may take to answer.", '"10s"'),
    ),
)

SITE = Table(
    "[[site]]",
    config.Site,
    "A site, as in Active Directory.",
    (
        Key("name", read.read_name, "Its name.", '"Paderborn"', required=True),
        Key(
            "subnets",
            read.list_of(read.read_network, 'write a list of subnets, like ["10.11.0.0/24"]', at_most=4096),
            "The subnets that belong to it. The array's own address should be in one of them.",
            '["10.11.0.0/24", "10.12.0.0/24"]',
        ),
    ),
)

ARRAY = Table(
    "[[array]]",
    config.Array,
    "An array: one name and address in front of all servers of its site. A site has exactly one.",
    (
        Key("name", read.read_name, "Its name. Do not change it later.", '"CAS"', required=True),
        Key(
            "fqdn",
            read.read_fqdn,
            "The name that clients are given. Only the inside should be able to resolve it, to `addresses`.",
            '"cas.domain.tld"',
            required=True,
        ),
        Key("site", read.read_name, "The site whose servers are its members.", '"Paderborn"', required=True),
        Key(
            "addresses",
            read.list_of(read.read_address, _ADDRESSES, at_least=1, at_most=16),
            "The addresses that clients connect to, IPv4, IPv6 or both.",
            '["10.11.0.100"]',
            required=True,
        ),
        Key(
            "profile",
            read.read_service_name,
            "A named set of services, see [profiles](#profiles). `[[array.service]]` changes and adds to it.",
            '"exchange-2010"',
            default="none: only `[[array.service]]`",
        ),
        Key(
            "without",
            read.list_of(read.read_service_name, 'write a list of the profile\'s services, like ["https"]'),
            "Services of the profile that this array does not offer.",
            '["https"]',
            default="[]",
        ),
        Key(
            "affinity_timeout",
            read.duration(1, 30 * _DAY, whole=True),
            "So long after its last new connection a client is still led to the same server.",
            '"3h"',
        ),
        Key(
            "affinity_prefix4",
            read.integer(8, 32),
            "So many bits of an IPv4 address make it the same client: 24 keeps a whole /24 on one server.",
            "24",
        ),
        Key("affinity_prefix6", read.integer(16, 128), "The same for IPv6.", "64"),
        Key(
            "seed",
            read.integer(0, 0xFFFFFFFF),
            "Seeds the choice of servers. The same on every gateway of the array, or clients move.",
            "4660",
            default="derived from `fqdn`",
        ),
        Key(
            "slots",
            read.integer(64, 65537),
            "Size of the table that new clients are spread by; more slots follow the weights more closely.",
            "65537",
        ),
        Key(
            "panic",
            read.choice(Panic),
            "When every server looks down: `keep` goes on with those last known good, loudly; `refuse` refuses.",
            '"refuse"',
        ),
        Key(
            "pinhole_timeout",
            read.duration(1, _DAY, whole=True),
            "So long a client may open connections to a dynamic port it was told by the endpoint mapper.",
            '"10m"',
        ),
        Key(
            "unreadable_mapper",
            read.choice(UnreadableMapper),
            "What a client may reach whose endpoint-mapper answers are encrypted: `nothing` more, or its server's "
            "whole `dynamic-range`.",
            '"dynamic-range"',
        ),
        Key(
            "dynamic_ports",
            read.read_port_range,
            "The ports that servers give out dynamically; a mapper's answer outside of them opens nothing.",
            '"6005-65534"',
            default='"1024-65535"',
        ),
        Key(
            "mapper_timeout",
            read.duration(0.1, 3600),
            "A client of the endpoint mapper that is silent so long is disconnected.",
            '"10s"',
        ),
        Key(
            "mapper_connections_per_client",
            read.integer(1, 65535),
            "More connections of one client to the endpoint mapper are refused.",
            "256",
        ),
        Key(
            "service_account",
            read.read_text,
            "The shared account whose keys its members hold, if not that of `[kerberos]`.",
            '"cas-asa$"',
            default="`kerberos.account`",
        ),
        Key(
            "published",
            read.list_of(read.read_fqdn, 'write a list of names, like ["mail.domain.tld"]', at_most=64),
            "Further names that its web and mail services are reached by, for tickets and certificates.",
            '["mail.domain.tld", "autodiscover.domain.tld"]',
        ),
    ),
)

HEALTH = Table(
    "[array.health]",
    config.HealthPolicy,
    "When a service of this array counts as up or down.",
    (
        Key("interval", read.duration(0.05, 3600), "Time between two probes of one service on one server.", '"500ms"'),
        Key("timeout", read.duration(0.01, 60), "A probe without an answer so long has failed.", '"250ms"'),
        Key("rise", read.integer(1, 100), "So many good probes in a row make it up.", "3"),
        Key(
            "fall",
            read.integer(1, 100),
            "So many failed probes in a row make it down; a refused connection counts as all of them.",
            "1",
        ),
        Key(
            "slow_start",
            read.duration(0, _DAY),
            "A server that came up reaches its full share of new clients after so long.",
            '"0s"',
        ),
        Key(
            "hold",
            read.duration(0, _DAY),
            "A server that went down three times within a minute stays down so long, doubling each time.",
            '"1m"',
        ),
    ),
)

SERVICE = Table(
    "[[array.service]]",
    config.Service,
    "A service of the array. With the name of one in the profile it changes only the given keys; the names "
    "http, https, imap, imaps, pop3, pop3s, smtp and submission bring their usual port and probe.",
    (
        Key("name", read.read_service_name, "Its name, unique in the array.", '"app"', required=True),
        Key(
            "port",
            read.read_port,
            "Its TCP port, the same on the array and on every server.",
            "8081",
            default="none: an RPC service on a dynamic port, found through its `interfaces`",
        ),
        Key(
            "group",
            read.read_group,
            "Its affinity group: a client reaches all services of a group on one server, and they fail over together.",
            '"web"',
            default="a group of its own; without a port, the endpoint mapper's",
        ),
        Key(
            "probe",
            read.choice(ProbeKind),
            "The conversation that tells whether it lives.",
            '"http"',
            default='"tcp"; without a port `"rpc"`',
        ),
        Key(
            "required",
            read.read_boolean,
            "A server on which it is down gets no clients of its group.",
            "false",
        ),
        Key(
            "interfaces",
            read.list_of(read.read_interface_id, "write a list of RPC interfaces", at_most=64),
            "Probe `rpc`: every one must be registered with the endpoint mapper and accept a bind.",
            '["f5cc5a18-4264-101a-8c59-08002b2f8426/56.0"]',
        ),
        Key(
            "path",
            read.read_url_path,
            "Probe `http` and `https`, and `kerberos` over HTTP: what is asked for.",
            '"/owa/healthcheck.htm"',
        ),
        Key(
            "status",
            read.list_of(read.integer(100, 599), "write a list of status codes, like [200, 401]", at_least=1),
            "Probe `http` and `https`: the answers that mean up.",
            "[200, 401]",
        ),
        Key(
            "mapper",
            read.read_boolean,
            "It is the endpoint mapper: the gateway answers it, and opens the dynamic ports of its group.",
            "true",
        ),
        Key(
            "kerberos_service",
            read.one_of(KINDS),
            "Probe `kerberos`: the class of the names that clients ask tickets for, which also says the protocol.",
            '"imap"',
            default="as the name, the port or the interfaces of the service say",
        ),
    ),
)

SERVER = Table(
    "[[server]]",
    config.Server,
    "A machine. It is a member of its site's array while it has the role `client-access`.",
    (
        Key("name", read.read_name, "Its name.", '"cas1"', required=True),
        Key("site", read.read_name, "The site it stands in.", '"Paderborn"', required=True),
        Key(
            "address",
            read.one_or_list_of(read.read_address, 'write one address of each family, like ["10.12.0.21"]', at_most=2),
            "Its address, or a list of one IPv4 and one IPv6 address.",
            '["10.12.0.21", "2001:db8:12::21"]',
            required=True,
            field="addresses",
        ),
        Key("weight", read.integer(1, 10000), "Its share of new clients, relative to the other servers'.", "200"),
        Key(
            "roles",
            read.list_of(read.one_of(ROLES), 'write a list of roles, like ["client-access", "mailbox"]'),
            "What it does: `client-access`, `mailbox`.",
            '["client-access", "mailbox"]',
        ),
        Key(
            "fqdn",
            read.read_fqdn,
            "Its full host name, for the directory.",
            '"cas1.domain.tld"',
            default="its name in the domain of its site's array",
        ),
    ),
)

TABLES = (
    GATEWAY,
    DIRECTORY,
    API,
    KERBEROS,
    SITE,
    ARRAY,
    HEALTH,
    SERVICE,
    SERVER,
    REFERRAL,
    RETIRED,
    AUTODISCOVER,
    RPC_HTTP,
)

#: What may stand at the top of the file, and inside an array beside its keys.
TOP: Mapping[str, Table] = {
    "gateway": GATEWAY,
    "directory": DIRECTORY,
    "api": API,
    "kerberos": KERBEROS,
    "site": SITE,
    "array": ARRAY,
    "server": SERVER,
    "referral": REFERRAL,
    "retired": RETIRED,
    "autodiscover": AUTODISCOVER,
    "rpc-http": RPC_HTTP,
}
IN_ARRAY: Mapping[str, Table] = {"health": HEALTH, "service": SERVICE}
