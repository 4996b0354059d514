"""Which thing is meant: -Identity as Exchange takes it, for every noun.

A thing may be named by its name, GUID, FQDN, ExchangeLegacyDN or distinguished name; Get- takes wildcards too. Unlike
Exchange, an identity that nothing has never stands for everything.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network

from casarray.core.directory import legacy_dn
from casarray.core.directory.lookup import accounts_with_address, databases_naming, with_fqdn
from casarray.core.directory.model import CLIENT_ACCESS, Account, Array, Database, Directory, Kind, Server, Thing, key
from casarray.core.directory.model import MAILBOX as MAILBOX_ROLE
from casarray.core.directory.rules import missing
from casarray.core.errors import Conflict, NotFound
from casarray.core.shell.cmdlet import Bound, Record


@dataclass(frozen=True, slots=True)
class Noun:
    """What a cmdlet is about."""

    name: str  # ClientAccessArray
    word: str  # client access array
    kind: Kind
    role: str = ""  # of servers: only those that have it


ARRAY = Noun("ClientAccessArray", "client access array", Kind.ARRAY)
SERVER = Noun("ExchangeServer", "server", Kind.SERVER)
CLIENT_ACCESS_SERVER = Noun("ClientAccessServer", "client access server", Kind.SERVER, CLIENT_ACCESS)
MAILBOX_SERVER = Noun("MailboxServer", "mailbox server", Kind.SERVER, MAILBOX_ROLE)
DATABASE = Noun("MailboxDatabase", "mailbox database", Kind.DATABASE)
GROUP = Noun("DatabaseAvailabilityGroup", "availability group", Kind.GROUP)
MAILBOX = Noun("Mailbox", "mailbox", Kind.ACCOUNT)
SITE = Noun("ADSite", "site", Kind.SITE)
SUBNET = Noun("ADSubnet", "subnet", Kind.SUBNET)
NOUNS = (ARRAY, SERVER, CLIENT_ACCESS_SERVER, MAILBOX_SERVER, DATABASE, GROUP, MAILBOX, SITE, SUBNET)
_KIND_OF_TYPE = {noun.name: noun.kind for noun in NOUNS} | {"RpcClientAccess": Kind.SERVER}

_GUID = re.compile(r"\{?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}?", re.IGNORECASE)
_WILDCARD = re.compile(r"[*?\[]")


def all_of(directory: Directory, noun: Noun) -> Iterator[Thing]:
    """Every thing of a noun."""
    for thing in directory.of(noun.kind).values():
        if _has_role(thing, noun):
            yield thing


def find(directory: Directory, noun: Noun, text: str) -> Thing:
    """The one thing that is meant. `NotFound` with the nearest names, `Conflict` if it may be several."""
    found = _exactly(directory, noun, text)
    if len(found) > 1:
        names = ", ".join(thing.name for thing in found[:5])
        raise Conflict(f'"{text}" matches several entries ({names}, ...): name the {noun.word} by its name or GUID')
    if not found:
        raise NotFound(_not_there(directory, noun, text))
    return found[0]


def find_server(directory: Directory, noun: Noun, text: str) -> Server:
    """A server that is meant."""
    server = find(directory, noun, text)
    assert isinstance(server, Server)
    return server


def matching(directory: Directory, noun: Noun, text: str) -> Iterator[Thing]:
    """Everything that is meant: by wildcards none is fine, otherwise there is at least one."""
    found = _exactly(directory, noun, text)
    if found:
        yield from found
    elif _WILDCARD.search(text):
        pattern = wildcard(text)
        yield from (thing for thing in all_of(directory, noun) if pattern.fullmatch(thing.name))
    else:
        raise NotFound(_not_there(directory, noun, text))


def has_wildcard(text: str) -> bool:
    """Whether a name may stand for several."""
    return _WILDCARD.search(text) is not None


def wildcard(text: str) -> re.Pattern[str]:
    """PowerShell's wildcards, whatever the capital letters: ``*``, ``?`` and ``[a-c]``."""
    parts = re.split(r"(\*|\?|\[[^\]]+\])", text)
    plain = {"*": ".*", "?": "."}
    told = [plain.get(part) or (_characters(part) if i % 2 else re.escape(part)) for i, part in enumerate(parts)]
    return re.compile("".join(told), re.IGNORECASE | re.DOTALL)


def _characters(part: str) -> str:
    inner = part[1:-1]
    ranges = [f"{re.escape(a)}-{re.escape(b)}" for a, b in re.findall(r"(.)-(.)", inner) if a <= b]
    single = re.escape(re.sub(r".-.", "", inner))
    return f"[{''.join(ranges)}{single}]" if ranges or single else "(?!)"


def identity(bound: Bound, noun: Noun, parameter: str = "Identity") -> str:
    """What -Identity says. `Conflict` for what Exchange does not take: nothing, a name with blanks, another object."""
    text = bound.text(parameter)
    piped = bound.input if isinstance(bound.input, Record) and text == _shown(bound.input) else None
    if not text.strip():
        # In Exchange this means every object there is: a trap that scripts with an empty variable fall into.
        raise Conflict(f"-{parameter} is empty: name a {noun.word}, or leave it out to get all of them")
    if piped is not None:
        kind = _KIND_OF_TYPE.get(piped.type_name)
        if kind is not None and kind is not noun.kind:
            raise Conflict(f"-{parameter} takes a {noun.name}; the {piped.type_name} {text} in the pipeline is none")
    elif noun is ARRAY:
        _refuse_blanks(text, parameter)
    return text


def piped_kind(bound: Bound) -> Kind | None:
    """The kind of the object that the pipeline brought."""
    return _KIND_OF_TYPE.get(bound.input.type_name) if isinstance(bound.input, Record) else None


def _shown(record: Record) -> str:
    return str(record)


def _refuse_blanks(text: str, parameter: str) -> None:
    full = text.startswith("/") or "=" in text
    if not full and not has_wildcard(text) and any(character.isspace() for character in text):
        raise Conflict(
            f'"{text}" cannot be used as -{parameter}: a client access array whose name has spaces is named by its '
            f"FQDN, GUID, ExchangeLegacyDN or distinguished name"
        )


def _exactly(directory: Directory, noun: Noun, text: str) -> list[Thing]:
    """What has this name, else this GUID, FQDN, ExchangeLegacyDN or distinguished name."""
    thing = directory.get(noun.kind, text)
    if thing is None and noun.kind is Kind.SUBNET:
        thing = directory.get(noun.kind, _network(text))
    if thing is not None:
        return [thing] if _has_role(thing, noun) else []
    found = _by_other(directory, noun, text)
    return [thing for thing in found if thing.KIND is noun.kind and _has_role(thing, noun)]


def _by_other(directory: Directory, noun: Noun, text: str) -> list[Thing]:
    if guid := _GUID.fullmatch(text):
        thing = _guids(directory).get(key(guid[1]))
        return [thing] if thing else []
    if text.startswith("/"):
        return _by_legacy_dn(directory, noun, text)
    if "=" in text:
        thing = directory.get(noun.kind, _first_name(text))
        known = distinguished_name(directory, thing) if thing else ""
        return [thing] if thing and _parts(known) == _parts(text) else []
    if noun.kind is Kind.ACCOUNT:
        return list(accounts_with_address(directory, text))
    return list(with_fqdn(directory, text))


@lru_cache(maxsize=2)
def _guids(directory: Directory) -> Mapping[str, Thing]:
    return {key(thing.guid): thing for thing in directory if thing.guid}


def _by_legacy_dn(directory: Directory, noun: Noun, text: str) -> list[Thing]:
    fqdn = legacy_dn.fqdn_of(directory, text)
    if noun.kind is Kind.ACCOUNT:
        return list(legacy_dn.accounts_with_legacy_dn(directory, text))
    if noun.kind is Kind.DATABASE:
        told = databases_naming(directory, fqdn)
        return [database for database in told if key(legacy_dn.of_database(directory, database)) == key(text)]
    return [thing for thing in with_fqdn(directory, fqdn) if key(legacy_dn.of_server(directory, thing)) == key(text)]


def _network(text: str) -> str:
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        return text


def _has_role(thing: Thing, noun: Noun) -> bool:
    return not noun.role or (isinstance(thing, Server) and noun.role in thing.roles)


def _not_there(directory: Directory, noun: Noun, text: str) -> str:
    if noun.role:
        others = _exactly(directory, SERVER, text)
        if others:
            return (
                f"the server {others[0].name} has no {noun.role} role, so it is no {noun.word}; "
                f"see Get-{SERVER.name} {others[0].name}"
            )
    return missing(noun.word, text, (thing.name for thing in all_of(directory, noun)))


# Distinguished names. The embedded directory belongs to no forest, so they end where the domain would begin.


_CONTAINERS = {
    Kind.ARRAY: "CN=Arrays",
    Kind.SERVER: "CN=Servers",
    Kind.DATABASE: "CN=Databases",
    Kind.GROUP: "CN=Database Availability Groups",
}


def distinguished_name(directory: Directory, thing: Thing) -> str:
    """Where Active Directory would have it, up to ``CN=Configuration``."""
    name = _escaped(thing.name)
    if thing.KIND is Kind.SITE:
        return f"CN={name},CN=Sites,CN=Configuration"
    if thing.KIND is Kind.SUBNET:
        return f"CN={name},CN=Subnets,CN=Sites,CN=Configuration"
    if thing.KIND is Kind.ACCOUNT:
        return f"CN={name},CN=Users"
    return f"CN={name},{_CONTAINERS[thing.KIND]},{_admin_group(directory)}"


def _admin_group(directory: Directory) -> str:
    return (
        f"CN={_escaped(directory.admin_group)},CN=Administrative Groups,CN={_escaped(directory.organization)},"
        f"CN=Microsoft Exchange,CN=Services,CN=Configuration"
    )


def _escaped(name: str) -> str:
    return re.sub(r'([,+"\\<>;=])', r"\\\1", name)


def _first_name(dn: str) -> str:
    parts = _parts(dn)
    return parts[0].partition("=")[2] if parts else ""


def _parts(dn: str) -> list[str]:
    """The parts of a DN, folded and without escapes; those of the domain are left out."""
    parts = [part.strip() for part in re.findall(r"(?:\\.|[^,\\])+", dn)]
    plain = [key(re.sub(r"\\(.)", r"\1", part)) for part in parts]
    return [re.sub(r"\s*=\s*", "=", part, count=1) for part in plain if not part.startswith("dc=")]


def legacy_name(directory: Directory, thing: Thing) -> str:
    """The ExchangeLegacyDN of what has one."""
    if isinstance(thing, Array | Server):
        return legacy_dn.of_server(directory, thing)
    if isinstance(thing, Account):
        return legacy_dn.of_account(directory, thing)
    return legacy_dn.of_database(directory, thing) if isinstance(thing, Database) else ""
