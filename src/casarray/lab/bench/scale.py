"""Carries the measurements on to sizes nobody has in a lab: ten million clients, a hundred gateways.

    python -m casarray.lab.bench.scale --results docs/performance/results.json

Two kinds of answers, told apart in what is printed. *Simulated*: the array's own hash and slots, run over all the
clients, while members and gateways come and go. *Calculated*: one measured cost times how many there are.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casarray.core.affinity.ring import fill

Numbers = NDArray[np.int64]
_SEED = 4711
_MIX = 0x9E3779B97F4A7C15

#: The least that a tracked connection takes of the kernel's memory: an entry of `nf_conntrack` (256 octets, says
#: slabinfo) and its extension for translated addresses (128). The measured one is a small difference of large sums.
CONNECTION_BYTES = 384.0


@dataclass(frozen=True, slots=True)
class Site:
    """How big it is."""

    clients: int = 10_000_000
    gateways: int = 100
    members: int = 256
    slots: int = 65537
    connections_each: int = 4  # of one client at one time: an Outlook has about so many
    strays: float = 0.02  # the part of the clients whose pin is not what their slot says


def mixed(numbers: Numbers, salt: int) -> NDArray[np.uint64]:
    """A number for each number, evenly spread: stands for a router's hash, or jhash."""
    x = numbers.astype(np.uint64) + np.uint64(salt * _MIX % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return x ^ (x >> np.uint64(31))


def owners(site: Site, members: int, absent: int | None = None) -> Numbers:
    """The member of each slot, by the array's own calculation."""
    weights = dict.fromkeys(range(1, members + 1), 1.0)
    usable = {number: weight for number, weight in weights.items() if number != absent}
    return np.array(fill(_SEED, weights, usable, site.slots).first, dtype=np.int64)


def slot_numbers(site: Site) -> Numbers:
    """The slot of each client."""
    return (mixed(np.arange(site.clients), 1) % np.uint64(site.slots)).astype(np.int64)


def moved_by_member(site: Site, members: int) -> tuple[float, float, float]:
    """Of all clients: the share that moves when one member is lost; that should; and that moves though it need not."""
    slots = slot_numbers(site)
    before, after = owners(site, members)[slots], owners(site, members, absent=1)[slots]
    moved, its = before != after, before == 1
    return float(moved.mean()), 1 / members, float((moved & ~its).mean())


def unevenness(site: Site, members: int) -> float:
    """How many more clients the fullest member has than the mean one, as a share."""
    count = np.bincount(owners(site, members)[slot_numbers(site)], minlength=members + 1)[1:]
    return float(count.max() / count.mean() - 1)


def moved_share(site: Site, *, resilient: bool) -> tuple[float, float]:
    """One gateway of many dies: the shares of all clients that meet another gateway, and that meet another member.

    Routers in front spread clients over gateways by ECMP. ``resilient``: those of living gateways stay where they are
    (resilient or consistent hashing); otherwise the hash is taken modulo the number of gateways, and nearly all move.
    A client that meets another gateway finds the same slots there; only a stray's pin is not known there.
    """
    hash_ = mixed(np.arange(site.clients), 2)
    before = (hash_ % np.uint64(site.gateways)).astype(np.int64)
    living = (hash_ // np.uint64(site.gateways) % np.uint64(site.gateways - 1)).astype(np.int64) + 1
    if resilient:
        after = np.where(before == 0, living, before)
    else:
        after = (hash_ % np.uint64(site.gateways - 1)).astype(np.int64) + 1
    stray = mixed(np.arange(site.clients), 3) % np.uint64(10_000) < np.uint64(round(site.strays * 10_000))
    gone = before != after
    return float(gone.mean()), float((gone & stray).mean())


@dataclass(frozen=True, slots=True)
class Measured:
    """What is taken from a run of the benchmark."""

    pin_bytes: float
    connection_bytes: float
    connections_per_second: float
    gigabits: float
    restore_seconds: float
    mapper_per_second: float
    probe_share: float  # of a core, for 600 probes a second

    @classmethod
    def read(cls, results: Mapping[str, object]) -> "Measured":
        """Of the JSON that `script/bench` writes. `KeyError` names what is missing in it."""
        listed = results["figures"]
        assert isinstance(listed, list)
        medians = {figure["name"]: figure["median"] for figure in listed}
        return cls(
            pin_bytes=medians["restore"]["bytes a pin"],
            connection_bytes=max(medians["idle"]["kernel: kernel only"], CONNECTION_BYTES),
            connections_per_second=medians["connections"]["kernel"],
            gigabits=medians["bulk"]["kernel"],
            restore_seconds=medians["restore"]["restored"],
            mapper_per_second=medians["mapper"]["kernel, whole conversations"],
            probe_share=medians["probes"]["rpc"] / 100,
        )


def simulated(site: Site) -> Iterator[str]:
    """The lines of the simulated part."""
    yield f"{site.clients:,} clients, {site.slots:,} slots, {site.gateways} gateways; strays {site.strays:.0%}"
    yield ""
    heads = (
        "members",
        "fullest over the mean",
        "moved when one is lost",
        "unavoidable",
        "in vain",
        "slots worked out in",
    )
    yield f"| {' | '.join(heads)} |"
    yield "|---|---|---|---|---|---|"
    for members in (8, 64, site.members, 4 * site.members):
        began = time.perf_counter()
        owners(site, members, absent=1)
        took = time.perf_counter() - began
        moved, due, vain = moved_by_member(site, members)
        over = unevenness(site, members)
        yield f"| {members} | {over:+.1%} | {moved:.3%} | {due:.3%} | {vain:.3%} | {took:.2f} s |"
    yield ""
    yield "| one gateway of many dies, ECMP | clients that meet another gateway | clients that meet another member |"
    yield "|---|---|---|"
    for resilient, name in ((False, "modulo"), (True, "resilient")):
        gateway, member = moved_share(site, resilient=resilient)
        yield f"| {name} | {gateway:.2%} | {member:.3%} ({round(member * site.clients):,}) |"


def calculated(site: Site, measured: Measured) -> Iterator[str]:
    """The lines of the calculated part: one gateway alone, and one of many, and one of many less one."""
    yield "| one gateway's part | alone | of 2 | of 10 | of 100 |"
    yield "|---|---|---|---|---|"
    parts = (1, 2, 10, site.gateways)
    held = site.clients * site.connections_each
    rows: dict[str, Callable[[int], float]] = {
        "clients": lambda n: site.clients / n,
        "memory for pins, MB": lambda n: site.clients / n * measured.pin_bytes / 1e6,
        "connections held": lambda n: held / n,
        "memory for connections, MB": lambda n: held / n * measured.connection_bytes / 1e6,
        "pins put back after a flush, s": lambda n: site.clients / n / 1e6 * measured.restore_seconds,
        "all clients connect anew, s": lambda n: held / n / measured.connections_per_second,
        "all clients ask the endpoint mapper, s": lambda n: site.clients / n / measured.mapper_per_second,
    }
    for name, value in rows.items():
        yield f"| {name} | " + " | ".join(_short(value(n)) for n in parts) + " |"
    yield ""
    probes = site.members * 3
    yield (
        f"Probes: {site.members} members x 3 services each second cost a gateway "
        f"{probes / 600 * measured.probe_share:.0%} of one core; a member is asked {3 * site.gateways} times a second "
        f"by {site.gateways} gateways."
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="casarray.lab.bench.scale", description=__doc__)
    parser.add_argument("--results", type=Path, help="the JSON of a benchmark run; without it nothing is calculated")
    parser.add_argument("--clients", type=int, default=10_000_000)
    arguments = parser.parse_args()
    site = Site(clients=arguments.clients)
    print("\n".join(simulated(site)))
    if arguments.results:
        measured = Measured.read(json.loads(arguments.results.read_text()))
        print()
        print("\n".join(calculated(site, measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
