"""The keys of `[rpc-http]`: the RPC proxy."""

from casarray.core import config
from casarray.core import config_values as read
from casarray.core.config import Backend
from casarray.core.config_table import Key, Table

RPC_HTTP = Table(
    "[rpc-http]",
    config.RpcHttpSettings,
    "The RPC proxy: RPC over HTTP (Outlook Anywhere) for clients, RPC over TCP towards the members. The gateway runs "
    "it when it has an address to listen on; `casarray rpc-proxy run` runs it alone. See "
    "[RPC over HTTP](rpc-over-http.md).",
    (
        Key(
            "listen",
            read.read_endpoint,
            "Where clients reach it. Empty: nowhere.",
            '"10.11.0.5:443"',
        ),
        Key(
            "certificate",
            read.read_file_path,
            "The certificate to show, with those between it and its root, as PEM. Required except on loopback.",
            '"/etc/casarray/mail.pem"',
            default="none",
        ),
        Key(
            "key",
            read.read_file_path,
            "Its private key, as PEM without a password.",
            '"/etc/casarray/mail.key"',
            default="none",
        ),
        Key(
            "arrays",
            read.list_of(read.read_name, 'write a list of names of arrays, like ["CAS"]', at_most=256),
            "The arrays that may be reached. Empty: all.",
            '["CAS"]',
        ),
        Key(
            "server_names",
            read.read_boolean,
            "A client may name a member instead of its array, and gets that one.",
            "false",
        ),
        Key(
            "keytab",
            read.read_file_path,
            "The keytab with the keys of `http/NAME`: clients then have to show a ticket (Negotiate). Without one "
            "nobody is asked at HTTP; the servers ask all the same.",
            '"/etc/casarray/http.keytab"',
            default="none",
        ),
        Key(
            "backend",
            read.choice(Backend),
            "What it speaks to the members: `tcp`, RPC over TCP on the port that their endpoint mapper tells; `http`, "
            "RPC over HTTP on 6001, 6002 and 6004, as the proxy of IIS does.",
            '"http"',
        ),
        Key(
            "connections_per_client",
            read.integer(1, 65535),
            "More HTTP connections of one address are refused; each RPC connection takes two.",
            "2000",
        ),
        Key(
            "timeout",
            read.duration(120, 14400),
            "A client that says nothing so long is disconnected; clients send pings in half that time.",
            '"15m"',
        ),
    ),
)
