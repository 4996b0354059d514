"""One connection to a domain controller: found, dialled, bound, and its errors in our own words.

The library is python-ldap (libldap with Cyrus SASL). It is given a socket of ours for ``ldap://``, so that names,
time-outs and the order of domain controllers are ours; ``ldaps://`` it dials itself. Kerberos connections are signed
and sealed. The server's name is never turned back from its address for the service ticket (as ``LDAPSASL_NOCANON`` says
to OpenLDAP's tools): sites without reverse zones work.
"""

import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import ldap
from ldap.controls import RequestControl, SimplePagedResultsControl

from casarray.adapters.stores.ldap_names import ConnectionLost, Names
from casarray.core.config import Bind, DirectorySettings
from casarray.core.directory.active_directory import Entry, Partitions, child, kind_of
from casarray.core.errors import ConfigError, Conflict, Denied, MovedOn, Unavailable

PAGE = 1000  # what domain controllers give at most at once, unless somebody changed their policy
REFERENCE_INVALID = "000020B5:"  # [MS-ERREF] ERROR_DS_NAME_REFERENCE_INVALID, as servers put it before their text
WRONG_CLOCK = ("Clock skew too great", "Ticket not yet valid")  # what libkrb5 says of it
SHOW_DELETED = "1.2.840.113556.1.4.417"
OCTETS = {"msExchMailboxGuid"}  # GUIDs besides the object's own: 16 octets each
SCOPES = {"base": ldap.SCOPE_BASE, "one": ldap.SCOPE_ONELEVEL, "sub": ldap.SCOPE_SUBTREE}

_environment = threading.Lock()  # Kerberos takes its cache from the process's environment


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """The library's errors as ours; ``doing`` completes "Active Directory does not let us ..."."""
    try:
        yield
    except (ldap.SERVER_DOWN, ldap.TIMEOUT, ldap.CONNECT_ERROR, ldap.BUSY, ldap.UNAVAILABLE) as error:
        raise ConnectionLost(_text(error)) from error
    except (ldap.NO_SUCH_ATTRIBUTE, ldap.TYPE_OR_VALUE_EXISTS, ldap.ALREADY_EXISTS, ldap.NO_SUCH_OBJECT) as error:
        raise MovedOn(
            f"somebody else changed it meanwhile ({_text(error)}, {doing}); look at it again and repeat"
        ) from error
    except (ldap.INSUFFICIENT_ACCESS, ldap.STRONG_AUTH_REQUIRED, ldap.INAPPROPRIATE_AUTH) as error:
        raise Denied(f"Active Directory does not let us {doing}: {_text(error)}") from error
    except ldap.NOT_ALLOWED_ON_NONLEAF as error:
        raise Conflict(f"Active Directory does not let us {doing}: there are other objects below it") from error
    except (
        ldap.CONSTRAINT_VIOLATION,
        ldap.OBJECT_CLASS_VIOLATION,
        ldap.NAMING_VIOLATION,
        ldap.INVALID_DN_SYNTAX,
        ldap.INVALID_SYNTAX,
        ldap.UNWILLING_TO_PERFORM,
        ldap.UNDEFINED_TYPE,
    ) as error:
        if REFERENCE_INVALID in _text(error):
            raise MovedOn(f"what it refers to is gone meanwhile ({doing}); look at it again and repeat") from error
        raise Conflict(f"Active Directory refuses to {doing}: {_text(error)}") from error
    except ldap.LDAPError as error:
        raise Unavailable(f"Active Directory failed to {doing}: {_text(error)}") from error


def _text(error: Exception) -> str:
    """What libldap and the server say of it, in one line."""
    found: Any = error.args[0] if error.args else ""
    if not isinstance(found, dict):
        return str(found) or type(error).__name__
    parts = [str(found.get(name, "")).strip(" \t\r\n\0") for name in ("desc", "info")]
    return " ".join("; ".join(part for part in parts if part).split())


class Connection:
    """Bound and ready. Searches decode what they find into entries."""

    def __init__(self, handle: Any, host: str, who: str, seconds: float) -> None:
        self._handle = handle
        self.host = host
        self.who = who
        self._seconds = seconds
        self.referrals: set[str] = set()  # where the controller sent us and we did not go
        root = self._root("*", "configurationNamingContext")
        self.partitions = Partitions(
            root["defaultNamingContext"],
            root["configurationNamingContext"],
            root["schemaNamingContext"],
            root["rootDomainNamingContext"],
        )
        self.identity = self._identity(root.get("dsServiceName", ""))
        self.sees_deleted = all(
            self._sees(child("Deleted Objects", partition))
            for partition in (self.partitions.configuration, self.partitions.domain)
        )

    def _root(self, *attributes: str) -> dict[str, str]:
        found = list(self.rows("", "base", "(objectClass=*)", attributes))
        if not found or ("*" in attributes and "defaultNamingContext" not in found[0][1]):
            raise Unavailable(f"{self.host} is no domain controller of Active Directory")
        return {name: values[0].decode("utf-8", "replace") for name, values in found[0][1].items()}

    def _identity(self, service: str) -> str:
        """Which database this is: update numbers mean something within one alone; a restored one is another."""
        with suppress(MovedOn, Denied):
            for _, values in self.rows(service, "base", "(objectClass=*)", ("invocationId",)):
                if "invocationId" in values:
                    return str(UUID(bytes_le=values["invocationId"][0]))
        return service

    def _sees(self, container: str) -> bool:
        with suppress(MovedOn, Denied):
            return bool(list(self.rows(container, "base", "(objectClass=*)", ("1.1",), deleted=True)))
        return False

    def highest_usn(self) -> int:
        """The number of the latest update of this domain controller's database."""
        return int(self._root("highestCommittedUSN")["highestCommittedUSN"])

    def rows(
        self, base: str, scope: str, what: str, attributes: Sequence[str], *, deleted: bool = False
    ) -> Iterator[tuple[str, dict[str, list[bytes]]]]:
        """What a search finds, page by page."""
        page = SimplePagedResultsControl(True, size=PAGE, cookie="")
        controls = [] if scope == "base" else [page]
        if deleted:
            controls.append(RequestControl(SHOW_DELETED, True, None))
        while True:
            with translated(f"search {base or 'its root'}"):
                number = self._handle.search_ext(
                    base, SCOPES[scope], what, list(attributes), serverctrls=controls, timeout=self._seconds
                )
                _, rows, _, answered = self._handle.result3(number, all=1, timeout=self._seconds)
            for dn, values in rows:
                if dn is None:
                    self.referrals |= set(values)
                else:
                    yield dn, values
            cookies = [c.cookie for c in answered if c.controlType == SimplePagedResultsControl.controlType]
            if not cookies or not cookies[0]:
                return
            page.cookie = cookies[0]

    def entries(self, base: str, scope: str, what: str, attributes: Sequence[str]) -> Iterator[Entry]:
        """What a search finds, as entries."""
        known: dict[tuple[bytes, ...], tuple[str, ...]] = {}  # thousands of entries have the same few lists of classes
        for dn, values in self.rows(base, scope, what, attributes):
            raw = tuple(values.pop("objectClass", ()))
            classes = known.setdefault(raw, tuple(name.decode() for name in raw))
            guid = values.pop("objectGUID", None)
            if guid is None:
                continue  # it may be seen and not read
            for name in OCTETS & values.keys():
                values[name] = [str(UUID(bytes_le=octets)).encode() for octets in values[name] if len(octets) == 16]
            read = {name: tuple(v.decode("utf-8", "replace") for v in found) for name, found in values.items()}
            yield Entry(dn, str(UUID(bytes_le=guid[0])), kind_of(classes, dn), classes, read)

    def guids(self, base: str, scope: str, what: str, *, deleted: bool = False) -> Iterator[str]:
        """The GUIDs of what a search finds."""
        for _, values in self.rows(base, scope, what, ("objectGUID",), deleted=deleted):
            if "objectGUID" in values:
                yield str(UUID(bytes_le=values["objectGUID"][0]))

    def add(self, dn: str, values: Mapping[str, Sequence[str | bytes]]) -> None:
        """Make an object."""
        with translated(f"create {dn}"):
            self._wait(self._handle.add_ext(dn, [(name, _octets(found)) for name, found in values.items()]))

    def modify(self, dn: str, edits: Sequence[tuple[str, Sequence[str], Sequence[str]]]) -> None:
        """Change attributes: of each, these values go and those come; all of it or nothing."""
        changes = []
        for name, gone, come in edits:
            changes += [(ldap.MOD_DELETE, name, _octets(gone))] if gone else []
            changes += [(ldap.MOD_ADD, name, _octets(come))] if come else []
        with translated(f"change {', '.join(name for name, _, _ in edits)} of {dn}"):
            self._wait(self._handle.modify_ext(dn, changes))

    def replace(self, dn: str, values: Mapping[str, Sequence[str | bytes]]) -> None:
        """Give attributes these values, whatever they had; none takes the attribute away."""
        changes = [(ldap.MOD_REPLACE, name, _octets(found) or None) for name, found in values.items()]
        with translated(f"change {', '.join(values)} of {dn}"):
            self._wait(self._handle.modify_ext(dn, changes))

    def rename(self, dn: str, rdn: str) -> None:
        """Give an object another name where it stands."""
        with translated(f"rename {dn}"):
            self._wait(self._handle.rename(dn, rdn, None, 1))

    def delete(self, dn: str) -> None:
        """Delete an object."""
        with translated(f"delete {dn}"):
            self._wait(self._handle.delete_ext(dn))

    def _wait(self, number: int) -> None:
        self._handle.result3(number, all=1, timeout=self._seconds)

    def close(self) -> None:
        """Say goodbye, if there is still somebody to say it to."""
        with suppress(ldap.LDAPError):
            self._handle.unbind_ext()


def _octets(values: Sequence[str | bytes]) -> list[bytes]:
    return [value.encode() if isinstance(value, str) else value for value in values]


@dataclass(frozen=True, slots=True)
class Keys:
    """Where the configuration says these things, for whoever has to correct them."""

    urls: str = "directory.store"
    keytab: str = "directory.keytab"


class Connector:
    """Finds a domain controller that answers, of those that were named, and goes on to the next one when it must."""

    def __init__(
        self, urls: Sequence[str], settings: DirectorySettings, names: Names | None = None, keys: Keys = Keys()
    ) -> None:
        self._targets = [_target(url, keys.urls) for url in urls]
        self._keys = keys
        self._settings = settings
        self._names = names or Names()
        self._candidates = list(self._targets)
        self._next = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._check()

    def _check(self) -> None:
        settings = self._settings
        encrypted = settings.starttls or all(scheme == "ldaps" for scheme, _, _ in self._targets)
        if settings.bind is Bind.GSSAPI and (settings.starttls or any(s == "ldaps" for s, _, _ in self._targets)):
            raise ConfigError(
                f'directory.bind = "gssapi" signs and seals by itself, and domain controllers refuse it inside TLS: '
                f'write ldap:// in {self._keys.urls} and leave out starttls, or log on with bind = "simple"'
            )
        if settings.bind is Bind.SIMPLE:
            if not encrypted:
                raise ConfigError(
                    'directory.bind = "simple" would send the password in the clear: write ldaps:// in '
                    f"{self._keys.urls}, or set starttls = true"
                )
            if not settings.user or not settings.password_file:
                raise ConfigError('directory.bind = "simple" needs directory.user and directory.password_file')

    def connect(self) -> Connection:
        """The first domain controller that answers. `Unavailable` names what was wrong with each; `Denied` ends it."""
        reasons: dict[str, str] = {}
        left = len(self._candidates)
        while left:
            scheme, host, port = self._candidates[self._next % len(self._candidates)]
            try:
                return self._open(scheme, host, port)
            except Unavailable as error:
                reasons[host] = str(error)
                self._next += 1
                left -= 1
            if not left and (found := self._more()):
                self._candidates += found
                self._next, left = len(self._candidates) - len(found), len(found)
        raise Unavailable(f"no domain controller answers ({'; '.join(f'{h}: {why}' for h, why in reasons.items())})")

    @property
    def tries(self) -> int:
        """How many times it makes sense to connect anew."""
        return max(2, len(self._candidates))

    def give_up(self) -> None:
        """The one that was used last failed: begin with another the next time."""
        self._next += 1

    def close(self) -> None:
        """Forget the tickets."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _more(self) -> list[tuple[str, str, int]]:
        """Whom DNS has for those that are domains. Asked only when nobody answers: it takes its time."""
        found: dict[tuple[str, str, int], None] = {}
        for scheme, host, port in self._targets:
            if "." in host and ":" not in host and not host.replace(".", "").isdigit():
                hosts = self._names.controllers(host, min(3.0, self._settings.timeout))
                found |= dict.fromkeys((scheme, name, port) for name in hosts)
        return [candidate for candidate in found if candidate not in self._candidates]

    def _open(self, scheme: str, host: str, port: int) -> Connection:
        settings = self._settings
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        with translated(f"connect to {host}"):
            if scheme == "ldaps":
                handle = ldap.initialize(url)
            else:
                handle = ldap.initialize(url, fileno=self._dial(host, port).detach())
            try:
                self._prepare(handle)
                self._encrypt(handle, scheme, host)
                self._bind(handle, host)
                return Connection(handle, host, self._who(), settings.timeout)
            except BaseException:
                with suppress(ldap.LDAPError):
                    handle.unbind_ext()
                raise

    def _encrypt(self, handle: Any, scheme: str, host: str) -> None:
        """Shake hands over TLS, where that is wanted. libldap does not say what it did not like of a certificate."""
        try:
            if self._settings.starttls:
                handle.start_tls_s()
            elif scheme == "ldaps":
                handle.search_ext_s("", ldap.SCOPE_BASE, attrlist=["1.1"])  # it dials when it is first asked
        except (ldap.CONNECT_ERROR, ldap.SERVER_DOWN) as error:
            vouch = f"the certificates in {self._settings.ca}" if self._settings.ca else "a certificate the host trusts"
            raise ConnectionLost(
                f"there is no TLS connection to it ({_text(error)}): it cannot be reached, or its certificate is "
                f"not vouched for by {vouch} (directory.ca), or is not for the name {host}"
            ) from error

    def _dial(self, host: str, port: int) -> socket.socket:
        reasons = []
        for address in self._names.addresses(host):
            try:
                link = socket.create_connection((address, port), timeout=self._settings.timeout)
            except OSError as error:
                reasons.append(f"{address}: {error}")
                continue
            link.settimeout(None)  # libldap waits by itself
            link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._settings.timeout * 1000))
            return link
        raise ConnectionLost("; ".join(reasons) or "it has no address")

    def _prepare(self, handle: Any) -> None:
        settings = self._settings
        handle.set_option(ldap.OPT_PROTOCOL_VERSION, 3)
        handle.set_option(ldap.OPT_REFERRALS, 0)  # they would be followed without logging on
        handle.set_option(ldap.OPT_NETWORK_TIMEOUT, settings.timeout)
        handle.set_option(ldap.OPT_TIMEOUT, settings.timeout)
        if settings.bind is Bind.GSSAPI:
            handle.set_option(ldap.OPT_X_SASL_NOCANON, 1)
            handle.set_option(ldap.OPT_X_SASL_SSF_MIN, 56)  # encrypted, whatever the domain controller would allow
        else:
            handle.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
            if settings.ca:
                if not os.access(settings.ca, os.R_OK):
                    raise ConfigError(f"directory.ca: the file {settings.ca} cannot be read")
                handle.set_option(ldap.OPT_X_TLS_CACERTFILE, settings.ca)
            handle.set_option(ldap.OPT_X_TLS_NEWCTX, 0)

    def _who(self) -> str:
        settings = self._settings
        return settings.user or settings.principal or "the account of this Kerberos ticket"

    def _bind(self, handle: Any, host: str) -> None:
        settings = self._settings
        try:
            if settings.bind is Bind.SIMPLE:
                handle.simple_bind_s(settings.user, password_of(settings.password_file))
                return
            with _kerberos(self._tickets()):
                handle.sasl_non_interactive_bind_s("GSSAPI")
        except ldap.INVALID_CREDENTIALS as error:
            raise Denied(
                f"{host} does not believe {self._who()}: the password is wrong, or the account is locked or disabled"
            ) from error
        except ldap.AUTH_UNKNOWN as error:
            raise Denied(
                "Kerberos needs the Debian package libsasl2-modules-gssapi-mit: install it, or use bind = \"simple\""
            ) from error  # fmt: skip
        except ldap.LOCAL_ERROR as error:
            text = _text(error)
            if "Cannot contact any KDC" in text or "not found in Kerberos database" in text:
                raise ConnectionLost(text) from error  # the name is no domain controller's: a domain's, perhaps
            if any(sign in text for sign in WRONG_CLOCK):
                raise Denied(
                    f"{host} does not take our ticket, because its clock and ours differ by more than the five minutes "
                    f"that Kerberos bears ({text.rpartition('(')[2].rstrip(')')}): let NTP set both"
                ) from error
            raise Denied(
                f"logging on to {host} with Kerberos failed ({text}): set keytab and principal under [directory] (or "
                f"[kerberos], for the shared account), or get a ticket with kinit"
            ) from error

    def _tickets(self) -> str:
        """The credentials cache to use; empty: the environment's."""
        settings = self._settings
        if not settings.keytab:
            return settings.ccache
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="casarray-krb5-")
        cache = settings.ccache or f"FILE:{self._folder.name}/ccache"
        principal = settings.principal or self._first_of_keytab()
        self._kerberos_tool("kinit", "-k", "-t", settings.keytab, "-c", cache, principal)
        return cache

    def _first_of_keytab(self) -> str:
        lines = self._kerberos_tool("klist", "-k", self._settings.keytab).splitlines()
        rows = [line.split() for line in lines if line.split()[:1] and line.split()[0].isdigit()]
        if not rows:
            raise Denied(f"{self._keys.keytab}: there is no key in {self._settings.keytab}")
        return rows[0][1]

    def _kerberos_tool(self, *command: str) -> str:
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
                timeout=self._settings.timeout * 3, env=os.environ | {"LC_ALL": "C"},
            )  # fmt: skip
        except FileNotFoundError as error:
            raise Denied(f"the program {command[0]} is missing, and a keytab needs it: install krb5-user") from error
        except subprocess.TimeoutExpired as error:
            raise ConnectionLost(f"{command[0]}: no KDC answers") from error
        if done.returncode != 0:
            text = done.stderr.strip()
            if "Cannot contact any KDC" in text or "Cannot find KDC" in text:
                raise ConnectionLost(text)
            raise Denied(f"{self._keys.keytab}: {text}")
        return done.stdout


@contextmanager
def _kerberos(cache: str) -> Iterator[None]:
    """With this credentials cache, which the library takes from the environment alone."""
    if not cache:
        yield
        return
    with _environment:
        before = os.environ.get("KRB5CCNAME")
        os.environ["KRB5CCNAME"] = cache
        try:
            yield
        finally:
            if before is None:
                del os.environ["KRB5CCNAME"]
            else:
                os.environ["KRB5CCNAME"] = before


def password_of(path: str) -> str:
    """The first line of a file that its owner alone, or a group, may read."""
    try:
        if Path(path).stat().st_mode & 0o007:
            raise ConfigError(f"directory.password_file: everybody may read {path}; chmod 600 {path}")
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"directory.password_file: {path} cannot be read: {error}") from error
    if not lines or not lines[0]:
        raise ConfigError(f"directory.password_file: the first line of {path} is empty; write the password there")
    return lines[0]


def _target(url: str, key: str) -> tuple[str, str, int]:
    """Scheme, host and port of an LDAP URL of that key; what else may stand in one means nothing here: refused."""
    scheme, mark, rest = url.partition("://")
    rest = rest.rstrip("/")
    right = "write ldap://DC, ldaps://DC, or ldap://DOMAIN for all controllers of a domain"
    odd = any(c in rest for c in "/?#,@ ") or rest.count("[") != rest.count("]")
    if not mark or scheme not in ("ldap", "ldaps") or not rest or odd:
        shown = "a URL with a user or password" if "@" in rest else f'"{url}"'
        raise ConfigError(f"{key}: {shown} is not understood; {right}")
    host, port = rest, ""
    if rest.startswith("["):
        host, _, port = rest[1:].partition("]")
        port = port.removeprefix(":")
    elif ":" in rest:
        host, _, port = rest.partition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f'{key}: "{url}" has no port that can be; {right}')
    return scheme, host, int(port) if port else 636 if scheme == "ldaps" else 389
