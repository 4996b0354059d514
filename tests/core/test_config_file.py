"""The configuration file: what it becomes, and the exact words for everything that can be wrong with it."""

import tomllib
from dataclasses import fields
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casarray.core.config import Config, Gateway, HealthPolicy, Mode, ProbeKind, ReturnPath, Service, Wish
from casarray.core.config_file import MOST_PROBLEMS, examine, load_config
from casarray.core.config_keys import TABLES
from casarray.core.config_rules import advise
from casarray.core.config_values import Report, duration_text, seconds_of
from casarray.core.errors import ConfigError
from casarray.core.profiles import EMSMDB, NSPI, PROFILES, RFR

CONTRACT = """\
[gateway]
name = "gw1"                 # default: the host's name
mode = "auto"                # kernel | userspace | auto
return_path = "routed"       # routed | masquerade
interface = "auto"
state = "/var/lib/casarray"
control = "/run/casarray.sock"
metrics = "127.0.0.1:9135"

[[site]]
name = "Paderborn"
subnets = ["10.11.0.0/24", "10.12.0.0/24"]

[[array]]
name = "CAS"
fqdn = "cas.domain.tld"
site = "Paderborn"
addresses = ["10.11.0.100"]
profile = "exchange-2010"
affinity_timeout = "3h"

[[array.service]]
name = "app"
port = 8081
group = "web"
probe = "http"
required = true

[[server]]
name = "cas1"
site = "Paderborn"
address = "10.12.0.21"
weight = 100
"""
SMALL = """\
[[site]]
name = "P"
[[array]]
name = "CAS"
fqdn = "cas.domain.tld"
site = "P"
addresses = ["10.11.0.100"]
profile = "msrpc"
"""


def refused(text: str) -> str:
    """What is said of a text that is no configuration."""
    with pytest.raises(ConfigError) as caught:
        load_config(text, "f.toml")
    return str(caught.value)


def test_the_contracts_example_is_read() -> None:
    config = load_config(CONTRACT)
    array = config.arrays[0]
    assert config.gateway == Gateway("gw1")
    assert config.sites[0].subnets == (ip_network("10.11.0.0/24"), ip_network("10.12.0.0/24"))
    assert (array.addresses, array.affinity_timeout) == ((ip_address("10.11.0.100"),), 10800)
    assert [service.name for service in array.services] == ["epm", "rpc", "ab", "https", "app"]
    assert array.services[-1] == Service("app", 8081, "web", ProbeKind.HTTP)
    assert config.members(array) == config.servers


@pytest.mark.parametrize("text", ["", "# nothing\n", "[gateway]\n"])
def test_nothing_at_all_is_a_gateway_with_all_defaults(text: str) -> None:
    assert load_config(text, hostname="gw7") == Config(Gateway("gw7"), (), (), ())


def test_every_field_can_be_reached_from_the_file() -> None:
    for table in TABLES:
        reachable = {key.target for key in table.keys} | (
            {"services", "health"} if table.header == "[[array]]" else set()
        )
        assert {f.name for f in fields(table.kind)} <= reachable, table.header


def test_every_key_takes_its_own_example_and_its_default() -> None:
    for table in TABLES:
        for key in table.keys:
            default = "" if key.default else table.default_of(key)  # those given by hand may be words
            for written in filter(None, (key.example, default)):
                report = Report()
                value = key.read(tomllib.loads(f"key = {written}")["key"], ("key",), report)
                assert (value is None, report.problems) == (False, []), (key.name, written)


def test_all_values_arrive() -> None:
    text = """\
[gateway]
mode = "userspace"
return_path = "masquerade"
source_addresses = ["10.12.0.240", "2001:db8::240"]
interface = "none"
metrics = ""
[[site]]
name = "Köln Süd"
[[array]]
name = "Köln"
fqdn = "cas.example"
site = "Köln Süd"
addresses = ["10.11.0.100", "2001:db8::100"]
profile = "msrpc"
affinity_timeout = "1h30m"
affinity_prefix4 = 24
affinity_prefix6 = 64
seed = 0xffffffff
slots = 65537
panic = "refuse"
pinhole_timeout = "90s"
unreadable_mapper = "dynamic-range"
dynamic_ports = "6005-65534"
mapper_timeout = "2.5s"
mapper_connections_per_client = 8
[array.health]
interval = "500ms"
timeout = "250ms"
rise = 3
fall = 1
slow_start = "0s"
hold = "1m"
[[server]]
name = "cas1"
site = "Köln Süd"
address = ["10.12.0.21", "2001:db8::21"]
weight = 7
roles = ["client-access", "mailbox"]
"""
    config = load_config(text, hostname="h")
    array, server = config.arrays[0], config.servers[0]
    assert config.gateway == Gateway(
        "h",
        Mode.USERSPACE,
        ReturnPath.MASQUERADE,
        (ip_address("10.12.0.240"), ip_address("2001:db8::240")),
        interface="none",
        metrics="",
    )
    assert (array.affinity_timeout, array.affinity_prefix4, array.affinity_prefix6) == (5400, 24, 64)
    assert (array.seed, array.slots, array.panic, array.pinhole_timeout) == (0xFFFFFFFF, 65537, "refuse", 90)
    assert (array.unreadable_mapper, array.dynamic_ports) == ("dynamic-range", (6005, 65534))
    assert (array.mapper_timeout, array.mapper_connections_per_client) == (2.5, 8)
    assert array.health == HealthPolicy(0.5, 0.25, 3, 1, 0.0, 60.0)
    assert (server.weight, server.roles, len(server.addresses)) == (7, ("client-access", "mailbox"), 2)


def in_array(line: str) -> str:
    """The small configuration with one more line in its array, which is line 9."""
    return f"{SMALL}{line}\n"


def in_service(line: str) -> str:
    """... with a service `x` on port 99, of which ``line`` is line 12."""
    return f'{SMALL}[[array.service]]\nname = "x"\nport = 99\n{line}\n'


def in_server(line: str) -> str:
    """... with a server of which ``line`` is line 12."""
    return f'{SMALL}[[server]]\nname = "cas1"\nsite = "P"\n{line}\n'


ADDRESS = 'write an address like "10.11.0.100" or "2001:db8::100"'
NAME = 'write a name of 1 to 64 characters, like "cas1", without quotes, slashes and outer blanks'
DURATION = 'write a number with its unit (ms, s, m, h, d), like "500ms", "10m" or "3h"'
INTERFACE = 'write its UUID and version, like "a4f1db00-ca47-1067-b31f-00dd010662da/0.81"'

REFUSALS = {
    "not TOML": ("[gateway]\nname =", 'f.toml:2: not TOML: invalid value; a line is: key = "value"'),
    "a key twice": ("a = 1\na = 2", 'f.toml:2: not TOML: cannot overwrite a value; a line is: key = "value"'),
    "unknown table": ("[gatway]", 'f.toml:1: gatway: unknown key; did you mean "gateway"?'),
    "unknown key": ('[gateway]\nmoed = "x"', 'f.toml:2: gateway.moed: unknown key; did you mean "mode"?'),
    "far from any key": (
        "[[site]]\nname = 'P'\nzzz = 1",
        "f.toml:3: site[0].zzz: unknown key; known here: name, subnets",
    ),
    "key of another table": (
        in_array("weight = 1"),
        "f.toml:9: array[0].weight: unknown key; it belongs under [[server]]",
    ),
    "unknown with odd letters": (
        '"a b\\n" = 1',
        'f.toml:1: "a b?": unknown key; known here: gateway, directory, api, kerberos, site, array, server, referral, '
        "retired, autodiscover, rpc-http",
    ),
    "a table instead of a list": (
        "[server]",
        "f.toml:1: server: a table is not a list of tables; write [[server]] with two brackets, once for each",
    ),
    "a list instead of a table": (
        "[[gateway]]",
        "f.toml:1: gateway: a list is not a table; write [gateway] on a line of its own, once",
    ),
    "a value instead of a table": (
        in_array("health = 3"),
        "f.toml:9: array[0].health: 3 is not a table; write [array.health] on a line of its own, once",
    ),
    "missing key": (
        "[[site]]",
        'f.toml:1: site[0]: name is missing; write name = "Paderborn"',
    ),
    "wrong type": (
        "[gateway]\nname = 5",
        'f.toml:2: gateway.name: 5 is not a string; write a name of 1 to 64 characters, like "cas1"',
    ),
    "a name with a slash": ('[gateway]\nname = "a/b"', f'f.toml:2: gateway.name: "a/b" cannot be a name; {NAME}'),
    "an empty name": ('[gateway]\nname = ""', f'f.toml:2: gateway.name: "" cannot be a name; {NAME}'),
    "mode": (
        '[gateway]\nmode = "fast"',
        'f.toml:2: gateway.mode: "fast" is not known here; write one of "kernel", "userspace", "auto"',
    ),
    "pool without masquerade": (
        '[gateway]\nsource_addresses = ["10.0.0.1"]',
        'f.toml:2: gateway.source_addresses: has no meaning with return_path "routed"; '
        'set return_path = "masquerade", or leave source_addresses out',
    ),
    "interface": (
        '[gateway]\ninterface = "a very long name"',
        'f.toml:2: gateway.interface: "a very long name" cannot be an interface; '
        'write "auto", "none" or the name of an interface, like "eth0"',
    ),
    "relative state": (
        '[gateway]\nstate = "here"',
        'f.toml:2: gateway.state: "here" is not a full path; write a full path like "/var/lib/casarray"',
    ),
    "long socket": (
        f'[gateway]\ncontrol = "/{"x" * 107}"',
        f'f.toml:2: gateway.control: "/{"x" * 56}..." is too long; '
        "write a path of at most 107 bytes: the kernel takes no longer one for a socket",
    ),
    "metrics without port": (
        '[gateway]\nmetrics = "127.0.0.1"',
        'f.toml:2: gateway.metrics: "127.0.0.1" is not an address with a port; '
        'write an address and a port, like "127.0.0.1:9135" or "[::1]:9135", or "" for none',
    ),
    "subnet with host bits": (
        '[[site]]\nname = "P"\nsubnets = ["10.0.0.1/8"]',
        'f.toml:3: site[0].subnets[0]: "10.0.0.1/8" is not written as a subnet; write "10.0.0.0/8"',
    ),
    "no subnet": (
        '[[site]]\nname = "P"\nsubnets = ["10.0.0.0/8",\n "x"]',
        'f.toml:4: site[0].subnets[1]: "x" is not a subnet; write a subnet like "10.11.0.0/24" or "2001:db8:11::/64"',
    ),
    "subnet of two sites": (
        '[[site]]\nname = "P"\nsubnets = ["10.0.0.0/8"]\n[[site]]\nname = "Q"\nsubnets = ["10.0.0.0/8"]',
        'f.toml:6: site[1].subnets[0]: 10.0.0.0/8 belongs to the site "P" already; '
        "a subnet belongs to one site: take it out of one of them",
    ),
    "short fqdn": (
        SMALL.replace("cas.domain.tld", "cas"),
        'f.toml:5: array[0].fqdn: "cas" has no domain; write a full host name like "cas.domain.tld"',
    ),
    "fqdn with a dot at its end": (
        SMALL.replace("cas.domain.tld", "cas.domain.tld."),
        'f.toml:5: array[0].fqdn: "cas.domain.tld." is not a host name; '
        'write it without the dot at its end: "cas.domain.tld"',
    ),
    "address for fqdn": (
        SMALL.replace("cas.domain.tld", "10.0.0.1"),
        'f.toml:5: array[0].fqdn: "10.0.0.1" is an address, not a name; write a full host name like "cas.domain.tld"',
    ),
    "no such address": (
        SMALL.replace("10.11.0.100", "10.11.0.300"),
        f'f.toml:7: array[0].addresses[0]: "10.11.0.300" is not an IP address; {ADDRESS}',
    ),
    "multicast": (
        SMALL.replace("10.11.0.100", "224.0.0.1"),
        f'f.toml:7: array[0].addresses[0]: "224.0.0.1" is not the address of one host; {ADDRESS}',
    ),
    "link-local": (
        SMALL.replace("10.11.0.100", "fe80::1"),
        f'f.toml:7: array[0].addresses[0]: "fe80::1" holds on one link only; {ADDRESS}',
    ),
    "IPv4 in IPv6": (
        SMALL.replace("10.11.0.100", "::ffff:10.0.0.1"),
        f'f.toml:7: array[0].addresses[0]: "::ffff:10.0.0.1" is 10.0.0.1 in disguise; {ADDRESS}',
    ),
    "array without addresses": (
        SMALL.replace('"10.11.0.100"', ""),
        'f.toml:7: array[0].addresses: there are no elements; write a list of addresses, like ["10.11.0.100"]',
    ),
    "addresses as a string": (
        SMALL.replace('["10.11.0.100"]', '"10.11.0.100"'),
        'f.toml:7: array[0].addresses: "10.11.0.100" is not a list; write a list of addresses, like ["10.11.0.100"]',
    ),
    "an address twice in a list": (
        SMALL.replace('"10.11.0.100"', '"10.11.0.100", "10.11.0.100"'),
        'f.toml:7: array[0].addresses[1]: "10.11.0.100" stands there twice; write it once',
    ),
    "unknown profile": (
        SMALL.replace("msrpc", "exchange2010"),
        'f.toml:8: array[0].profile: there is no profile "exchange2010"; did you mean "exchange-2010"?',
    ),
    "no services": (
        SMALL.replace('profile = "msrpc"\n', ""),
        'f.toml:3: array[0]: the array has no services; set profile to one of "exchange-2010", "exchange-2013", '
        '"msrpc", "mail", "web", or add [[array.service]]',
    ),
    "without what is not there": (
        in_array('without = ["epm", "https"]'),
        'f.toml:9: array[0].without[1]: the profile has no service "https"; leave it out: it has epm',
    ),
    "a number as duration": (
        in_array("affinity_timeout = 3"),
        f"f.toml:9: array[0].affinity_timeout: 3 is not a duration; {DURATION}",
    ),
    "a duration without unit": (
        in_array('affinity_timeout = "3"'),
        f'f.toml:9: array[0].affinity_timeout: "3" is not a duration; {DURATION}',
    ),
    "half a second of affinity": (
        in_array('affinity_timeout = "1500ms"'),
        'f.toml:9: array[0].affinity_timeout: "1500ms" is not a whole number of seconds; '
        'write whole seconds, like "90s"',
    ),
    "too long": (
        in_array('affinity_timeout = "31d"'),
        'f.toml:9: array[0].affinity_timeout: "31d" is out of range; write a duration from 1s to 30d',
    ),
    "prefix": (
        in_array("affinity_prefix4 = 33"),
        "f.toml:9: array[0].affinity_prefix4: 33 is out of range; write a number from 8 to 32",
    ),
    "slots": (
        in_array("slots = true"),
        "f.toml:9: array[0].slots: true is not a whole number; write a number from 64 to 65537, without quotes",
    ),
    "a seed of many digits": (
        in_array(f"seed = 0x{'f' * 5000}"),
        "f.toml:9: array[0].seed: a very large number is out of range; write a number from 0 to 4294967295",
    ),
    "dynamic ports": (
        in_array('dynamic_ports = "2000-1000"'),
        'f.toml:9: array[0].dynamic_ports: "2000-1000" is not a range of ports; '
        'write the first and the last port, like "1024-65535": both from 1 to 65535, the smaller first',
    ),
    "health": (
        in_array("[array.health]\nrise = 0"),
        "f.toml:10: array[0].health.rise: 0 is out of range; write a number from 1 to 100",
    ),
    "port": (
        in_service("").replace("99", "70000"),
        "f.toml:11: array[0].service[0].port: 70000 is out of range; write a number from 1 to 65535",
    ),
    "group": (
        in_service('group = "Web"'),
        'f.toml:12: array[0].service[0].group: "Web" cannot be the name of a group; '
        'write small letters, digits and _, at most 15, a letter first, like "rpc" or "web_internal"',
    ),
    "required": (
        in_service('required = "yes"'),
        'f.toml:12: array[0].service[0].required: "yes" is neither true nor false; write true or false, without quotes',
    ),
    "path of a TCP probe": (
        in_service('path = "/x"'),
        'f.toml:12: array[0].service[0].path: has no meaning with probe "tcp"; '
        'set probe = "http" or "https", or leave path out',
    ),
    "path": (
        in_service('probe = "http"\npath = "owa"'),
        'f.toml:13: array[0].service[0].path: "owa" is not a path; write a path like "/owa/healthcheck.htm"',
    ),
    "interface of an RPC service": (
        in_service('probe = "rpc"\ninterfaces = ["x"]'),
        f'f.toml:13: array[0].service[0].interfaces[0]: "x" is not an RPC interface; {INTERFACE}',
    ),
    "interfaces of a TCP probe": (
        in_service(f'interfaces = ["{RFR}"]'),
        'f.toml:12: array[0].service[0].interfaces: has no meaning with probe "tcp"; '
        'set probe = "rpc", or leave interfaces out',
    ),
    "a service without port": (
        f'{SMALL}[[array.service]]\nname = "x"\n',
        'f.toml:9: array[0].service[0]: service "x" has no port; '
        'set port, or, for an RPC service on a dynamic port, probe = "rpc" and interfaces',
    ),
    "a dynamic port without mapper": (
        SMALL.replace('profile = "msrpc"', f'[[array.service]]\nname = "x"\ninterfaces = ["{RFR}"]'),
        'f.toml:8: array[0].service[0]: service "x" has a dynamic port, and its group "x" has no mapper; '
        'add the profile "msrpc", or set port',
    ),
    "mapper twice": (
        in_service("mapper = true"),
        "f.toml:12: array[0].service[0].mapper: a second endpoint mapper; "
        'leave mapper out here: "epm" is the array\'s one',
    ),
    "service twice": (
        in_service('[[array.service]]\nname = "x"\nport = 100'),
        'f.toml:13: array[0].service[1].name: "x" is already the name of another service; choose another name',
    ),
    "port of another group": (
        in_service('[[array.service]]\nname = "y"\nport = 99'),
        'f.toml:14: array[0].service[1].port: port 99 serves both "x" and "y"; '
        "choose another port, or the same group for both",
    ),
    "site twice, capitals or not": (
        '[[site]]\nname = "P"\n[[site]]\nname = "p"',
        'f.toml:4: site[1].name: "p" is already the name of a site (site[0]); choose another name',
    ),
    "server twice": (
        in_server('address = "10.0.0.1"\n[[server]]\nname = "CAS1"\nsite = "P"\naddress = "10.0.0.2"'),
        'f.toml:14: server[1].name: "CAS1" is already the name of a server (server[0]); choose another name',
    ),
    "unknown site": (
        in_server('address = "10.0.0.1"').replace('"cas1"\nsite = "P"', '"cas1"\nsite = "Q"'),
        'f.toml:11: server[0].site: there is no site "Q"; write one of "P", or add it as [[site]]',
    ),
    "misspelt site": (
        '[[site]]\nname = "Paderborn"\n[[server]]\nname = "s"\nsite = "Paderbron"\naddress = "10.0.0.1"',
        'f.toml:5: server[0].site: there is no site "Paderbron"; did you mean "Paderborn"?',
    ),
    "no sites at all": (
        '[[server]]\nname = "s"\nsite = "P"\naddress = "10.0.0.1"',
        'f.toml:3: server[0].site: there is no site "P"; add [[site]] with name = "P"',
    ),
    "second array of a site": (
        f'{SMALL}[[array]]\nname = "B"\nfqdn = "b.c"\nsite = "P"\naddresses = ["10.0.0.9"]\nprofile = "web"\n',
        'f.toml:12: array[1].site: the site "P" has the array "CAS" (array[0]) already; '
        "a site has one array: write another site, or make one array of both",
    ),
    "server without address": (
        in_server(""),
        'f.toml:9: server[0]: address is missing; write address = ["10.12.0.21", "2001:db8:12::21"]',
    ),
    "server with the array's address": (
        in_server('address = "10.11.0.100"'),
        'f.toml:12: server[0].address: 10.11.0.100 belongs to the array "CAS" already; '
        "write an address that nothing else has",
    ),
    "server without the array's family": (
        in_server('address = "fd00::21"'),
        'f.toml:12: server[0].address: "cas1" has no IPv4 address, and its array "CAS" has 10.11.0.100; '
        "add the server's IPv4 address: a list holds both",
    ),
    "two addresses of one family": (
        in_server('address = ["10.0.0.1", "10.0.0.2"]'),
        "f.toml:12: server[0].address: two addresses are IPv4; write one address, or one of each family",
    ),
    "weight": (
        in_server('address = "10.0.0.1"\nweight = 0'),
        "f.toml:13: server[0].weight: 0 is out of range; write a number from 1 to 10000",
    ),
    "roles": (
        in_server('address = "10.0.0.1"\nroles = ["client"]'),
        'f.toml:13: server[0].roles[0]: "client" is not known here; write one of "client-access", "mailbox"',
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_wrong_is_refused_with_its_line_its_key_and_what_would_be_right(name: str) -> None:
    text, said = REFUSALS[name]
    assert refused(text) == said


@pytest.mark.parametrize("name", ["cas", "CAS", "cas_shield", "cas shield2"])
def test_array_names_that_would_share_a_kernel_table_are_refused(name: str) -> None:
    text = (
        f'{SMALL}[[site]]\nname = "Q"\n[[array]]\nname = "{name}"\nfqdn = "b.c"\nsite = "Q"\n'
        'addresses = ["10.0.0.9"]\nprofile = "web"\n'
    )
    assert refused(text) == (
        f'f.toml:12: array[1].name: "{name}" is already the name of an array, or too close to one (array[0]); '
        "choose another name"
    )


def test_two_arrays_cannot_have_one_host_name() -> None:
    text = (
        f'{SMALL}[[site]]\nname = "Q"\n[[array]]\nname = "B"\nfqdn = "CAS.domain.tld"\nsite = "Q"\n'
        'addresses = ["10.0.0.9"]\nprofile = "web"\n'
    )
    assert refused(text) == (
        'f.toml:13: array[1].fqdn: "CAS.domain.tld" is already the name of an array\'s host name (array[0]); '
        "choose another fqdn"
    )


def test_all_problems_are_named_at_once_in_the_order_of_the_file() -> None:
    text = f'[gateway]\nmode = "x"\n{SMALL.replace("10.11.0.100", "y")}[[server]]\nweight = 0\n'
    lines = [line.split(":")[1] for line in refused(text).splitlines()]
    assert lines == ["2", "9", "11", "11", "11", "12"]


def test_of_many_problems_the_first_twenty_are_shown() -> None:
    said = refused("".join(f"key{n} = 1\n" for n in range(25))).splitlines()
    assert len(said) == MOST_PROBLEMS + 1
    assert said[-1] == "... and 5 more"


def test_more_groups_than_the_kernels_mark_has_room_for_are_refused() -> None:
    services = "".join(f'[[array.service]]\nname = "s{n}"\nport = {n + 1000}\n' for n in range(15))
    assert refused(SMALL + services) == (
        "f.toml:3: array[0]: there are 16 affinity groups, and at most 15 can be; "
        "give services that belong together the same group"
    )


@pytest.mark.parametrize("text", ["x=" + "[" * 100_000, "x=" + "{a=" * 100_000])
def test_absurd_nesting_is_refused_and_not_followed(text: str) -> None:
    assert refused(text) == "f.toml: this is nested too deeply; no key here needs a list in a list"


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    assert refused(f"x = {'9' * 5000}") == (
        'f.toml: not TOML: a number with thousands of digits; a line is: key = "value"'
    )


def test_the_environment_overrides_the_gateways_keys() -> None:
    environment = {
        "CASARRAY_GATEWAY_MODE": "userspace",
        "CASARRAY_GATEWAY_RETURN_PATH": "masquerade",
        "CASARRAY_GATEWAY_SOURCE_ADDRESSES": "10.0.0.1, 10.0.0.2",
        "HOME": "/root",
    }
    gateway = load_config(CONTRACT, environment=environment).gateway
    assert (gateway.mode, gateway.name) == (Mode.USERSPACE, "gw1")
    assert gateway.source_addresses == (ip_address("10.0.0.1"), ip_address("10.0.0.2"))


def test_a_wrong_variable_is_named() -> None:
    examined = examine("", "f.toml", environment={"CASARRAY_GATEWAY_MODE": "x", "CASARRAY_GATEWAY_MOOD": "y"})
    assert [str(problem) for problem in examined.problems] == [
        'CASARRAY_GATEWAY_MODE: gateway.mode: "x" is not known here; write one of "kernel", "userspace", "auto"',
        'CASARRAY_GATEWAY_MOOD: gateway.mood: unknown key; did you mean "mode"?',
    ]


def test_a_service_with_a_profiles_name_changes_only_the_given_keys() -> None:
    text = SMALL.replace("msrpc", "exchange-2010") + '[[array.service]]\nname = "rpc"\nport = 59531\n'
    rpc = next(s for s in load_config(text).arrays[0].services if s.name == "rpc")
    assert rpc == Service("rpc", 59531, "rpc", ProbeKind.RPC, interfaces=(EMSMDB,))


def test_another_probe_leaves_the_profiles_interfaces_behind() -> None:
    text = SMALL.replace("msrpc", "exchange-2010") + '[[array.service]]\nname = "rpc"\nprobe = "tcp"\n'
    rpc = next(s for s in load_config(text).arrays[0].services if s.name == "rpc")
    assert (rpc.probe, rpc.interfaces) == (ProbeKind.TCP, ())


def test_a_well_known_service_needs_only_its_name() -> None:
    array = load_config(in_array('[[array.service]]\nname = "imaps"')).arrays[0]
    assert array.services[-1] == Service("imaps", 993, "imaps", ProbeKind.IMAP)


def test_an_rpc_service_on_a_dynamic_port_joins_the_mappers_group() -> None:
    array = load_config(in_array(f'[[array.service]]\nname = "drsuapi"\ninterfaces = ["{NSPI}"]')).arrays[0]
    assert array.services[-1] == Service("drsuapi", None, "rpc", ProbeKind.RPC, interfaces=(NSPI,))


def test_services_of_the_profile_can_be_left_out() -> None:
    text = SMALL.replace("msrpc", "exchange-2010") + 'without = ["https"]\n'
    assert {s.group for s in load_config(text).arrays[0].services} == {"rpc"}


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_makes_an_array_without_remarks_of_its_own(name: str) -> None:
    server = '[[server]]\nname = "{0}"\nsite = "P"\naddress = "10.12.0.{0}"\n'
    text = SMALL.replace("msrpc", name) + server.format(1) + server.format(2)
    config = load_config(text)
    assert advise(config) == ()
    groups = {s.group for s in config.arrays[0].services}
    for group in groups:
        assert any(s.required for s in config.arrays[0].services if s.group == group)


def test_exchange_2010_keeps_rpc_apart_from_the_web() -> None:
    services = {s.name: s for s in PROFILES["exchange-2010"].services}
    assert {name for name, s in services.items() if s.group == "rpc"} == {"epm", "rpc", "ab"}
    assert (services["epm"].mapper, services["rpc"].port, services["ab"].port) == (True, 5001, 5000)
    assert services["https"].group == "web"


def test_advice_names_what_is_allowed_and_hardly_meant() -> None:
    text = (
        in_server('address = "10.0.0.1"').replace('name = "P"', 'name = "P"\nsubnets = ["10.9.0.0/16"]')
        + '[[site]]\nname = "Q"\n[[server]]\nname = "lost"\nsite = "Q"\naddress = "10.0.0.2"\n'
    )
    assert advise(load_config(text)) == (
        "array CAS has one server only: when it is down, nobody serves",
        "array CAS: 10.11.0.100 is in no subnet of the site P, so clients may think it elsewhere",
        "server lost is in no array: its site Q has none",
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3h", 10800), ("500ms", 0.5), ("1h30m", 5400), ("0s", 0), ("0.3s", 0.3), ("1.5h", 5400), ("2d", 172800)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "h", "3 h", "-3s", "3w", "1e3s", "٣s", ".5s", "3s\n", "s3"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert seconds_of(text) is None


@given(st.integers(0, 10**10))
def test_a_duration_that_was_written_is_read_again(milliseconds: int) -> None:
    assert seconds_of(duration_text(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


def ends_well(text: str, environment: dict[str, str] | None = None) -> None:
    """A configuration or its problems, whatever the text; nothing else."""
    examined = examine(text, environment=environment)
    assert (examined.config is None) == bool(examined.problems)
    assert all(problem.what and problem.right for problem in examined.problems)
    # What is shown on a terminal must not be able to command it.
    assert all(str(problem).isprintable() for problem in examined.problems)


@given(st.text())
@settings(max_examples=300)
def test_any_text_ends_in_a_configuration_or_a_config_error(text: str) -> None:
    ends_well(text)


WORDS = sorted({key.name for table in TABLES for key in table.keys} | {"array", "server", "site", "gateway", "service"})
VALUES = st.one_of(
    st.sampled_from(sorted({key.example for table in TABLES for key in table.keys})),
    st.sampled_from(
        ["1", "-1", "1.5", "nan", "true", '""', "[]", "{}", "[[1]]", "1979-05-27", "0xffffffffffffffffffff"]
    ),
    st.text(st.characters(codec="utf-8"), max_size=8).map(lambda t: "'" + t.replace("'", "") + "'"),
)
LINES = st.one_of(
    st.sampled_from([table.header for table in TABLES]),
    st.sampled_from(WORDS).map(lambda word: f"[{word}]"),
    st.tuples(st.sampled_from(WORDS), VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}"),
)


@given(st.lists(LINES, max_size=25))
@settings(max_examples=500)
def test_any_mixture_of_our_own_words_ends_in_a_configuration_or_a_config_error(lines: list[str]) -> None:
    ends_well("\n".join(lines))


@given(st.sampled_from(sorted(CONTRACT.splitlines())), st.text(max_size=12), st.integers(0, 40))
@settings(max_examples=300)
def test_any_line_of_a_right_file_broken_anywhere_ends_well(line: str, noise: str, at: int) -> None:
    ends_well(CONTRACT.replace(line, line[:at] + noise + line[at:]))


@given(st.sampled_from(["MODE", "CONTROL", "INTERFACE", "METRICS", "NAME", "STATE", "X"]), st.text())
def test_any_variable_ends_well(key: str, value: str) -> None:
    ends_well("", {f"CASARRAY_GATEWAY_{key}": value})


def test_a_variable_that_is_not_unicode_ends_well() -> None:
    for key in ("CONTROL", "INTERFACE", "STATE", "NAME", "METRICS"):
        ends_well("", {f"CASARRAY_GATEWAY_{key}": "/\udcff"})


def test_wishes_are_the_contracts_words() -> None:
    assert [str(wish) for wish in Wish] == ["active", "drain", "standby", "out"]


def test_a_directory_that_is_served_instead_of_the_file_is_pointed_out() -> None:
    text = '[directory]\nstore = ["ldap://dc1.domain.tld", "ldap://dc2.domain.tld"]\n'
    (note,) = advise(load_config(text))
    assert "the gateway serves what the directory ldap://dc1.domain.tld ldap://dc2.domain.tld holds" in note


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('store = ["embedded", "ldap://dc1.tld"]', "several stores"),
        ('store = "ldaps://dc1.tld"\nbind = "simple"', "simple needs a user"),
        (
            'store = "ldap://dc1.tld"\nbind = "simple"\nuser = "u"\npassword_file = "/etc/p"',
            "simple would send the password in clear",
        ),
        ('store = "ldap://u:p@dc1.tld"', '"ldap://u:p@dc1.tld" is no place for a directory'),
        ('store = "postgres://x"', "is no place for a directory"),
        ('store = "embedded"\ninterval = "1ms"', "interval"),
        ('store = "embedded"\nprofil = "web"', 'did you mean "profile"?'),
        ('store = "embedded"\nprofile = "wep"', 'there is no profile "wep"; did you mean "web"?'),
    ],
)
def test_a_directory_that_cannot_be_right_is_refused(lines: str, said: str) -> None:
    assert said in refused(f"[directory]\n{lines}\n")
