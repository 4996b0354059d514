"""The keytab: the file in which a service finds its keys.

Format 0x0502 as MIT krb5 and Heimdal write it, everything in network order: two octets of version, then records, each
behind its size. A negative size is a hole that a removed entry left; a size of zero ends the file. In a record:
the principal (count of components, realm, components, name type), a timestamp, the low eight bits of the key version,
the key, and, if four octets are left, the whole key version; what comes behind it is not looked at.

A reader of a keytab (an acceptor) looks for principal, key version and encryption type, so whoever shares keys writes
one entry for each name, each type and each generation. Keys are never shown: not by `repr`, not in errors.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from casarray.core.dcerpc.cursor import Reader, Writer
from casarray.core.errors import WireError
from casarray.core.kerberos.keys import Generation, Holding, Key

VERSION = 0x0502
LARGEST = 16 << 20  # octets: 50,000 entries and more
MOST_COMPONENTS = 16
LONGEST_KEY = 256  # octets; the longest in use has 32
NT_PRINCIPAL = 1  # RFC 4120 6.2; readers do not compare it

Identity = tuple[tuple[str, ...], str, int, int]


@dataclass(frozen=True, slots=True)
class KeytabEntry:
    """One key of one principal."""

    components: tuple[str, ...]  # ("http", "mail.domain.tld")
    realm: str
    name_type: int
    timestamp: int  # seconds since the epoch
    version: int
    enctype: int  # any, known to us or not
    key: bytes = field(repr=False)

    @property
    def principal(self) -> str:
        """``http/mail.domain.tld@REALM``."""
        return f"{'/'.join(self.components)}@{self.realm}"

    @property
    def identity(self) -> Identity:
        """What an acceptor looks for: two entries of one identity say the same, or the later one is right."""
        return (self.components, self.realm, self.version, self.enctype)


def read_keytab(data: bytes) -> tuple[KeytabEntry, ...]:
    """The entries, in the order of the file. Nothing is read into holes.

    `WireError`: ``version`` for anything but a keytab of this format, ``oversize``, ``truncated``, ``range``, ``text``.
    """
    if len(data) > LARGEST:
        raise WireError("oversize", f"a keytab of {len(data)} octets; at most {LARGEST} are read")
    reader = Reader(data, "big")
    if (version := reader.u16("keytab: version")) != VERSION:
        raise WireError("version", f"a keytab begins with {VERSION:#06x}, this begins with {version:#06x}")
    return tuple(_records(reader))


def write_keytab(entries: Iterable[KeytabEntry]) -> bytes:
    """The file. `WireError` (``range``, ``oversize``) for what no file can hold."""
    file = Writer("big")
    file.u16(VERSION)
    for entry in entries:
        record = _encode(entry)
        file.u32(len(record))
        file.octets(record)
        if len(file) > LARGEST:
            raise WireError("oversize", f"a keytab of more than {LARGEST} octets")
    return bytes(file)


def merge(kept: Iterable[KeytabEntry], new: Iterable[KeytabEntry]) -> tuple[KeytabEntry, ...]:
    """Both; where they say different things of one identity, ``new`` is right and stands in the place of the old."""
    found = {entry.identity: entry for entry in kept}
    found.update((entry.identity, entry) for entry in new)
    return tuple(found.values())


def without(entries: Iterable[KeytabEntry], principals: Iterable[str]) -> tuple[KeytabEntry, ...]:
    """The entries of all other principals (``http/mail.domain.tld@REALM``)."""
    gone = frozenset(principals)
    return tuple(entry for entry in entries if entry.principal not in gone)


def entries_of(holding: Holding) -> tuple[KeytabEntry, ...]:
    """What a member writes: every name x encryption type x generation, the pending one too, newest first.

    A key with a principal (of an MIT realm) is for that name only, as it is spelt. A key of an account is for all its
    names, and Active Directory does not mind capital letters, while acceptors do: so each name stands as clients
    spell it (`spellings`).
    """
    found: dict[Identity, KeytabEntry] = {}
    for generation in holding.generations:
        for key in generation.keys:
            for entry in _of(holding, generation, key):
                # A principal that was made anew counts its versions from 1 again: what is newer is right.
                found.setdefault(entry.identity, entry)
    return tuple(found.values())


def spellings(name: str) -> tuple[str, ...]:
    """How clients ask for the same service: as it is written, the host in small letters, web also as ``HTTP``."""
    service, slash, host = name.partition("/")
    services = ("http", "HTTP") if service.casefold() == "http" else (service,)
    found = [name, *(f"{one}{slash}{host.lower()}" for one in services)]
    return tuple(dict.fromkeys(found))


def _of(holding: Holding, generation: Generation, key: Key) -> Iterator[KeytabEntry]:
    names = [key.principal] if key.principal else [one for name in holding.names for one in spellings(name)]
    made = min(max(int(generation.made), 0), 0xFFFFFFFF)
    for name in names:
        components = tuple(name.split("/"))
        yield KeytabEntry(components, holding.realm, NT_PRINCIPAL, made, key.version, int(key.enctype), key.value)


def _records(reader: Reader) -> Iterator[KeytabEntry]:
    while reader.left:
        size = reader.u32("keytab: size of a record")
        if size == 0:
            return
        if size & 0x80000000:
            reader.take((1 << 32) - size, "keytab: hole")
            continue
        if size > reader.left:
            raise WireError("truncated", f"keytab: a record of {size} octets, {reader.left} left")
        end = reader.at + size
        yield _decode(Reader(reader.data, "big", reader.at, end))
        reader.at = end


def _decode(record: Reader) -> KeytabEntry:
    count = record.u16("keytab: count of components")
    if not 1 <= count <= MOST_COMPONENTS:
        raise WireError("range", f"keytab: a principal of {count} components")
    realm = _text(record, "keytab: realm")
    components = tuple(_text(record, "keytab: component") for _ in range(count))
    name_type = record.u32("keytab: name type")
    timestamp = record.u32("keytab: timestamp")
    version = record.u8("keytab: key version")
    enctype = record.u16("keytab: encryption type")
    length = record.u16("keytab: length of the key")
    if length > LONGEST_KEY:
        raise WireError("range", f"keytab: a key of {length} octets")
    key = record.take(length, "keytab: key")
    if record.left >= 4:
        # Zeros fill up a record that was put into a larger hole.
        version = record.u32("keytab: key version") or version
    return KeytabEntry(components, realm, name_type, timestamp, version, enctype, key)


def _text(record: Reader, what: str) -> str:
    octets = record.take(record.u16(f"{what}: length"), what)
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WireError("text", f"{what}: not UTF-8") from error


def _encode(entry: KeytabEntry) -> bytes:
    if not 1 <= len(entry.components) <= MOST_COMPONENTS:
        raise WireError("range", f"a principal of {len(entry.components)} components")
    if len(entry.key) > LONGEST_KEY:
        raise WireError("range", f"a key of {len(entry.key)} octets")
    record = Writer("big")
    record.u16(len(entry.components))
    for text in (entry.realm, *entry.components):
        octets = text.encode("utf-8")
        record.u16(len(octets))
        record.octets(octets)
    record.u32(entry.name_type)
    record.u32(entry.timestamp)
    record.u8(entry.version & 0xFF)
    record.u16(entry.enctype)
    record.u16(len(entry.key))
    record.octets(entry.key)
    record.u32(entry.version)
    return bytes(record)
