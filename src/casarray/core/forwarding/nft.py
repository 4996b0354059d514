"""The wanted table as the text of one nft transaction, nothing else.

How a new connection goes (established ones go by conntrack and see none of this):

    prerouting | output -> entry4 -> steer4_GROUP -> node4_GROUP_ID      by static port
                                  -> dynamic4_GROUP -> own4_GROUP_ID -> node4_GROUP_ID    by pinhole

- The scratch register is the packet's priority, typed `classid`: the packet's mark stays everybody else's. Slot numbers
  are looked up as 65536 + n, so that a slot nobody has can never be taken for a member's id.
- A pinhole leads to its member only while the client is pinned there, or nowhere. Whoever was moved meanwhile is
  refused, and asks the endpoint mapper again; else a member that returns would get back some connections of a client
  and not all.
- A pin to a member that is not in nodes misses, is deleted, and made anew with the member that the slots give.
- Maps that hold state (pins, pinholes, counters) are added and never flushed: adding what is there changes nothing.
  Everything that is derived (all rules, the nodes, the description) is flushed and written anew in the same
  transaction, so packets see the old table or the new one.
- `about` describes the table in words of ours, so that whoever comes next can read what was wanted.
- There are no byte counters: they would cost every packet a rule, and what is left to them is in conntrack.

Names ending in 4 and 6 are the same thing for the two families.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from casarray.core.errors import WireError
from casarray.core.forwarding.table import MARK_MASK, Address, Group, Member, Table, connection_mark

PIN_CAPACITY = 1 << 20  # clients with a pin, by group and family; a full map pins nobody new and still forwards
HOLE_CAPACITY = 1 << 20
WIDE_CAPACITY = 1 << 16
SLOT_OFFSET = 1 << 16
ABOUT = "about"
ABOUT_WIDTH = 120  # nft takes comments of up to 128 characters
FINGERPRINT_KEY = 0xFFFFFFFF  # the element of `about` that names the rules as the kernel gave them back

_TAKEN = {"casarray_resets"}  # the table that tells idle clients
_SYN_ONLY = "tcp flags & (fin | syn | rst | ack) == syn"
_FAMILY = {4: "ip", 6: "ip6"}
_ADDRESS_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}


@dataclass(frozen=True, slots=True)
class Present:
    """The names that are in a table now: what is there and not wanted is deleted."""

    chains: frozenset[str] = frozenset()
    maps: frozenset[str] = frozenset()
    sets: frozenset[str] = frozenset()
    counters: frozenset[str] = frozenset()
    misfits: frozenset[str] = field(default=frozenset())  # maps and sets of the wanted name and another type


def identifier(name: str) -> str:
    """A name as nft takes it: lower case letters, digits, underscores."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name.lower())


def table_name(array: str) -> str:
    """The kernel's name of the array's table (family inet)."""
    name = f"casarray_{identifier(array)}"
    return f"{name}_" if name in _TAKEN else name


def shield_names(table: str) -> tuple[str, str]:
    """The kernel's names of the two tables that shield this one in turn."""
    return f"{table}_shield", f"{table}_shield2"


def names_taken(array: str) -> frozenset[str]:
    """Every table name that this array needs for itself."""
    table = table_name(array)
    return frozenset({table, *shield_names(table)})


def group_name(group: str) -> str:
    """The group's part of the names of its maps and chains."""
    return identifier(group)


def pin_map(group: str, version: int) -> str:
    """Client -> member id, with a time-out."""
    return f"pin{version}_{group_name(group)}"


def nodes_map(group: str, version: int) -> str:
    """Member id -> the chain that sends there; absent = may not be used."""
    return f"nodes{version}_{group_name(group)}"


def slots_map(group: str) -> str:
    """65536 + slot -> member id; absent = nobody."""
    return f"slots_{group_name(group)}"


def backup_map(group: str) -> str:
    """As `slots_map`, for slots whose first choice may not be used."""
    return f"backup_{group_name(group)}"


def holes_map(group: str, version: int) -> str:
    """Client and port -> member id, with a time-out."""
    return f"holes{version}_{group_name(group)}"


def wide_map(group: str, version: int) -> str:
    """Client and range of ports -> member id, with a time-out."""
    return f"wide{version}_{group_name(group)}"


def node_chain(group: str, member_id: int, version: int) -> str:
    """The chain that sends a new connection to this member."""
    return f"node{version}_{group_name(group)}_{member_id}"


def own_chain(group: str, member_id: int, version: int) -> str:
    """The chain for a client with a pinhole to this member."""
    return f"own{version}_{group_name(group)}_{member_id}"


def counter(group: str, member_id: int) -> str:
    """Connections sent to this member in this group."""
    return f"new_{group_name(group)}_{member_id}"


def classid(number: int) -> str:
    """A 32-bit number as nft writes a classid."""
    return f"{number >> 16:x}:{number & 0xFFFF:x}" if number else "none"


def maps(table: Table, *, pin_capacity: int = PIN_CAPACITY) -> dict[str, str]:
    """Name -> definition of every map of the table."""
    found: dict[str, str] = {}
    for group in table.groups:
        found[slots_map(group.name)] = found[backup_map(group.name)] = "type classid : classid;"
        for version, kind in _ADDRESS_TYPE.items():
            found[pin_map(group.name, version)] = f"type {kind} : classid; flags dynamic,timeout; size {pin_capacity};"
            found[nodes_map(group.name, version)] = "type classid : verdict;"
            if group.dynamic:
                found[holes_map(group.name, version)] = (
                    f"type {kind} . inet_service : classid; flags dynamic,timeout; size {HOLE_CAPACITY};"
                )
                found[wide_map(group.name, version)] = (
                    f"type {kind} . inet_service : classid; flags interval,timeout; size {WIDE_CAPACITY};"
                )
    return found


def counters(table: Table) -> list[str]:
    """The name of every counter of the table."""
    return [counter(group.name, member.id) for group in table.groups for member in table.members]


def chains(table: Table) -> dict[str, list[str]]:
    """Every chain of the table, base chains under their definition's name, with its rules in order."""
    found = {
        "prerouting": _to_entry(table),
        "output": _to_entry(table),
        "postrouting": list(_postrouting(table)),
        "input": list(_input(table)),
        "refuse": list(_refuse(table)),
        "forward": list(_forward(table)),
    }
    for version in (4, 6):
        found[f"entry{version}"] = list(_entry(table, version))
        for group in table.groups:
            found[f"steer{version}_{group_name(group.name)}"] = list(_steer(table, group, version))
            if group.dynamic:
                found[f"dynamic{version}_{group_name(group.name)}"] = list(_dynamic(table, group, version))
            for member in table.members:
                if member.address(version):
                    found[node_chain(group.name, member.id, version)] = list(_node(group, member, version))
                    if group.dynamic:
                        found[own_chain(group.name, member.id, version)] = list(_own(group, member, version))
    return found


BASE: Mapping[str, str] = {
    "prerouting": "type nat hook prerouting priority dstnat; policy accept;",
    "output": "type nat hook output priority -100; policy accept;",
    "postrouting": "type nat hook postrouting priority srcnat; policy accept;",
    # A little before everybody's filter: what is refused here was never theirs.
    "input": "type filter hook input priority filter - 10; policy accept;",
    "forward": "type filter hook forward priority filter - 10; policy accept;",
}


def transaction(table: Table, present: Present = Present(), *, pin_capacity: int = PIN_CAPACITY) -> str:
    """One transaction after which the rules and nodes are those of ``table`` and pins, pinholes and slots as before.

    ``present`` is what the kernel has under this table's name. The text ends with a newline.
    """
    name = f"inet {table_name(table.array)}"
    wanted_maps, wanted_chains, wanted_counters = maps(table, pin_capacity=pin_capacity), chains(table), counters(table)
    lines = [f"add table {name}", f"flush table {name}"]
    # Elements first: a chain that an element leads to cannot go.
    lines += [f"flush map {name} {m}" for m in sorted(present.maps) if m.startswith("nodes")]
    lines += [f"delete map {name} {m}" for m in sorted(present.maps - wanted_maps.keys() | present.misfits)]
    lines += [f"delete set {name} {s}" for s in sorted(present.sets - {ABOUT})]
    lines += [f"delete chain {name} {c}" for c in sorted(present.chains - wanted_chains.keys())]
    lines += [f"delete counter {name} {c}" for c in sorted(present.counters - set(wanted_counters))]
    lines += [f"add map {name} {m} {{ {definition} }}" for m, definition in wanted_maps.items()]
    lines += [f"add set {name} {ABOUT} {{ type mark; }}", f"flush set {name} {ABOUT}"]
    lines += [f"add counter {name} {c}" for c in wanted_counters]
    lines += [f"add chain {name} {c}" + (f" {{ {BASE[c]} }}" if c in BASE else "") for c in wanted_chains]
    lines += [f"add rule {name} {c} {rule}" for c, rules in wanted_chains.items() for rule in rules]
    lines += [f"add element {name} {m} {{ {', '.join(e)} }}" for m, e in _nodes(table).items() if e]
    about = ", ".join(f'{number} comment "{text}"' for number, text in enumerate(described(table)))
    lines.append(f"add element {name} {ABOUT} {{ {about} }}")
    return "\n".join(lines) + "\n"


def shield(table: Table, name: str) -> str:
    """A second table, to be owned by a program that keeps running: nobody else can remove it while that one lives.

    While the first table is there it does nothing. When somebody flushes that one, no packet is translated until it is
    back, and every connection in use would be reset: by this host, which gets the client's packets, and by the client,
    which gets the member's packets under the member's address. Dropped, they are merely sent again. Not shielded are
    clients that are masqueraded without a pool. One command a line; repeating them is harmless.
    """
    inside = f"inet {name}"
    lines = [
        f"add table {inside} {{ flags owner; }}",
        f"add chain {inside} input {{ type filter hook input priority filter - 9; }}",
        f"add chain {inside} leaving {{ type filter hook postrouting priority srcnat + 10; }}",
        f"flush table {inside}",
    ]
    for version, family, vips in _vips(table):
        lines.append(f"add rule {inside} input ct direction original ct status dnat {family} daddr {vips} drop")
        if table.mapper_port is not None:
            lines.append(f"add rule {inside} input {family} daddr {vips} tcp dport {table.mapper_port} accept")
        lines.append(f"add rule {inside} input {family} daddr {vips} ct state new meta l4proto tcp drop")
        if pool := _of_family(table.source_addresses, version):
            lines.append(
                f"add rule {inside} input ct direction reply ct status snat {family} daddr {_one_of(pool)} drop"
            )
        members = _member_addresses(table, version)
        ours = _one_of([*_of_family(table.addresses, version), *members])  # whoever is masqueraded in any case
        answers = f"ct direction reply ct status snat ct original {family} saddr {ours}"
        lines.append(f"add rule {inside} input {answers} {family} daddr != {vips} drop")
        if members:
            answers = f"ct direction reply ct status dnat {family} saddr {_one_of(members)}"
            lines.append(f"add rule {inside} leaving {answers} ct original {family} daddr {vips} drop")
    return "\n".join(lines) + "\n"


def _nodes(table: Table) -> dict[str, list[str]]:
    """The elements of each nodes map. A member without an address of the family has no place in that family's map."""
    return {
        nodes_map(group.name, version): [
            f"{classid(m.id)} : goto {node_chain(group.name, m.id, version)}"
            for m in table.members
            if m.id in group.nodes and m.address(version)
        ]
        for group in table.groups
        for version in (4, 6)
    }


def _one_of(values: Iterable[object]) -> str:
    texts = [str(v) for v in values]
    return texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}"


def _of_family(addresses: Iterable[Address], version: int) -> list[Address]:
    return [a for a in addresses if a.version == version]


def _member_addresses(table: Table, version: int) -> list[Address]:
    return [a for m in table.members if (a := m.address(version))]


def _vips(table: Table) -> Iterator[tuple[int, str, str]]:
    """Version, nft family and addresses, for each family in which the array has an address."""
    for version, family in _FAMILY.items():
        if vips := _of_family(table.addresses, version):
            yield version, family, _one_of(vips)


def _client(group: Group, version: int) -> str:
    """The expression for "the same client": its address, or the prefix of it."""
    if version == 4:
        return "ip saddr" + (f" and {IPv4Network((0, group.prefix4)).netmask}" if group.prefix4 < 32 else "")
    return "ip6 saddr" + (f" and {IPv6Network((0, group.prefix6)).netmask}" if group.prefix6 < 128 else "")


def _to_entry(table: Table) -> list[str]:
    return [f"{family} daddr {vips} meta l4proto tcp goto entry{version}" for version, family, vips in _vips(table)]


def _entry(table: Table, version: int) -> Iterator[str]:
    if table.mapper_port is not None:
        yield f"tcp dport {table.mapper_port} accept"
    for group in table.groups:
        if group.ports:
            yield f"tcp dport {_one_of(group.ports)} goto steer{version}_{group_name(group.name)}"
    for group in table.groups:
        if group.dynamic:
            yield f"jump dynamic{version}_{group_name(group.name)}"


def _steer(table: Table, group: Group, version: int) -> Iterator[str]:
    nodes = nodes_map(group.name, version)
    client = _client(group, version)
    yield "meta priority set none"
    # A lookup that misses ends its rule, not the chain.
    yield f"meta priority set {client} map @{pin_map(group.name, version)}"
    yield f"meta priority vmap @{nodes}"
    # Whoever comes this far has no pin or a void one. `update` renews what is there without changing its value, so a
    # void pin must go first; else the client would go back when the member does, with its sessions somewhere else.
    # It goes in the rule that found a slot: `delete` also finds pins that are just being put and not yet in force, so
    # while a lost table is restored, pins first and slots last, nothing may be deleted.
    void = f"delete @{pin_map(group.name, version)} {{ {client} : none }}"
    for choice in (slots_map(group.name), backup_map(group.name)):
        # A seed must be given: without one, each load of the rules draws another, and every client moves.
        yield (f"meta priority set jhash {client} mod {len(group.slots)} seed {table.seed:#x} offset {SLOT_OFFSET}")
        yield f"meta priority set meta priority map @{choice} {void}"
        yield f"meta priority vmap @{nodes}"


def _dynamic(table: Table, group: Group, version: int) -> Iterator[str]:
    client = f"{_FAMILY[version]} saddr . tcp dport"
    owners = ", ".join(
        f"{classid(m.id)} : jump {own_chain(group.name, m.id, version)}" for m in table.members if m.address(version)
    )
    if not owners:
        return
    for holes in (holes_map(group.name, version), wide_map(group.name, version)):
        yield "meta priority set none"
        yield f"meta priority set {client} map @{holes}"
        yield f"meta priority vmap {{ {owners} }}"


def _own(group: Group, member: Member, version: int) -> Iterator[str]:
    here = classid(member.id)
    yield "meta priority set none"
    yield f"meta priority set {_client(group, version)} map @{pin_map(group.name, version)}"
    yield f"meta priority none meta priority set {here}"
    yield f"meta priority {here} meta priority vmap @{nodes_map(group.name, version)}"


def _node(group: Group, member: Member, version: int) -> Iterator[str]:
    pin = f"{_client(group, version)} timeout {group.affinity_seconds}s : {classid(member.id)}"
    # A rule of its own: in a full map the update fails, and the next rule goes on.
    yield f"update @{pin_map(group.name, version)} {{ {pin} }}"
    yield f"counter name {counter(group.name, member.id)}"
    mark = connection_mark(group.id, member.id)
    yield f"ct mark set ct mark and {MARK_MASK ^ 0xFFFFFFFF:#010x} or {mark:#010x}"
    yield "meta priority set none"
    yield f"dnat {_FAMILY[version]} to {member.address(version)}"


def _postrouting(table: Table) -> Iterator[str]:
    for version, family, vips in _vips(table):
        ours = f"ct status dnat ct original {family} daddr {vips}"
        members = _member_addresses(table, version)
        # The gateway's own connections leave from the VIP, and those of a member would be answered past the gateway.
        yield f"{family} saddr {_one_of([*_of_family(table.addresses, version), *members])} {ours} masquerade"
        if not table.masquerade:
            continue
        if pool := _of_family(table.source_addresses, version):
            yield f"{ours} snat {family} to {_from_pool(pool, family, table.seed)}"
        else:
            yield f"{ours} masquerade"


def _from_pool(pool: list[Address], family: str, seed: int) -> str:
    """One client, one source address: RPC servers want the connections of an association group from one address."""
    if len(pool) == 1:
        return str(pool[0])
    choices = ", ".join(f"{n} : {address}" for n, address in enumerate(pool))
    return f"jhash {family} saddr mod {len(pool)} seed {seed:#x} map {{ {choices} }}"


def _input(table: Table) -> Iterator[str]:
    for version, family, vips in _vips(table):
        yield f"{family} daddr {vips} goto refuse"
        if members := _member_addresses(table, version):
            # What conntrack cannot place was not translated; answered by this host, it would end a good connection.
            yield f"ct state invalid {family} saddr {_one_of(members)} drop"


def _refuse(table: Table) -> Iterator[str]:
    """What was sent to the VIP and steered to nobody."""
    yield "ct state established,related accept"
    yield "ct state invalid drop"
    yield "meta l4proto { icmp, ipv6-icmp } accept"
    if table.mapper_port is not None:
        yield f"tcp dport {table.mapper_port} accept"
    yield "meta l4proto tcp reject with tcp reset"
    yield "reject"


def _forward(table: Table) -> Iterator[str]:
    """What a member sends first after this gateway took over must not go out under the member's own address."""
    dynamic = any(group.dynamic for group in table.groups)
    ports = sorted({port for group in table.groups for port in group.ports})
    if not dynamic and not ports:
        return
    from_service = "" if dynamic else f" tcp sport {_one_of(ports)}"
    for version, family in _FAMILY.items():
        if members := _member_addresses(table, version):
            yield (
                f"ct state invalid,new {family} saddr {_one_of(members)}{from_service} "
                f"{_SYN_ONLY.replace('==', '!=')} drop"
            )


def described(table: Table) -> list[str]:
    """The table's structure in pieces of at most 120 characters that nft takes as comments. See `understood`."""
    wanted: dict[str, Any] = {
        "array": table.array,
        "addresses": [str(a) for a in table.addresses],
        "seed": table.seed,
        "mapper": table.mapper_port,
        "masquerade": table.masquerade,
        "sources": [str(a) for a in table.source_addresses],
        "members": [[m.id, m.name, *map(str, m.addresses)] for m in table.members],
        "groups": [
            [g.id, g.name, list(g.ports), g.affinity_seconds, g.prefix4, g.prefix6, g.dynamic, len(g.slots)]
            for g in table.groups
        ],
    }
    text = json.dumps(wanted, separators=(",", ":"))
    # nft has no way to quote a quotation mark, and reads an asterisk at the end as a wildcard.
    text = text.replace("'", "\\u0027").replace('"', "'").replace("*", "\\u002a")
    return [text[at : at + ABOUT_WIDTH] for at in range(0, len(text), ABOUT_WIDTH)]


def understood(pieces: Iterable[str]) -> Table:
    """The structure that `described` wrote down; nodes empty, all slots 0. `WireError` if it is not of that form."""
    try:
        read = json.loads("".join(pieces).replace("'", '"'))
        return Table(
            array=str(read["array"]),
            addresses=tuple(ip_address(a) for a in read["addresses"]),
            seed=int(read["seed"]),
            members=tuple(Member(int(m[0]), str(m[1]), tuple(map(ip_address, m[2:]))) for m in read["members"]),
            groups=tuple(_understood_group(g) for g in read["groups"]),
            mapper_port=None if read["mapper"] is None else int(read["mapper"]),
            masquerade=bool(read["masquerade"]),
            source_addresses=tuple(ip_address(a) for a in read["sources"]),
        )
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise WireError("description", f"the kernel table does not describe itself as ours do: {error}") from error


def _understood_group(written: list[Any]) -> Group:
    number, name, ports, seconds, prefix4, prefix6, dynamic, slots = written
    empty = (0,) * int(slots)
    return Group(
        id=int(number),
        name=str(name),
        ports=tuple(map(int, ports)),
        nodes=frozenset(),
        slots=empty,
        backup=empty,
        affinity_seconds=int(seconds),
        prefix4=int(prefix4),
        prefix6=int(prefix6),
        dynamic=bool(dynamic),
    )
