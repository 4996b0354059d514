"""The keys of `[referral]` and `[[retired]]`: what stands in for servers that are gone."""

from casarray.core import config
from casarray.core import config_values as read
from casarray.core.config import Anonymous
from casarray.core.config_table import Key, Table

REFERRAL = Table(
    "[referral]",
    config.ReferralSettings,
    "`casarray referral run`: leads clients that still come to a retired server to the array. See "
    "[Referral](referral.md).",
    (
        Key("mapper_port", read.read_port, "The port of its endpoint mapper; clients know no other than 135.", "135"),
        Key("book_port", read.read_port, "The port of its address book and referral service.", "5000"),
        Key("mailbox_port", read.read_port, "The port of its mailbox service, which opens no mailbox.", "5001"),
        Key(
            "keytab",
            read.read_file_path,
            "The keytab that tickets for the old names are read with. Without one nobody can authenticate.",
            '"/etc/casarray/referral.keytab"',
            default="none",
        ),
        Key(
            "anonymous",
            read.choice(Anonymous),
            "What somebody gets who does not authenticate: `nothing`; `referral`, where to go; `everything`, the "
            "address book too.",
            '"nothing"',
        ),
        Key(
            "encryption_required",
            read.read_boolean,
            "Mailbox sessions over encrypted connections alone, as most servers had it.",
            "true",
        ),
        Key(
            "state",
            read.read_file_path,
            "Folder in which it is kept who came. Empty: that of the gateway.",
            '"/var/lib/casarray-referral"',
            default="`gateway.state`",
        ),
        Key(
            "metrics",
            read.read_endpoint,
            "Where `/metrics` and `/healthz` of the referral are served. Empty: nowhere.",
            '"127.0.0.1:9136"',
        ),
        Key("idle_timeout", read.duration(1, 86400), "A client that is silent so long is disconnected.", '"10m"'),
        Key("connections_per_client", read.integer(1, 65535), "More connections of one client are refused.", "256"),
    ),
)

RETIRED = Table(
    "[[retired]]",
    config.Retired,
    "A server that is gone, whose name old profiles still have, and where the referral stands in for it.",
    (
        Key("name", read.read_fqdn, "Its full host name.", '"old1.domain.tld"', required=True),
        Key(
            "addresses",
            read.list_of(read.read_address, 'write a list of addresses, like ["10.11.0.50"]', at_least=1, at_most=16),
            "Where its name leads now. One address for each name tells in the report by which name a client came.",
            '["10.11.0.50"]',
            required=True,
        ),
        Key(
            "site",
            read.read_name,
            "The site it was in: clients of whom nothing is known are led to that site's array.",
            '"Paderborn"',
            default="as the directory has it, else the site of its address, else the only array there is",
        ),
    ),
)
