"""Which member serves which slot: weighted rendezvous hashing, made even.

Every member draws a number for every slot from a stream of hash bytes of its own, ``-ln(u) / weight``; the smallest
draw has the slot, the next one is its second choice. A draw depends on nothing but the seed, the member's id and
weight, so a member that leaves frees its own slots and touches no other, and each of them falls to its second choice.

Drawing alone is uneven: a member that should have 256 slots gets 256 give or take 16. So the weights are calibrated:
a member that got too many is made a little lighter, one that got too few a little heavier, until the shares are right.
The corrections are worked out over the *configured* members with their *configured* weights, whoever is up: a member
that goes down, comes back or starts slowly moves only its own slots, because nobody's correction changes meanwhile.

The same on every machine: nothing but integers and the IEEE operations that must be rounded correctly (+ - * / and
frexp), each over whole arrays; `numpy.log` and `numpy.sum` are left aside, as their last bit depends on the processor.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import shake_128
from math import fsum, isfinite

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BLOCK = 4096  # slots drawn from one stream: part of what every gateway must agree on
_AT_ONCE = 32768  # draws worked on at once: what a processor's cache holds
_LN2 = 0.6931471805599453
_ROUNDS = 400  # none was seen to need 100
_COARSE = 8  # rounds in full steps
_FINE = 40  # rounds until only those move that are off
#: Calibration looks only at draws that are at most so many times the least one of their slot, at first and after the
#: coarse rounds; so a correction may change by no more than the square root of it from there on, either way.
_REACH, _REACH_ROOT = 4.0, 2.0
_NARROW, _NARROW_ROOT = 1.44, 1.2


@dataclass(frozen=True, slots=True)
class Slots:
    """Slot -> member id; 0 = nobody."""

    first: tuple[int, ...]
    second: tuple[int, ...]


def fill(seed: int, members: Mapping[int, float], usable: Mapping[int, float], slots: int) -> Slots:
    """Share the slots out.

    ``members``: id -> configured weight (> 0) of every configured member. ``usable``: id -> present weight of those
    that may get clients: 0 as if left out, less than configured for a slow start. A `ValueError` for a usable id that
    is not configured, or a weight that cannot be.
    """
    _check(members, usable, slots)
    present = sorted((member, weight) for member, weight in usable.items() if weight > 0)
    if not present:
        return Slots((0,) * slots, (0,) * slots)
    corrections = dict(_corrections(seed, tuple(sorted(members.items())), slots))
    ids = [member for member, _ in present]
    heaviness = np.array([weight * corrections[member] for member, weight in present])
    names = np.array(ids)
    first: list[int] = []
    second: list[int] = []
    for block in _draws(seed, ids, slots):
        best = np.divide(block, heaviness, out=block).argmin(axis=1)
        first += names[best].tolist()
        if len(ids) > 1:
            block[np.arange(len(best)), best] = np.inf
            second += names[block.argmin(axis=1)].tolist()
        else:
            second += [0] * len(best)
    return Slots(tuple(first), tuple(second))


def _check(members: Mapping[int, float], usable: Mapping[int, float], slots: int) -> None:
    if slots < 1:
        raise ValueError(f"{slots} slots: at least one is needed")
    for member, weight in members.items():
        if not (weight > 0 and isfinite(weight)):
            raise ValueError(f"member {member} has the weight {weight}: it must be more than 0")
    for member, weight in usable.items():
        if member not in members:
            raise ValueError(f"member {member} is usable but not configured")
        if not (weight >= 0 and isfinite(weight)):
            raise ValueError(f"member {member} has the present weight {weight}: it must be 0 or more")


def _draws(seed: int, ids: list[int], slots: int) -> Iterator[Floats]:
    """-ln(u) of every slot (rows) and member (columns), some slots at a time."""
    rows = max(16, _AT_ONCE // len(ids))
    for start in range(0, slots, _BLOCK):
        words = np.empty((len(ids), _BLOCK), dtype="<u4")
        for column, member in enumerate(ids):
            stream = shake_128(b"casarray slots %d %d %d" % (seed, member, start)).digest(4 * _BLOCK)
            words[column] = np.frombuffer(stream, dtype="<u4")
        width = min(_BLOCK, slots - start)
        for low in range(0, width, rows):
            # Neither 0 nor 1 can come out, and both steps are exact.
            u = np.ascontiguousarray(words[:, low : min(low + rows, width)].T) + 0.5
            u *= 1.0 / 4294967296.0
            yield _minus_ln(u)


def _minus_ln(u: Floats) -> Floats:
    """-ln(u) for 0 < u < 1, to about 1e-5 relative (what is left is calibrated away), rounding alike everywhere.

    ln(m * 2**e) = e ln 2 + 2 artanh((m - 1) / (m + 1)) with m in [0.5, 1): a series in powers of at most 1/9.
    """
    mantissa, exponent = np.frexp(u)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    series = square * (1.0 / 7.0)
    for odd in (5.0, 3.0):
        series += 1.0 / odd
        series *= square
    series += 1.0
    series *= s
    series *= -2.0
    series -= exponent * _LN2
    return series


@lru_cache(maxsize=32)
def _corrections(seed: int, members: tuple[tuple[int, float], ...], slots: int) -> tuple[tuple[int, float], ...]:
    """What each member's weight is multiplied with, so that its share of the slots becomes its share of the weights.

    A pure function of the configuration, remembered because health and slow start ask for it again and again.

    The number of slots a member wins grows about as its weight does, so a few rounds of wanted / got bring all of them
    near. From there it is steepest ascent on a concave function (the dual of handing a fixed number of slots to each
    at the least sum of draws), in steps that become smaller. At the end only the members that are still off by too
    much move, in steps of changing size: whatever two of them would otherwise do in turn for ever, they stop doing.
    """
    ids = [member for member, _ in members]
    weights = np.array([weight for _, weight in members], dtype=np.float64)
    due = weights / fsum(weight for _, weight in members) * slots
    wanted = _whole(due, slots)
    # The 2 % that are promised to those with 50 slots or more, with something to spare.
    bound = np.where(due < 50.0, np.inf, np.maximum(1.0, due * 0.0175))
    contest = _contest(seed, ids, weights, slots)
    correction = np.ones(len(ids))
    lowest, highest = correction / _REACH_ROOT, correction * _REACH_ROOT
    best, least = correction, np.inf
    for turn in range(_ROUNDS):
        if turn == _COARSE:
            contest = contest.narrowed(correction, _NARROW)
            lowest, highest = correction / _NARROW_ROOT, correction * _NARROW_ROOT
        got = contest.shares(correction)
        off = np.abs(got - due) / bound
        if (worst := float(off.max())) < least:
            best, least = correction, worst
        if least <= 1.0:
            break
        step = (wanted - got) / np.maximum(np.maximum(got, wanted), 1)
        if turn >= _FINE:
            step = np.where(off > 1.0, step / (2 + 3 * (turn % 16)), 0.0)
        elif turn >= _COARSE:
            step *= _COARSE / (turn + _COARSE)
        correction = np.clip(correction * (1.0 + step), lowest, highest)
    return tuple(zip(ids, best.tolist(), strict=True))


def _whole(due: Floats, slots: int) -> Ints:
    """Whole numbers that add up to all the slots: the largest remainders are rounded up."""
    whole = np.floor(due).astype(np.int64)
    up = np.argsort(whole - due, kind="stable")[: slots - int(whole.sum())]
    whole[up] += 1
    return whole


@dataclass(frozen=True, slots=True)
class _Contest:
    """The draws that can still win a slot, slot after slot: all that calibration needs to look at."""

    slot: Ints  # of each draw: its slot,
    member: Ints  # its member's index,
    draw: Floats  # over its member's configured weight
    members: int

    def shares(self, correction: Floats) -> Ints:
        """How many slots each member wins with these corrections."""
        return np.bincount(self.member[self._within(correction, 1.0)], minlength=self.members)

    def narrowed(self, correction: Floats, reach: float) -> "_Contest":
        """Only the draws that are at most so many times the winning one."""
        kept = self._within(correction, reach)
        return _Contest(self.slot[kept], self.member[kept], self.draw[kept], self.members)

    def _within(self, correction: Floats, reach: float) -> Ints:
        draws = self.draw / correction[self.member]
        best = np.minimum.reduceat(draws, np.flatnonzero(np.diff(self.slot, prepend=-1)))
        return np.flatnonzero(draws <= best[self.slot] * reach)


def _contest(seed: int, ids: list[int], weights: Floats, slots: int) -> _Contest:
    slot_parts: list[Ints] = []
    member_parts: list[Ints] = []
    draw_parts: list[Floats] = []
    start = 0
    for block in _draws(seed, ids, slots):
        np.divide(block, weights, out=block)
        rows, columns = np.nonzero(block <= block.min(axis=1, keepdims=True) * _REACH)
        slot_parts.append(rows + start)
        member_parts.append(columns)
        draw_parts.append(block[rows, columns])
        start += len(block)
    return _Contest(np.concatenate(slot_parts), np.concatenate(member_parts), np.concatenate(draw_parts), len(ids))
