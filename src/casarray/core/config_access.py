"""The keys of `[api]` and `[kerberos]`: who may change things, and by what members prove that they are the array."""

from casarray.core import config
from casarray.core import config_values as read
from casarray.core.config_table import Key, Table
from casarray.core.kerberos.encryption import WORDS

_DAY = 86400.0

API = Table(
    "[api]",
    config.ApiSettings,
    "The REST API on a TCP address. On the control socket it is always there.",
    (
        Key(
            "listen",
            read.read_endpoint,
            "Where the REST API is served, over TLS and to whoever has the token. Empty: on the control socket alone.",
            '"10.11.0.5:8443"',
        ),
        Key(
            "certificate",
            read.read_file_path,
            "The certificate to show, with those between it and its root, as PEM. Required with `listen`.",
            '"/etc/casarray/api.pem"',
            default="none",
        ),
        Key(
            "key",
            read.read_file_path,
            "Its private key, as PEM without a password. Required with `listen`.",
            '"/etc/casarray/api.key"',
            default="none",
        ),
        Key(
            "token_file",
            read.read_file_path,
            "A file whose one line is the token, mode 0600 or 0640. Required with `listen`.",
            '"/etc/casarray/api.token"',
            default="none",
        ),
    ),
)

KERBEROS = Table(
    "[kerberos]",
    config.KerberosSettings,
    "The shared account: what members read tickets for the array's names with. See [Kerberos](kerberos.md).",
    (
        Key(
            "account",
            read.read_text,
            "The account of all arrays that have no `service_account` of their own. Computer accounts end with $.",
            '"casarray-asa$"',
            default="none",
        ),
        Key(
            "realm",
            read.one_or_list_of(
                read.read_realm, 'write "ldap://dc1.domain.tld", or "kadmin:REALM" for an MIT realm', at_most=16
            ),
            "Where the account lives: domain controllers of Active Directory, or an MIT realm by its kadmin.",
            '["ldap://dc1.domain.tld"]',
            default="`directory.store`, if that is Active Directory",
        ),
        Key(
            "encryption",
            read.list_of(read.one_of(WORDS), 'write a list like ["aes256", "aes128"]', at_least=1),
            "The encryption types of its keys. With `rc4` it is the 28 of Exchange's guides.",
            '["aes256", "aes128", "rc4"]',
        ),
        Key("short_names", read.read_boolean, "Also the array's name without its domain, which some want.", "true"),
        Key(
            "lifetime",
            read.duration(60, 7 * _DAY),
            "So long a service ticket lives at most in this realm: keys are not rolled twice within it.",
            '"10h"',
        ),
        Key("agent_port", read.read_port, "Where the members' agents listen.", "7135"),
        Key(
            "principal",
            read.read_text,
            "Who rolls, names and asks the agents. Empty: the keytab's or cache's first.",
            '"casarray-admin@DOMAIN.TLD"',
        ),
        Key("keytab", read.read_file_path, "The keytab with its key.", '"/etc/casarray/admin.keytab"', default="none"),
        Key("ccache", read.read_text, "A credentials cache that somebody else keeps fresh.", '"FILE:/run/krb5cc"'),
    ),
)
