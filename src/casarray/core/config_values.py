"""Readers of single configuration values: what TOML gave in, a checked value out, or a problem in the report.

A reader takes the value, its path and the report; it returns None exactly when it has reported something. Every report
says what is wrong and what would be right.
"""

import re
from collections.abc import Callable, Collection
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any
from uuid import UUID

from casarray.core.forwarding.table import Address
from casarray.core.toml_lines import Path

LONGEST_NAME = 64  # as in the directory: an array's name has at most 64 characters
LONGEST_SOCKET_PATH = 107  # sockaddr_un.sun_path without its closing zero

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9.]+)(ms|s|m|h|d)")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_GROUP = re.compile(r"[a-z][a-z0-9_]{0,14}")
_SERVICE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_INTERFACE = re.compile(r"([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})/([0-9]{1,5})\.([0-9]{1,5})")
_RANGE = re.compile(r"([0-9]{1,5}) ?- ?([0-9]{1,5})")


class Report:
    """Collects what is wrong, so that an administrator sees all of it at once."""

    def __init__(self) -> None:
        self.problems: list[tuple[Path, str, str]] = []

    def wrong(self, path: Path, what: str, right: str) -> None:
        """At ``path`` stands ``what`` (a statement), and ``right`` (an instruction) would be right."""
        self.problems.append((path, what, right))


Reader = Callable[[object, Path, Report], Any]


def show(value: object) -> str:
    """A value from the file, short enough for a message, whatever it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        cut = value if len(value) <= 60 else f"{value[:57]}..."
        escaped = "".join(c if c.isprintable() else "?" for c in cut)
        return f'"{escaped}"'
    if isinstance(value, int):  # a hexadecimal one may be too long for str() to print
        return str(value) if abs(value) < 10**18 else "a very large number"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, list) else "a date or time"


def _text(value: object, path: Path, report: Report, right: str) -> str | None:
    if isinstance(value, str):
        return value
    report.wrong(path, f"{show(value)} is not a string", right)
    return None


def read_name(value: object, path: Path, report: Report) -> str | None:
    """A name that people give: 1 to 64 printable characters that also fit into a path, a label and a table's name."""
    right = 'write a name of 1 to 64 characters, like "cas1"'
    text = _text(value, path, report, right)
    if text is None:
        return None
    if (
        not text
        or len(text) > LONGEST_NAME
        or text != text.strip()
        or not text.isprintable()
        or set(text) & set("/\\\"'")
    ):
        report.wrong(path, f"{show(text)} cannot be a name", f"{right}, without quotes, slashes and outer blanks")
        return None
    return text


def _pattern(pattern: re.Pattern[str], kind: str, right: str) -> Reader:
    def read(value: object, path: Path, report: Report) -> str | None:
        text = _text(value, path, report, right)
        if text is None or pattern.fullmatch(text):
            return text
        report.wrong(path, f"{show(text)} cannot be the name of {kind}", right)
        return None

    return read


read_group = _pattern(
    _GROUP, "a group", 'write small letters, digits and _, at most 15, a letter first, like "rpc" or "web_internal"'
)
read_service_name = _pattern(
    _SERVICE, "a service", 'write small letters, digits, - and _, at most 32, like "https" or "smtp-relay"'
)


def read_boolean(value: object, path: Path, report: Report) -> bool | None:
    """true or false."""
    if isinstance(value, bool):
        return value
    report.wrong(path, f"{show(value)} is neither true nor false", "write true or false, without quotes")
    return None


def one_of(words: Collection[str]) -> Reader:
    """One of these words."""
    right = f"write one of {', '.join(show(str(word)) for word in words)}"

    def read(value: object, path: Path, report: Report) -> str | None:
        if isinstance(value, str) and value in words:
            return value
        report.wrong(path, f"{show(value)} is not known here", right)
        return None

    return read


def choice(kind: type[StrEnum]) -> Reader:
    """One of an enum's words."""
    read_word = one_of([str(word) for word in kind])

    def read(value: object, path: Path, report: Report) -> StrEnum | None:
        word = read_word(value, path, report)
        return None if word is None else kind(word)

    return read


def integer(first: int, last: int) -> Reader:
    """A whole number within bounds, the bounds included."""

    def read(value: object, path: Path, report: Report) -> int | None:
        right = f"write a number from {first} to {last}"
        if isinstance(value, bool) or not isinstance(value, int):
            report.wrong(path, f"{show(value)} is not a whole number", f"{right}, without quotes")
            return None
        if not first <= value <= last:
            report.wrong(path, f"{show(value)} is out of range", right)
            return None
        return value

    return read


read_port = integer(1, 65535)


def seconds_of(text: str) -> float | None:
    """``"1h30m"`` -> 5400.0; None for anything that is no duration. Units: ms, s, m, h, d."""
    if not _DURATION.fullmatch(text):
        return None
    # Summed in milliseconds: 0.3 s must not become 0.30000000000000004.
    total = sum(round(float(number) * _UNITS[unit] * 1000, 6) for number, unit in _DURATION_PART.findall(text))
    return float(total) / 1000


def duration_text(seconds: float) -> str:
    """5400.0 -> ``"1h30m"``, as `seconds_of` reads it."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def duration(first: float, last: float, *, whole: bool = False) -> Reader:
    """A duration within bounds, as seconds; ``whole`` ones are integers."""

    def read(value: object, path: Path, report: Report) -> float | None:
        right = 'write a number with its unit (ms, s, m, h, d), like "500ms", "10m" or "3h"'
        seconds = seconds_of(value) if isinstance(value, str) else None
        if seconds is None:
            report.wrong(path, f"{show(value)} is not a duration", right)
            return None
        if not first <= seconds <= last:
            limits = f"{duration_text(first)} to {duration_text(last)}"
            report.wrong(path, f"{show(value)} is out of range", f"write a duration from {limits}")
            return None
        if not whole:
            return seconds
        if seconds != int(seconds):
            report.wrong(path, f"{show(value)} is not a whole number of seconds", 'write whole seconds, like "90s"')
            return None
        return int(seconds)

    return read


def address_of(text: str) -> Address | str:
    """The address of a host, or in words why it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return "is not an IP address"
    if isinstance(address, IPv4Address):
        if address == IPv4Address("255.255.255.255"):
            return "is the broadcast address"
    elif address.scope_id is not None or address.is_link_local:
        return "holds on one link only"
    elif address.ipv4_mapped is not None:
        return f"is {address.ipv4_mapped} in disguise"
    if address.is_unspecified or address.is_multicast:
        return "is not the address of one host"
    return address


def read_address(value: object, path: Path, report: Report) -> Address | None:
    """The IPv4 or IPv6 address of one host."""
    right = 'write an address like "10.11.0.100" or "2001:db8::100"'
    text = _text(value, path, report, right)
    if text is None:
        return None
    address = address_of(text)
    if isinstance(address, str):
        report.wrong(path, f"{show(text)} {address}", right)
        return None
    return address


def read_network(value: object, path: Path, report: Report) -> IPv4Network | IPv6Network | None:
    """A subnet with its prefix length and no host bits."""
    right = 'write a subnet like "10.11.0.0/24" or "2001:db8:11::/64"'
    text = _text(value, path, report, right)
    if text is None:
        return None
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        report.wrong(path, f"{show(text)} is not a subnet", right)
        return None
    if "/" not in text or str(network) != text.lower():
        wanted = f'write "{network}"' if "/" in text else right
        report.wrong(path, f"{show(text)} is not written as a subnet", wanted)
        return None
    return network


def read_fqdn(value: object, path: Path, report: Report) -> str | None:
    """A fully qualified host name, without the dot at its end."""
    right = 'write a full host name like "cas.domain.tld"'
    text = _text(value, path, report, right)
    if text is None:
        return None
    labels = text.split(".")
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        if text.endswith(".") and len(text) > 1:
            right = f"write it without the dot at its end: {show(text.rstrip('.'))}"
        report.wrong(path, f"{show(text)} is not a host name", right)
    elif labels[-1].isdigit():
        report.wrong(path, f"{show(text)} is an address, not a name", right)
    elif len(labels) < 2:
        report.wrong(path, f"{show(text)} has no domain", right)
    else:
        return text
    return None


def read_port_range(value: object, path: Path, report: Report) -> tuple[int, int] | None:
    """``"1024-65535"`` -> (1024, 65535)."""
    right = 'write the first and the last port, like "1024-65535"'
    found = _RANGE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        report.wrong(path, f"{show(value)} is not a range of ports", right)
        return None
    first, last = int(found[1]), int(found[2])
    if not 1 <= first <= last <= 65535:
        report.wrong(
            path, f"{show(value)} is not a range of ports", f"{right}: both from 1 to 65535, the smaller first"
        )
        return None
    return first, last


def read_interface_id(value: object, path: Path, report: Report) -> str | None:
    """An RPC interface, ``uuid/major.minor``, in small letters."""
    right = 'write its UUID and version, like "a4f1db00-ca47-1067-b31f-00dd010662da/0.81"'
    found = _INTERFACE.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[2]) > 0xFFFF or int(found[3]) > 0xFFFF:
        report.wrong(path, f"{show(value)} is not an RPC interface", right)
        return None
    return f"{UUID(found[1])}/{int(found[2])}.{int(found[3])}"


def read_url_path(value: object, path: Path, report: Report) -> str | None:
    """The path and query of an HTTP request."""
    if (
        isinstance(value, str)
        and value.startswith("/")
        and value.isascii()
        and value.isprintable()
        and " " not in value
    ):
        return value
    report.wrong(path, f"{show(value)} is not a path", 'write a path like "/owa/healthcheck.htm"')
    return None


def read_endpoint(value: object, path: Path, report: Report) -> str | None:
    """``host:port`` to listen on, ``[v6]:port``, or nothing."""
    right = 'write an address and a port, like "127.0.0.1:9135" or "[::1]:9135", or "" for none'
    text = _text(value, path, report, right)
    if text is None or text == "":
        return text
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ip_address(bare)
        fits = (address.version == 6) == (bare != host)
    except ValueError:
        fits = bare == host and bare == "localhost"
    if not fits or not port.isascii() or not port.isdigit() or not 1 <= int(port[:6]) <= 65535:
        report.wrong(path, f"{show(text)} is not an address with a port", right)
        return None
    return text


_STORES = re.compile(r"file|embedded|memory:|sqlite:.+|ldaps?://[A-Za-z0-9_.\[\]:-]+/?")
_REALMS = re.compile(r"ldaps?://[A-Za-z0-9_.\[\]:-]+/?|kadmin:[A-Za-z0-9._-]{1,255}")


def read_store(value: object, path: Path, report: Report) -> str | None:
    """Where a directory lives. No user or password may hide in a URL."""
    right = 'write "file", "embedded", "sqlite:FOLDER", or LDAP URLs like "ldap://dc1.domain.tld"'
    text = _text(value, path, report, right)
    if text is None or _STORES.fullmatch(text):
        return text
    report.wrong(path, f"{show(text)} is no place for a directory", right)
    return None


def read_realm(value: object, path: Path, report: Report) -> str | None:
    """Where a shared account lives."""
    right = 'write "ldap://dc1.domain.tld", or "kadmin:REALM" for an MIT realm'
    text = _text(value, path, report, right)
    if text is None or _REALMS.fullmatch(text):
        return text
    report.wrong(path, f"{show(text)} is no place for a shared account", right)
    return None


def read_text(value: object, path: Path, report: Report) -> str | None:
    """Some text of one line."""
    text = _text(value, path, report, "write text in quotes")
    if text is None or (text.isprintable() and len(text) <= 1024):
        return text
    report.wrong(path, f"{show(text)} is not one line of text", "write at most 1024 printable characters")
    return None


def read_link(value: object, path: Path, report: Report) -> str | None:
    """The name of a network interface, "auto" or "none"."""
    right = 'write "auto", "none" or the name of an interface, like "eth0"'
    text = _text(value, path, report, right)
    if text is None:
        return None
    if not text.isprintable() or not 1 <= len(text.encode()) <= 15 or set(text) & set(" /:") or text in (".", ".."):
        report.wrong(path, f"{show(text)} cannot be an interface", right)
        return None
    return text


def read_file_path(value: object, path: Path, report: Report) -> str | None:
    """An absolute path."""
    right = 'write a full path like "/var/lib/casarray"'
    text = _text(value, path, report, right)
    if text is None:
        return None
    if not text.startswith("/") or not text.isprintable():
        report.wrong(path, f"{show(text)} is not a full path", right)
        return None
    return text


def read_socket_path(value: object, path: Path, report: Report) -> str | None:
    """An absolute path that is short enough for a socket."""
    text = read_file_path(value, path, report)
    if text is not None and len(text.encode()) > LONGEST_SOCKET_PATH:
        right = f"write a path of at most {LONGEST_SOCKET_PATH} bytes: the kernel takes no longer one for a socket"
        report.wrong(path, f"{show(text)} is too long", right)
        return None
    return text


def list_of(read_one: Reader, right: str, *, at_least: int = 0, at_most: int = 1024) -> Reader:
    """A list, each element read by ``read_one``; the same element twice is refused."""

    def read(value: object, path: Path, report: Report) -> tuple[Any, ...] | None:
        if not isinstance(value, list):
            report.wrong(path, f"{show(value)} is not a list", right)
            return None
        if not at_least <= len(value) <= at_most:
            report.wrong(path, f"there are {len(value) or 'no'} elements", right)
            return None
        seen: dict[Any, int] = {}
        for index, element in enumerate(value):
            one = read_one(element, (*path, index), report)
            if one is not None and one in seen:
                report.wrong((*path, index), f"{show(element)} stands there twice", "write it once")
            elif one is not None:
                seen[one] = index
        return tuple(seen) if len(seen) == len(value) else None

    return read


def one_or_list_of(read_one: Reader, right: str, *, at_most: int) -> Reader:
    """A single value, or a list of them; a tuple either way."""
    read_list = list_of(read_one, right, at_least=1, at_most=at_most)

    def read(value: object, path: Path, report: Report) -> tuple[Any, ...] | None:
        if isinstance(value, list):
            result: tuple[Any, ...] | None = read_list(value, path, report)
            return result
        one = read_one(value, path, report)
        return None if one is None else (one,)

    return read
