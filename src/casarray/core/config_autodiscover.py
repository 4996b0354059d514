"""The keys of `[autodiscover]`: what tells clients where their mailbox is."""

from casarray.core import config_values as read
from casarray.core.config import AutodiscoverSettings, Proof
from casarray.core.config_table import Key, Table
from casarray.core.config_values import Report, show
from casarray.core.profiles import AUTODISCOVER_PATH as AT
from casarray.core.toml_lines import Path


def redirect_of(text: str) -> tuple[str, str] | None:
    """``ADDRESS = ADDRESS`` or ``ADDRESS = https://...`` as the address and where it is sent; else None."""
    address, mark, goal = (part.strip() for part in text.partition("="))
    if not mark or not _is_address(address):
        return None
    if goal.casefold().startswith("https://") and len(goal) > len("https://") and goal.isprintable():
        return (address, goal)
    return (address, goal) if _is_address(goal) else None


def _is_address(text: str) -> bool:
    name, _, domain = text.rpartition("@")
    return bool(name and domain) and text.isprintable() and " " not in text and len(text) <= 320


def read_redirect(value: object, path: Path, report: Report) -> str | None:
    """See `redirect_of`."""
    if isinstance(value, str) and redirect_of(value) is not None:
        return value
    right = 'write "old@domain.tld = new@other.tld", or an https:// URL after the ='
    report.wrong(path, f"{show(value)} is no redirect", right)
    return None


def read_url(value: object, path: Path, report: Report) -> str | None:
    """An https URL that ends in the path of Autodiscover."""
    if isinstance(value, str) and value.isascii() and value.isprintable() and " " not in value:
        host, mark, rest = value.removeprefix("https://").partition("/")
        if value.startswith("https://") and host and mark and f"/{rest}".casefold() == AT:
            return value
    report.wrong(path, f"{show(value)} is no URL of Autodiscover", f'write "https://autodiscover.domain.tld{AT}"')
    return None


AUTODISCOVER = Table(
    "[autodiscover]",
    AutodiscoverSettings,
    "Tells clients the names of the array and of the web server: by the gateway, or `casarray autodiscover run`. See "
    "[Autodiscover](autodiscover.md).",
    (
        Key(
            "listen",
            read.read_endpoint,
            "Where clients ask over HTTPS. Empty: nowhere. It needs a directory with mailboxes (`directory.store`).",
            '"10.11.0.101:443"',
        ),
        Key(
            "certificate",
            read.read_file_path,
            "The certificate to show, with those between it and its root, as PEM; it has the name in `url`. Required "
            "with `listen`.",
            '"/etc/casarray/autodiscover.pem"',
            default="none",
        ),
        Key(
            "key",
            read.read_file_path,
            "Its private key, as PEM without a password. Required with `listen`.",
            '"/etc/casarray/autodiscover.key"',
            default="none",
        ),
        Key(
            "redirect_listen",
            read.read_endpoint,
            "Where clients are sent on to `url` over plain HTTP, without a logon. Empty: nowhere.",
            '"10.11.0.101:80"',
        ),
        Key(
            "url",
            read_url,
            "The URL that clients are told, the same for all gateways and servers: in redirects, and in the service "
            "connection point in Active Directory.",
            f'"https://autodiscover.domain.tld{AT}"',
            default="none",
        ),
        Key(
            "authentication",
            read.one_or_list_of(read.choice(Proof), 'write "kerberos", "basic", both in a list, or "none"', at_most=2),
            "How clients prove who they are: `kerberos` (Negotiate), `basic` (the password is tried at the KDC), or "
            "`none`: then everybody who can connect may ask about every mailbox.",
            '["kerberos", "basic"]',
            default='"kerberos"',
        ),
        Key(
            "keytab",
            read.read_file_path,
            "The keytab with the key of `http/` and the name in `url`. Required unless `authentication` is `none`.",
            '"/etc/casarray/autodiscover.keytab"',
            default="none",
        ),
        Key(
            "realm",
            read.read_text,
            "With `basic`: the Kerberos realm of users who give no other.",
            '"DOMAIN.TLD"',
            default="the usual one of this host",
        ),
        Key(
            "redirects",
            read.list_of(read_redirect, 'write a list like ["old@domain.tld = new@other.tld"]', at_most=10000),
            "Addresses whose mailbox is elsewhere, and the address or URL where their clients ask on.",
            '["alice@old.tld = alice@domain.tld", "bob@old.tld = https://autodiscover.other.tld' + AT + '"]',
        ),
        Key(
            "deployment_id",
            read.read_text,
            "A GUID of the organisation that clients keep.",
            '"5b9bd3a4-7d3f-4c0e-9a6e-2a7a2f2f7a10"',
            default="worked out of the organisation's name",
        ),
        Key(
            "anywhere_authentication",
            read.one_of(("Basic", "Ntlm", "Negotiate")),
            "How clients are told to log on to RPC over HTTP.",
            '"Negotiate"',
        ),
        Key(
            "owa_authentication",
            read.read_text,
            "How clients are told that users log on to Outlook on the web.",
            '"Basic, Fba"',
        ),
    ),
)
