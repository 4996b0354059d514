"""The shared keys, as they travel to the members and lie there.

A *generation* is what one password gave. A member holds several: the one that tickets are made with now, the ones
before it as long as a ticket may live, and during a roll the one that is to come. Keys are never shown: not by `repr`,
not in errors. What may be shown is a key's check, by which two sides see whether they hold the same.
"""

import hashlib
import hmac
from dataclasses import dataclass, field, replace

from casarray.core.errors import Conflict
from casarray.core.kerberos.encryption import Enctype

MOST_GENERATIONS = 8


@dataclass(frozen=True, slots=True)
class Key:
    """One key."""

    enctype: Enctype
    version: int  # the key version number that tickets name
    value: bytes = field(repr=False)
    principal: str = ""  # class/host of the one name it is for; empty: for all names of the account

    @property
    def check(self) -> str:
        """Tells two keys apart without telling anything of them: 16 hex digits."""
        return hmac.digest(self.value, b"casarray key check", hashlib.sha256).hex()[:16]


@dataclass(frozen=True, slots=True)
class Generation:
    """The keys of one password."""

    number: int  # of the account: in Active Directory its key version
    keys: tuple[Key, ...]
    made: float  # seconds since the epoch
    pending: bool = False  # not known to be in the directory yet
    until: float | None = None  # a later one took its place: tickets of it are gone by then


@dataclass(frozen=True, slots=True)
class Holding:
    """What a member holds of one shared account."""

    account: str  # its name in the realm: "asa$"
    realm: str
    names: tuple[str, ...]  # class/host, what clients ask tickets for
    generations: tuple[Generation, ...]  # newest first

    def of(self, number: int) -> Generation | None:
        """The generation of that number."""
        return next((one for one in self.generations if one.number == number), None)

    def with_generation(self, new: Generation) -> "Holding":
        """With this one in the place of any pending one and any of its number; the oldest beyond the limit go.

        `Conflict` for a pending one under the number of other keys that are in use: somebody else was faster.
        """
        if new.pending and (used := self.of(new.number)) and not used.pending and checks(used) != checks(new):
            raise Conflict(
                f"there are keys {new.number} of {self.account} already, and they are in use: somebody else has rolled "
                f"this account meanwhile"
            )
        kept = [one for one in self.generations if one.number != new.number and not (new.pending and one.pending)]
        ordered = sorted([new, *kept], key=lambda one: one.number, reverse=True)
        return replace(self, generations=tuple(ordered[:MOST_GENERATIONS]))

    def confirmed(self, number: int, actual: int, now: float, lifetime: float) -> "Holding":
        """Generation ``number`` is in the directory, under the number ``actual``; older ones end with their tickets.

        Later ones stay: whoever confirms may have slept since, and others have rolled meanwhile. ``lifetime``: seconds
        that a ticket lives at most.
        """
        ours = self.of(number)
        assert ours is not None
        moved = tuple(replace(key, version=key.version + actual - number) for key in ours.keys)
        current = replace(ours, number=actual, keys=moved, pending=False, until=None)
        others = [
            replace(one, until=now + lifetime) if one.until is None and one.number < actual else one
            for one in self.generations
            if one is not ours and one.number != actual and not one.pending and (one.until is None or one.until > now)
        ]
        ordered = sorted([current, *others], key=lambda one: one.number, reverse=True)
        return replace(self, generations=tuple(ordered))


@dataclass(frozen=True, slots=True)
class HeldGeneration:
    """A generation as a member tells of it: no secret in it."""

    number: int
    pending: bool
    checks: tuple[str, ...]  # "aes256 3 * 0123456789abcdef" of each key, sorted
    made: float = 0.0  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Held:
    """A holding as a member tells of it."""

    account: str
    realm: str
    names: tuple[str, ...]
    generations: tuple[HeldGeneration, ...]  # newest first

    def of(self, number: int) -> HeldGeneration | None:
        """The generation of that number."""
        return next((one for one in self.generations if one.number == number), None)


def told(holding: Holding) -> Held:
    """What may be said of a holding."""
    return Held(
        holding.account,
        holding.realm,
        holding.names,
        tuple(HeldGeneration(one.number, one.pending, checks(one), one.made) for one in holding.generations),
    )


def checks(generation: Generation) -> tuple[str, ...]:
    """The checks of its keys, to be compared with what a member says."""
    return tuple(sorted(f"{k.enctype.word} {k.version} {k.principal or '*'} {k.check}" for k in generation.keys))
