"""Measures the array beside routing, HAProxy and nginx, in network namespaces; leaves nothing behind.

python -m casarray.lab.bench                      everything, some twenty minutes
python -m casarray.lab.bench --quick              everything, barely: that it works, not how fast it is
python -m casarray.lab.bench --only requests --only bulk --rounds 9
python -m casarray.lab.bench --json results.json --report docs/performance.md
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from casarray.core.errors import CasarrayError
from casarray.lab.bench import kernel, program, report, traffic
from casarray.lab.bench.figure import Figure, Say, Scale, from_json
from casarray.lab.bench.topology import Ground
from casarray.lab.bench.traffic import Traffic
from casarray.lab.netns import missing

TRAFFIC: Mapping[str, tuple[Callable[[Traffic], Figure], tuple[str, ...]]] = {
    "requests": (traffic.requests_figure, ("requests",)),
    "bulk": (traffic.bulk_figure, ("bulk",)),
    "connections": (traffic.connections_figure, ("connections",)),
    "latency": (traffic.latency_figure, ("requests", "latency")),
    "userspace": (traffic.userspace_figure, ("requests", "bulk")),
}
OTHERS: Mapping[str, Callable[[Ground, Scale, Say], Figure]] = {
    "idle": program.idle_figure,
    "pins": traffic.pins_figure,
    "restore": program.restore_figure,
    "verdict": program.verdict_figure,
    "mapper": program.mapper_figure,
    "probes": program.probes_figure,
    "start": program.start_figure,
    "growth": traffic.growth_figure,
}


def measure(names: list[str], scale: Scale, say: Say) -> list[Figure]:
    """These figures, in the order of the table."""
    kinds = {kind for name in names if name in TRAFFIC for kind in TRAFFIC[name][1]}
    found = []
    with Ground() as ground:
        rounds = Traffic(ground, scale, say, tuple(kind for kind in traffic.KINDS if kind in kinds))
        for name in (*TRAFFIC, *OTHERS):
            if name not in names:
                continue
            say(f"-- {name}")
            found.append(TRAFFIC[name][0](rounds) if name in TRAFFIC else OTHERS[name](ground, scale, say))
            if not scale.judged:
                continue
            say(report.table(found[-1:]))
    return found


def with_earlier(found: list[Figure], earlier: Path) -> list[Figure]:
    """These figures, and those of the earlier run that are not among them, in the order of the table."""
    known = {figure["name"]: from_json(figure) for figure in json.loads(earlier.read_text())["figures"]}
    for figure in known.values():
        figure.notes.append("measured in an earlier run")
    known |= {figure.name: figure for figure in found}
    return [known[name] for name in (*TRAFFIC, *OTHERS) if name in known]


def _interrupted(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main() -> int:
    """The command line. 0: measured; 1: something failed; 3: measured, and a goal is missed; 130: interrupted."""
    names = [*TRAFFIC, *OTHERS]
    parser = argparse.ArgumentParser(
        prog="script/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="barely measure: that it works, within two minutes")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--rounds", type=int, help="how often each peer has its turn (default 5)")
    parser.add_argument("--seconds", type=float, help="how long each measurement takes (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write a page, with plots and JSON in a folder beside it"
    )
    parser.add_argument(
        "--also", type=Path, metavar="FILE", help="take what is not measured now from this earlier JSON"
    )
    arguments = parser.parse_args()
    scale = Scale.quick() if arguments.quick else Scale()
    scale = replace(scale, rounds=arguments.rounds or scale.rounds, seconds=arguments.seconds or scale.seconds)
    if reason := missing():
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGHUP, _interrupted)
    others = [kernel.busy_share(2.0 if scale.judged else 0.1)]
    began = time.monotonic()
    try:
        found = measure(arguments.only or names, scale, lambda line: print(line, file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        print("bench: interrupted; everything is taken away", file=sys.stderr)
        return 130
    except CasarrayError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - began
    others.append(kernel.busy_share(2.0 if scale.judged else 0.1))
    if arguments.also:
        found = with_earlier(found, arguments.also)
    print(report.table(found, judged=scale.judged))
    if arguments.json:
        arguments.json.write_text(json.dumps(report.as_json(found, scale, seconds, others), indent=1) + "\n")
    if arguments.report:
        report.write_page(arguments.report, found, scale, seconds, others)
    return 3 if scale.judged and not all(figure.met for figure in found) else 0


if __name__ == "__main__":
    sys.exit(main())
