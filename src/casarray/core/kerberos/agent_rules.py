"""What an agent decides: who may do what, and when its server should get no clients."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from casarray.core.errors import Denied
from casarray.core.kerberos.agent_messages import Op
from casarray.core.kerberos.keys import MOST_GENERATIONS, Holding

MOST_SKEW = 300.0  # seconds; what Kerberos puts up with, RFC 4120 5.2.4
_FOR_MEMBERS = frozenset({Op.STATE, Op.GIVE})


@dataclass(frozen=True, slots=True)
class Seen:
    """What this server saw when it asked for a ticket for one of the account's names."""

    account: str
    name: str = ""
    version: int | None = None  # the key version in the ticket; None: no ticket
    unknown: str = ""  # why there is none, where that says nothing about our keys
    nobody: bool = False  # no account has the name: nobody comes with tickets for it


def may(who: str, op: Op, administrators: Iterable[str], members: Iterable[str]) -> bool:
    """Whether this principal may ask that."""
    wanted = who.casefold()
    if any(wanted == one.casefold() for one in administrators):
        return True
    return op in _FOR_MEMBERS and any(wanted == one.casefold() for one in members)


def check_right(who: str, op: Op, administrators: Iterable[str], members: Iterable[str]) -> None:
    """Raise `Denied` unless this principal may ask that."""
    if may(who, op, administrators, members):
        return
    raise Denied(f"{who} may not ask this agent to {op}: add it to administrators under [agent], if it should")


def holds(holding: Holding, seen: Seen) -> bool:
    """Whether a ticket like that can be read here."""
    versions = {
        key.version
        for generation in holding.generations
        for key in generation.keys
        if key.principal.casefold() in ("", seen.name.casefold())
    }
    # A read-only domain controller writes its own number above the lower 16 bits. [MS-KILE] 3.1.5.8
    return seen.version is None or seen.version in versions or seen.version & 0xFFFF in versions


def lacking(holdings: Iterable[Holding], accounts: Iterable[str]) -> tuple[str, ...]:
    """The accounts that this server should hold keys of, and holds none."""
    held = {one.account.casefold() for one in holdings if any(not each.pending for each in one.generations)}
    return tuple(one for one in accounts if one.casefold() not in held)


def stale(
    holdings: Collection[Holding], seen: Iterable[Seen], skew: float | None, accounts: Iterable[str] = ()
) -> tuple[str, ...]:
    """Why this server should get no clients, a sentence each.

    ``skew``: seconds its clock is off, as far as known; ``accounts``: those it should hold keys of.
    """
    by_name = {one.account.casefold(): one for one in holdings}
    said = [
        f"this server holds no keys of {one} yet: give it some with casarray account roll --copy-from"
        for one in lacking(holdings, accounts)
    ]
    for one in seen:
        holding = by_name.get(one.account.casefold())
        if holding is not None and not holds(holding, one):
            newest = holding.generations[0].number if holding.generations else 0
            said.append(
                f"tickets for {one.name} are made with key {one.version} of {one.account}, and this server holds "
                f"{newest} at most: it missed a roll; give it the keys with casarray account roll --copy-from"
            )
    if skew is not None and abs(skew) > MOST_SKEW:
        said.append("this server's clock and the KDC's are more than 5 minutes apart, so tickets are refused: set it")
    return tuple(said)


def caught_up(ours: Holding, theirs: Holding) -> Holding:
    """What a peer holds, and besides it the generations that only we hold: their tickets may live yet."""
    more = [one for one in ours.generations if not one.pending and theirs.of(one.number) is None]
    found = sorted([*theirs.generations, *more], key=lambda one: one.number, reverse=True)
    return replace(theirs, generations=tuple(found[:MOST_GENERATIONS]))


def without_ended(holding: Holding, now: float) -> Holding:
    """Without generations whose last tickets have ended."""
    kept = tuple(one for one in holding.generations if one.until is None or one.until > now)
    return holding if len(kept) == len(holding.generations) else replace(holding, generations=kept)
