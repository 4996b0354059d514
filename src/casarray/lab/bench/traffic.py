"""Measurements with traffic: every peer in turn, again and again, in one run."""

import time
from dataclasses import dataclass, field
from statistics import median

from casarray.lab.bench import kernel, load
from casarray.lab.bench.figure import Figure, Say, Scale
from casarray.lab.bench.peers import Casarray, Peer, Running, all_peers, bulk_servers, web_servers
from casarray.lab.bench.topology import Ground

CONNECTIONS = 64  # at once, over all client addresses
PROCESSES = 8  # load generators, each with an address of its own
PACE_MS = 4  # latency: the mean pause of a connection before its next request
DISTURBED = 0.1  # a measurement is repeated when others used more of the processors than this,
ATTEMPTS = 3  # so often; the least disturbed one counts
KINDS = ("requests", "bulk", "connections", "latency")


@dataclass(slots=True)
class Traffic:
    """The rounds of all peers, made once for all figures that need them."""

    ground: Ground
    scale: Scale
    say: Say
    kinds: tuple[str, ...] = KINDS
    figures: dict[str, Figure] = field(default_factory=dict)
    others: dict[str, list[float]] = field(default_factory=dict)  # the part of the processors that others used
    paced: int = 0  # connections in use for latency, so many that the pauses make up half of routing's load

    def run(self) -> dict[str, Figure]:
        """All rounds, if they were not made before."""
        if self.figures:
            return self.figures
        self.figures = {
            "requests": Figure("requests", "keep-alive requests", "requests/s"),
            "bulk": Figure("bulk", "bulk throughput", "Gbit/s"),
            "connections": Figure("connections", "new connections", "connections/s"),
            "latency": Figure("latency", "latency p50 at half load", "us"),
            "latency99": Figure("latency99", "latency p99 at half load", "us"),
            "achieved": Figure("achieved", "requests at half load", "requests/s"),
        }
        with web_servers(self.ground), bulk_servers(self.ground):
            peers = all_peers()
            for turn in range(self.scale.rounds):
                for peer in peers if turn % 2 == 0 else peers[:1] + peers[:0:-1]:
                    self._turn(peer)
        for name, shares in self.others.items():
            self.figures[name].notes.append(
                f"others used {median(shares):.0%} of the processors meanwhile (median; at most {max(shares):.0%})"
            )
        return self.figures

    def _turn(self, peer: Peer) -> None:
        with peer.turn(self.ground) as running:
            said = []
            for kind in self.kinds:
                values, others = self._undisturbed(kind, running)
                for name, value in values.items():
                    self.figures[name].add(peer.name, value)
                    self.others.setdefault(name, []).append(others)
                said += [f"{name} {value:,.1f}" for name, value in values.items()]
            self.say(f"{peer.title}: {', '.join(said)}")

    def _undisturbed(self, kind: str, running: Running) -> tuple[dict[str, float], float]:
        """What is measured while others leave the machine alone, or as nearly so as it was seen in a few attempts."""
        found: list[tuple[float, dict[str, float]]] = []
        for _ in range(ATTEMPTS if self.scale.judged else 1):
            others = kernel.Others(list(self.ground.lab.namespaces.values()))
            values = self._measure(kind, running)
            found.append((others.share(), values))
            if found[-1][0] <= DISTURBED:
                break
        share, values = min(found, key=lambda one: one[0])
        return values, share

    def _measure(self, kind: str, running: Running) -> dict[str, float]:
        if kind == "bulk":
            return {"bulk": bulk(running, self.scale)}
        if kind == "connections":
            return {"connections": connections(running, self.scale, self._note_errors)}
        if kind == "requests":
            return {"requests": requests(running, self.scale, self._note_errors)}
        if not self.paced:
            full = self.figures["requests"].samples.get("routing") or [requests(running, self.scale, self._note_errors)]
            self.paced = max(PROCESSES, round(median(full) / 2 * (PACE_MS / 1000) / PROCESSES) * PROCESSES)
        seen = load.requests(running, self.scale.seconds, connections=self.paced, processes=PROCESSES, pace_ms=PACE_MS)
        return {"latency": seen.percentile(0.5), "latency99": seen.percentile(0.99), "achieved": seen.per_second}

    def _note_errors(self, errors: int) -> None:
        if errors:
            self.say(f"  {errors} errors")


def requests(running: Running, scale: Scale, errors: load.Noting | None = None) -> float:
    """Keep-alive requests a second."""
    if scale.warm:
        load.requests(running, scale.warm, connections=CONNECTIONS, processes=PROCESSES)
    seen = load.requests(running, scale.seconds, connections=CONNECTIONS, processes=PROCESSES)
    if errors:
        errors(seen.errors)
    return seen.per_second


def connections(running: Running, scale: Scale, errors: load.Noting | None = None) -> float:
    """Connections a second, one request on each."""
    if scale.warm:
        load.requests(running, scale.warm, connections=CONNECTIONS, processes=PROCESSES, close=True)
    seen = load.requests(running, scale.seconds, connections=CONNECTIONS, processes=PROCESSES, close=True)
    if errors:
        errors(seen.errors)
    return seen.per_second


def bulk(running: Running, scale: Scale) -> float:
    """Gbit/s."""
    return load.bulk(running, scale.seconds)


def requests_figure(traffic: Traffic) -> Figure:
    """Keep-alive requests a second beside the others."""
    figure = traffic.run()["requests"]
    figure.at_least("of routing", figure.ratio("kernel", "routing"), 0.97)
    figure.at_least("of routing with connection tracking", figure.ratio("kernel", "tracked"), 0.97)
    figure.at_least("of HAProxy", figure.ratio("kernel", "haproxy"), 1.6)
    figure.at_least("of nginx stream", figure.ratio("kernel", "nginx"), 1.6)
    return figure


def bulk_figure(traffic: Traffic) -> Figure:
    """Bulk throughput beside the others."""
    figure = traffic.run()["bulk"]
    figure.at_least("of routing", figure.ratio("kernel", "routing"), 0.97)
    figure.at_least("of routing with connection tracking", figure.ratio("kernel", "tracked"), 0.97)
    figure.at_least("of HAProxy", figure.ratio("kernel", "haproxy"), 2.5)
    return figure


def connections_figure(traffic: Traffic) -> Figure:
    """New connections a second beside the others."""
    figure = traffic.run()["connections"]
    figure.at_least("of routing", figure.ratio("kernel", "routing"), 0.95)
    figure.at_least("of routing with connection tracking", figure.ratio("kernel", "tracked"), 0.95)
    figure.at_least("of HAProxy", figure.ratio("kernel", "haproxy"), 1.1)
    return figure


def latency_figure(traffic: Traffic) -> Figure:
    """Latency at half of routing's load, p99; p50 and what load was reached are told beside it."""
    figures = traffic.run()
    figure = figures["latency99"]
    figure.name = "latency"
    figure.at_most("p99 of routing's", figure.ratio("kernel", "routing"), 1.10)
    for who in figure.samples:
        figure.notes.append(
            f"{who}: p50 {figures['latency'].median(who):,.0f} us at {figures['achieved'].median(who):,.0f} requests/s"
        )
    return figure


def userspace_figure(traffic: Traffic) -> Figure:
    """What userspace mode reaches of HAProxy."""
    figures = traffic.run()
    figure = Figure("userspace", "userspace mode beside HAProxy", "share of HAProxy")
    for name in ("requests", "bulk"):
        one = figures[name]
        pairs = zip(one.samples["userspace"], one.samples["haproxy"], strict=True)
        figure.samples[name] = [mine / theirs for mine, theirs in pairs]
        figure.at_least(f"{name}, of HAProxy", one.ratio("userspace", "haproxy"), 0.5)
    return figure


def pins_figure(ground: Ground, scale: Scale, say: Say) -> Figure:
    """Requests, bulk and new connections with a full table, beside the same table when empty.

    Both halves of a pair are taken of one and the same table, one straight after the other, and which comes first
    changes from round to round. The program is not running: it would put right what is done to its table here.
    """
    figure = Figure("pins", f"with {scale.pins:,} pins, {scale.members} members, {scale.slots:,} slots", "of none")
    data = kernel.pins_of(scale.pins, scale.members)
    seen: dict[str, dict[str, list[float]]] = {"none": {}, "full": {}}
    peer = Casarray(name="full", members=scale.members, slots=scale.slots)
    with web_servers(ground), bulk_servers(ground), peer.turn(ground) as running:
        assert running.program is not None
        running.program.kill()
        running.program.wait()
        for turn in range(max(1, scale.rounds - 1)):  # an even number, so that each half comes first as often
            for state in ("none", "full") if turn % 2 == 0 else ("full", "none"):
                kernel.flush_pins(running.gateway)
                if state == "full":
                    kernel.load_pins(running.gateway, data)
                time.sleep(0.2)  # what was freed is freed after a grace period
                seen[state].setdefault("requests", []).append(requests(running, scale))
                seen[state].setdefault("bulk", []).append(bulk(running, scale))
                seen[state].setdefault("connections", []).append(connections(running, scale))
            say("; ".join(f"{kind} {v[-1]:,.1f} of {seen['none'][kind][-1]:,.1f}" for kind, v in seen["full"].items()))
    for kind, full in seen["full"].items():
        figure.samples[kind] = [a / b for a, b in zip(full, seen["none"][kind], strict=True)]
        figure.notes.append(
            f"{kind}: {median(full):,.1f} with pins, {median(seen['none'][kind]):,.1f} without (medians)"
        )
        figure.at_least(f"{kind}, of none", median(figure.samples[kind]), 0.97)
    return figure


def growth_figure(ground: Ground, scale: Scale, say: Say) -> Figure:
    """Cost by the number of members and of pins: new connections a second, the figure that meets every lookup."""
    figure = Figure("growth", "new connections by members and pins", "connections/s")
    rounds = max(1, scale.rounds // 2)
    with web_servers(ground):
        for _ in range(rounds):
            for members in scale.growth_members:
                with Casarray(name="growth", members=members).turn(ground) as running:
                    figure.add(f"{members} members", connections(running, scale))
                    if members == scale.growth_members[-1]:
                        figure.notes.append(f"ready after {running.ready_seconds:.2f} s with {members} members")
            with Casarray(name="growth", members=scale.members).turn(ground) as running:
                assert running.program is not None
                running.program.kill()
                running.program.wait()
                for count in scale.growth_pins:
                    kernel.flush_pins(running.gateway)
                    kernel.load_pins(running.gateway, kernel.pins_of(count, scale.members))
                    figure.add(f"{count:,} pins", connections(running, scale))
                    micros = kernel.lookup_micros(running.gateway)
                    figure.notes.append(
                        f"{count:,} pins: a pin is looked up in {micros:.0f} us, written in "
                        f"{kernel.write_micros(running.gateway):.0f} us"
                    )
            say(", ".join(f"{who} {values[-1]:,.0f}" for who, values in figure.samples.items()))
    most, few = f"{scale.growth_pins[-1]:,} pins", f"{scale.growth_pins[0]:,} pins"
    figure.at_least("most pins, of none", figure.ratio(most, few), 0.95)
    many, one = (f"{n} members" for n in (scale.growth_members[-1], scale.growth_members[0]))
    figure.at_least("most members, of one", figure.ratio(many, one), 0.9)
    return figure
