"""What the kernel has under the array's name: which chains and maps, and whether the rules are still the ones we put.

Rules are not parsed. After each change the kernel's own account of them (chains, expressions, map definitions; nothing
that counts or ages) is hashed, and the hash kept in the table. Whoever reads later hashes again: any rule that somebody
added, changed or flushed shows, whoever it was and whether or not we were running.
"""

import hashlib
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from casarray.adapters.kernel import elements
from casarray.adapters.kernel.nfnetlink import Channel, Interrupted, Kind, Message, Refused, attributes, string, text
from casarray.core.errors import Unavailable, WireError
from casarray.core.forwarding import nft
from casarray.core.forwarding.table import Group, Table

_ATTEMPTS = 20
_TABLE_NAME, _TABLE_FLAGS = 1, 2
_CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE, _CHAIN_FLAGS = 3, 4, 5, 7, 10
_RULE_CHAIN, _RULE_EXPRESSIONS = 2, 4
_SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_KEY_LEN, _SET_DATA_TYPE, _SET_DATA_LEN, _SET_COUNT = 2, 3, 4, 5, 6, 7, 20
_OBJ_NAME, _OBJ_TYPE, _OBJ_DATA = 2, 3, 4
_COUNTER, _COUNTER_PACKETS = 1, 2
_ANONYMOUS, _INTERVAL, _MAP, _TIMEOUT, _EVAL = 0x1, 0x4, 0x8, 0x10, 0x20
_ENOENT = 2


@dataclass(frozen=True, slots=True)
class Inventory:
    """The names in a table, how many rules each chain has, and a hash of everything that must not change."""

    present: nft.Present
    rules: Mapping[str, int]
    digest: str


def listed(channel: Channel, message: Message) -> list[bytes]:
    """A dump, again while the tables change under it. An empty one if what was asked for is not there."""
    for _ in range(_ATTEMPTS):
        try:
            return list(channel.dump(message))
        except Interrupted:
            continue
        except Refused as refusal:
            if refusal.number == _ENOENT:
                return []
            raise
    raise Unavailable("the kernel's tables change too fast to be read; try again")


def inventory(channel: Channel, table: str, wanted: Mapping[str, str]) -> Inventory | None:
    """What there is, or nothing. ``wanted``: the maps that should be there, by definition."""
    try:
        header = channel.get(Message(Kind.GETTABLE, text(_TABLE_NAME, table)))
    except Refused as refusal:
        if refusal.number == _ENOENT:
            return None
        raise
    digest = hashlib.sha256()
    # A dormant table has all its rules and none of them works.
    digest.update(b"".join(dict(attributes(answer)).get(_TABLE_FLAGS, b"") for answer in header))
    chains = sorted(_chains(channel, table))
    for name, facts in chains:
        digest.update(b"\nchain " + name.encode() + b" " + facts)
    rules: Counter[str] = Counter()
    for answer in listed(channel, Message(Kind.GETRULE, text(1, table))):
        fields = dict(attributes(answer))
        rules[string(fields[_RULE_CHAIN])] += 1
        digest.update(b"\nrule " + fields[_RULE_CHAIN] + fields.get(_RULE_EXPRESSIONS, b""))
    maps: set[str] = set()
    sets: set[str] = set()
    misfits: set[str] = set()
    for name, flags, form, facts in sorted(_sets(channel, table)):
        digest.update(b"\nset " + name.encode() + b" " + facts)
        (maps if flags & _MAP else sets).add(name)
        if name in wanted and form != _form(wanted[name]):
            misfits.add(name)
    present = nft.Present(
        chains=frozenset(name for name, _ in chains),
        maps=frozenset(maps),
        sets=frozenset(sets),
        counters=frozenset(name for name, _ in counters(channel, table)),
        misfits=frozenset(misfits),
    )
    return Inventory(present, dict(rules), digest.hexdigest()[:32])


def _chains(channel: Channel, table: str) -> Iterator[tuple[str, bytes]]:
    for answer in listed(channel, Message(Kind.GETCHAIN, b"")):  # the kernel lists chains of all tables
        fields = dict(attributes(answer))
        if string(fields[1]) == table:
            facts = [fields.get(n, b"") for n in (_CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE, _CHAIN_FLAGS)]
            yield string(fields[_CHAIN_NAME]), b"|".join(facts)


def _sets(channel: Channel, table: str) -> Iterator[tuple[str, int, tuple[int, int], bytes]]:
    """Name, flags, form and the facts of each set and map that has a name of its own."""
    for answer in listed(channel, Message(Kind.GETSET, text(1, table))):
        fields = dict(attributes(answer))
        flags = int.from_bytes(fields.get(_SET_FLAGS, b""), "big")
        if flags & _ANONYMOUS:  # cannot be changed, and goes with its rule
            continue
        key_bytes = int.from_bytes(fields.get(_SET_KEY_LEN, b""), "big")
        kinds = (_SET_FLAGS, _SET_KEY_TYPE, _SET_KEY_LEN, _SET_DATA_TYPE, _SET_DATA_LEN)
        facts = b"|".join(fields.get(n, b"") for n in kinds)
        yield string(fields[_SET_NAME]), flags, (key_bytes, flags & (_INTERVAL | _MAP | _TIMEOUT | _EVAL)), facts


def _form(definition: str) -> tuple[int, int]:
    """Bytes of the key and flags of a map with this definition."""
    key = definition.split(":", maxsplit=1)[0]
    size = (16 if "ipv6_addr" in key else 4) + (4 if "inet_service" in key else 0)
    flags = _MAP | (_INTERVAL if "interval" in definition else 0)
    return size, flags | (_TIMEOUT if "timeout" in definition else 0) | (_EVAL if "dynamic" in definition else 0)


def counters(channel: Channel, table: str) -> list[tuple[str, int]]:
    """Name and packets of each named counter."""
    found = []
    body = text(1, table) + struct.pack("=HH", 8, _OBJ_TYPE) + struct.pack("!I", _COUNTER)
    for answer in listed(channel, Message(Kind.GETOBJ, body)):
        fields = dict(attributes(answer))
        packets = dict(attributes(fields.get(_OBJ_DATA, b""))).get(_COUNTER_PACKETS, b"")
        found.append((string(fields[_OBJ_NAME]), int.from_bytes(packets, "big")))
    return found


@dataclass(frozen=True, slots=True)
class About:
    """The description in the table: its structure, and the hashes noted down when it was made."""

    structure: Table
    noted: str


def about(channel: Channel, table: str) -> About | None:
    """How the table describes itself; nothing if it does not, or not in our words."""
    answers = listed(channel, elements.every(table, nft.ABOUT))
    pieces = {struct.unpack("=I", e.key)[0]: e.comment for answer in answers for e in elements.decoded(answer)}
    noted = pieces.pop(nft.FINGERPRINT_KEY, "")
    if not pieces:
        return None
    try:
        return About(nft.understood(piece for _, piece in sorted(pieces.items())), noted)
    except WireError:
        return None


def nodes(channel: Channel, table: str, group: Group, structure: Table) -> tuple[frozenset[int], bool]:
    """The members that may be used, and whether the maps agree with the members' addresses.

    Whoever is in the map of any family gets clients, so that is what counts.
    """
    in_map = {
        version: {
            struct.unpack("=I", e.key)[0]
            for answer in listed(channel, elements.every(table, nft.nodes_map(group.name, version)))
            for e in elements.decoded(answer)
        }
        for version in (4, 6)
    }
    found = in_map[4] | in_map[6]
    agreed = all(
        in_map[version] == {m.id for m in structure.members if m.id in found and m.address(version)}
        for version in in_map
    )
    return frozenset(found), agreed


def counts(channel: Channel, table: str) -> dict[str, int] | None:
    """How many elements each set and map has; nothing from kernels that do not say so."""
    found = {}
    for answer in listed(channel, Message(Kind.GETSET, text(1, table))):
        fields = dict(attributes(answer))
        if _SET_COUNT not in fields:
            return None
        found[string(fields[_SET_NAME])] = int.from_bytes(fields[_SET_COUNT], "big")
    return found
