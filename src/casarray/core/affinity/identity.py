"""What has to be the same on every gateway and over every restart: ids, seeds, and how heavy a young member is.

Pins, connection marks and slots hold ids, so an id once given is kept, also while its name is away from the
configuration. A new name takes the id its hash says, or the next free one. Two gateways that learn colliding names (one
pair in 4,095) in different order would disagree; whatever shares state between gateways shares the ids as well.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b

from casarray.core.errors import Conflict
from casarray.core.forwarding.table import MAX_GROUP_ID, MAX_MEMBER_ID

_SLOW_START_STEPS = 10


def member_ids(names: Iterable[str], known: Mapping[str, int]) -> dict[str, int]:
    """``known`` and an id of 1 to 4095 for every new name. `Conflict` when there is none left."""
    return _ids("member", names, known, MAX_MEMBER_ID)


def group_ids(names: Iterable[str], known: Mapping[str, int]) -> dict[str, int]:
    """``known`` and an id of 1 to 15 for every new affinity group. `Conflict` when there is none left."""
    return _ids("group", names, known, MAX_GROUP_ID)


def _ids(kind: str, names: Iterable[str], known: Mapping[str, int], most: int) -> dict[str, int]:
    ids = dict(known)
    taken = set(ids.values())
    for name in sorted(set(names) - ids.keys()):  # sorted: the order of the configuration decides nothing
        if len(taken) >= most:
            raise Conflict(f"no {kind} id is left for {name}: {most} have been given; forget names that are gone")
        start = _hash32(kind, name.lower()) % most
        ids[name] = next(i for i in (1 + (start + step) % most for step in range(most)) if i not in taken)
        taken.add(ids[name])
    return ids


def seed_of(fqdn: str) -> int:
    """The array's seed unless it is configured: 32 bits of a hash of its name, never 0."""
    return _hash32("seed", fqdn.rstrip(".").lower()) or 1


def _hash32(kind: str, text: str) -> int:
    return int.from_bytes(blake2b(f"{kind} {text}".encode(), digest_size=4, person=b"casarray").digest())


def slow_start_weight(weight: float, up_seconds: float, slow_start_seconds: float) -> float:
    """The weight of a member that has been up for so long: it grows from a tenth to the whole.

    In ten steps and not by the second, for every step is a new set of slots.
    """
    up_seconds = max(up_seconds, 0.0)
    if up_seconds >= slow_start_seconds:
        return weight
    step = int(up_seconds * _SLOW_START_STEPS / slow_start_seconds)
    return weight * max(step, 1) / _SLOW_START_STEPS
