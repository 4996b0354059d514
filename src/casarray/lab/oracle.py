"""Was every client always led to one and the same member? Judged from what clients, servers and faults wrote down.

The invariant: *one client, one member, unless that member was down or drained*. A client may leave a member only when
that member was out at some time between the last sighting of the client there and the first one elsewhere; ``settle``
seconds are added to the end of each time of absence, because a gateway trusts a member again only some probes later.

What a client itself was answered always counts. What a server noted counts unless that server was out at that moment:
a process that was frozen reads, once thawed, what was sent to it before, and the client has long been elsewhere.

    python -m casarray.lab.oracle JOURNAL...      # exit code 1 and the stories if the invariant was broken
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONTEXT_MISMATCH = 0x1C00001A  # the wire symptom of lost affinity: a server is shown a handle that another one issued


@dataclass(frozen=True, slots=True, order=True)
class Sighting:
    """A client was seen at a member."""

    at: float
    client: str
    member: str
    what: str = ""
    by: str = "client"


@dataclass(frozen=True, slots=True)
class Absence:
    """A member was down, drained or cut off."""

    member: str
    since: float
    until: float | None  # None: it still is
    why: str = ""

    def overlaps(self, start: float, end: float, settle: float) -> bool:
        """Whether some of it lies between ``start`` and ``end``."""
        return self.since <= end and (self.until is None or start <= self.until + settle)


@dataclass(frozen=True, slots=True)
class Violation:
    """A client that was led astray, and what is known about it."""

    client: str
    at: float
    story: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Journals:
    """Everything that was written down."""

    sightings: tuple[Sighting, ...] = ()
    absences: tuple[Absence, ...] = ()
    mismatches: tuple[Sighting, ...] = ()  # faults that told a client its handle came from elsewhere
    connections: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the oracle says."""

    sightings: int
    connections: int
    home: Mapping[str, str]  # client -> the member it was seen at last
    moves: Mapping[str, int]  # client -> how often it moved, with a good reason each time
    violations: tuple[Violation, ...]
    reasons: Mapping[str, int] = field(default_factory=dict)  # why a member was out -> how many moves it excused

    @property
    def spread(self) -> Mapping[str, int]:
        """Member -> how many clients live there now."""
        return dict(sorted(Counter(self.home.values()).items()))

    @property
    def held(self) -> bool:
        """The invariant held, and there was something to judge."""
        return not self.violations and self.sightings > 0


@dataclass(slots=True)
class _Track:
    """One client's way, as far as it was followed."""

    member: str
    last: float
    moves: int = 0
    recent: list[Sighting] = field(default_factory=list)


def judge(journals: Journals, settle: float = 5.0) -> Verdict:
    """Follow every client through its sightings in the order of time."""
    absences: dict[str, list[Absence]] = defaultdict(list)
    for absence in journals.absences:
        absences[absence.member].append(absence)
    tracks: dict[str, _Track] = {}
    reasons: Counter[str] = Counter()
    violations = [Violation(m.client, m.at, (_told(m),)) for m in journals.mismatches]
    for seen in sorted(journals.sightings):
        away = absences.get(seen.member, ())
        if seen.by == "server" and any(a.overlaps(seen.at, seen.at, settle) for a in away):
            continue
        track = tracks.setdefault(seen.client, _Track(seen.member, seen.at))
        if seen.member != track.member:
            left = absences.get(track.member, ())
            excuse = next((absence for absence in left if absence.overlaps(track.last, seen.at, settle)), None)
            if excuse is not None:
                track.moves += 1
                reasons[f"{excuse.member} {excuse.why}".strip()] += 1
            else:
                violations.append(Violation(seen.client, seen.at, _story(track, seen, left)))
            track.member = seen.member
        track.last = seen.at
        track.recent = [*track.recent[-4:], seen]
    return Verdict(
        sightings=len(journals.sightings),
        connections=journals.connections,
        home={client: track.member for client, track in tracks.items()},
        moves={client: track.moves for client, track in tracks.items() if track.moves},
        violations=tuple(violations),
        reasons=dict(reasons),
    )


def _told(seen: Sighting) -> str:
    return f"{seen.at:.3f} {seen.client} at {seen.member}: {seen.what} (noted by the {seen.by})"


def _story(track: _Track, seen: Sighting, left: Sequence[Absence]) -> tuple[str, ...]:
    before = [_told(sighting) for sighting in track.recent]
    known = [
        f"{a.since:.3f} {a.member} was {a.why or 'out'} until {'now' if a.until is None else f'{a.until:.3f}'}"
        for a in left
    ]
    return (*before, f"{_told(seen)}  <- here, though {track.member} was there all the time", *known)


def read(paths: Iterable[Path | str]) -> Journals:
    """Read journals; the last line of one whose writer was killed may be cut and is then skipped."""
    sightings: list[Sighting] = []
    mismatches: list[Sighting] = []
    faults: list[Any] = []
    connections = 0
    for line in (line for path in paths for line in _lines(Path(path))):
        match line["by"], line["event"]:
            case ("server", "call") if line.get("id"):
                connections += bool(line.get("first"))  # probes carry no id: they are not counted
                sightings.append(_sighting(line, "server"))
            case ("client", "answered"):
                sightings.append(_sighting(line, "client"))
            case ("client", "fault") if line.get("status") == CONTEXT_MISMATCH:
                mismatches.append(_sighting(line, "client"))
            case ("fault", "out" | "in"):
                faults.append(line)
            case _:
                pass
    return Journals(tuple(sightings), tuple(_absences(faults)), tuple(mismatches), connections)


def _absences(faults: list[Any]) -> Iterator[Absence]:
    """Each time a member went, with the time it came back."""
    gone: dict[tuple[str, str], float] = {}
    for line in sorted(faults, key=lambda line: float(line["at"])):
        member_why = (line["member"], line["why"])
        if line["event"] == "out":
            gone.setdefault(member_why, line["at"])
        elif member_why in gone:
            yield Absence(line["member"], gone.pop(member_why), line["at"], line["why"])
    for (member, why), since in gone.items():
        yield Absence(member, since, None, why)


def _lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            if text.endswith("\n"):
                yield json.loads(text)


def _sighting(line: Any, by: str) -> Sighting:
    what = sys.intern(f"{line.get('service', '?')} {line.get('call', '')}".strip())  # few of them, many times
    client = sys.intern(line.get("id") or line.get("client", "?"))
    return Sighting(line["at"], client, sys.intern(line.get("member", "?")), what, by)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="casarray.lab.oracle", description="one client, one member?")
    parser.add_argument("journals", nargs="+", type=Path)
    parser.add_argument("--settle", type=float, default=5.0, help="seconds until a member that returned is trusted")
    arguments = parser.parse_args()
    verdict = judge(read(arguments.journals), arguments.settle)
    for violation in verdict.violations:
        print(f"{violation.client}:", *violation.story, sep="\n  ", file=sys.stderr)
    print(
        f"{verdict.connections} connections, {verdict.sightings} sightings, {len(verdict.home)} clients on "
        f"{dict(verdict.spread)}, {len(verdict.moves)} moved, {len(verdict.violations)} violations"
    )
    return 0 if verdict.held else 1


if __name__ == "__main__":
    sys.exit(main())
