"""What was measured, for people: a table on the terminal, a page with plots, and the raw numbers as JSON."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from casarray.lab.bench.figure import Figure, Scale, number

PLOTTED = ("requests", "bulk", "connections", "latency", "idle", "growth")
_COLOURS = {
    "routing": "#8a8f98",
    "tracked": "#b9bdc4",
    "haproxy": "#d98c3f",
    "nginx": "#5f9e6e",
    "kernel": "#2f6db5",
    "netfilter": "#5a90cf",
    "userspace": "#86b3e0",
}


def table(figures: Sequence[Figure], *, judged: bool = True) -> str:
    """One block for each figure: medians with their spread, then the goals."""
    lines = []
    for figure in figures:
        lines.append(f"{figure.title} [{figure.unit}]")
        for who, values in figure.samples.items():
            lines.append(
                f"    {who:<34} {number(figure.median(who)):>12}  +-{figure.spread(who):5.1%}  n={len(values)}"
            )
        lines += [f"    {'met ' if c.met else 'MISSED'} {c}" if judged else f"    {c}" for c in figure.checks]
        lines += [f"    . {note}" for note in dict.fromkeys(figure.notes)]
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """What it was measured on, in words that fit any machine."""
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    versions = {
        "haproxy": ("haproxy", "-v"),
        "nginx": ("nginx", "-v"),
        "wrk": ("wrk", "-v"),
        "iperf3": ("iperf3", "--version"),
        "nft": ("nft", "--version"),
    }
    return {
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory.split()[1]) / 1024 / 1024:.0f} GiB",
        "kernel": "Linux " + ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
        **{name: _version(*command) for name, command in versions.items()},
    }


def _version(*command: str) -> str:
    if not shutil.which(command[0]):
        return "missing"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    words = (done.stdout + done.stderr).split("\n")[0].replace("nginx/", "").replace("debian/", "").split()
    return next((word.strip("v,").split("-")[0] for word in words if any(c.isdigit() for c in word)), "?")


def as_json(figures: Sequence[Figure], scale: Scale, seconds: float, others: Sequence[float] = ()) -> dict[str, Any]:
    """Everything. ``others``: what part of the processors somebody else used, before and after."""
    return {
        "date": date.today().isoformat(),
        "machine": machine(),
        "rounds": scale.rounds,
        "seconds_each": scale.seconds,
        "seconds_in_all": round(seconds),
        "judged": scale.judged,
        "used_by_others": [round(share, 3) for share in others],
        "figures": [figure.as_json() for figure in figures],
    }


def write_page(
    page: Path, figures: Sequence[Figure], scale: Scale, seconds: float, others: Sequence[float] = ()
) -> None:
    """The page, its plots and its raw numbers, the latter two in a folder of the page's name beside it."""
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    found = as_json(figures, scale, seconds, others)
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    plots = [figure for figure in figures if figure.name in PLOTTED and plotted(figure, folder / f"{figure.name}.svg")]
    text = PAGE.format(
        machine=", ".join(f"{name} {value}" for name, value in found["machine"].items()),
        rounds=scale.rounds,
        each=f"{scale.seconds:g}",
        warm=f"{scale.warm:g}",
        minutes=round(seconds / 60),
        date=found["date"],
        folder=folder.name,
        others=" and ".join(f"{share:.0%}" for share in others) or "not looked at",
        caution=CAUTION if any(share > 0.1 for share in others) else "",
        summary=_summary(figures),
        plots="\n\n".join(f"![{f.title}]({folder.name}/{f.name}.svg)" for f in plots),
        details="\n\n".join(_details(figure) for figure in figures),
    )
    page.write_text(text)


def _summary(figures: Sequence[Figure]) -> str:
    lines = ["| figure | measured | goal | met |", "|---|---|---|---|"]
    for figure in figures:
        for check in figure.checks:
            sign = ">=" if check.at_least else "<="
            met = "yes" if check.met else "**no**"
            lines.append(
                f"| {figure.title}: {check.what} | {number(check.value)} | {sign} {number(check.goal)} | {met} |"
            )
    return "\n".join(lines)


def _details(figure: Figure) -> str:
    lines = [
        f"### {figure.title[0].upper()}{figure.title[1:]}",
        "",
        f"| | median, {figure.unit} | spread | samples |",
        "|---|---|---|---|",
    ]
    for who, values in figure.samples.items():
        lines.append(f"| {who} | {number(figure.median(who))} | +- {figure.spread(who):.1%} | {len(values)} |")
    lines += ["", *(f"- {note}" for note in dict.fromkeys(figure.notes))]
    return "\n".join(lines).rstrip()


def plotted(figure: Figure, path: Path) -> bool:
    """Draw the medians as bars, with every sample as a dot. Whether there is something to draw with."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra of the benchmark alone
        from matplotlib import pyplot  # noqa: PLC0415 - a second to load, and an extra
    except ImportError:
        return False
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "casarray"  # the same picture, the same bytes
    who = [name for name in figure.samples if "," not in name and ":" not in name]
    axes = pyplot.subplots(figsize=(7, 0.45 * len(who) + 1.1))[1]
    axes.barh(who, [figure.median(name) for name in who], color=[_COLOURS.get(name, "#2f6db5") for name in who])
    for row, name in enumerate(who):
        axes.plot(figure.samples[name], [row] * len(figure.samples[name]), "|", color="black", markersize=9)
    axes.invert_yaxis()
    axes.set_title(f"{figure.title} [{figure.unit}]", fontsize=10, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    pyplot.tight_layout()
    pyplot.savefig(path, metadata={"Date": None})
    pyplot.close()
    return True


CAUTION = """ **That is too much:** what is limited by the processors (all figures
with traffic, latencies, times) was disturbed, as the spreads show, and is no verdict on a goal, met or missed. Memory
and counts are not concerned. Repeat the run on a machine that is left alone."""

PAGE = """\
# Performance

What the array costs, beside what one would pick instead, measured in one run by `script/bench` ({minutes} minutes). The
numbers are of {date}; [{folder}/results.json]({folder}/results.json) has every sample.

**Machine:** {machine}.

It is virtual, and everything shares it: load generators, servers and the gateway run on the same cores. So a ratio to
plain routing says what the gateway adds to a whole that includes both ends of every connection; on a gateway of its
own the differences between the balancers are larger than here. Of the processors, others used before and after the
run: {others}.{caution}

{summary}

{plots}

## Method

- **Topology:** network namespaces joined by veth pairs without a switch: clients (10.32.0.0/16), a gateway, two hosts
  of servers. Members beyond two are further addresses on these hosts. Every peer gets a *fresh* gateway namespace with
  the same addresses and ports: no conntrack entry, hook or port in TIME_WAIT of one is there for the next.
- **Rounds:** {rounds}, each with every peer in turn, the order reversed every other round; {each} s each, after
  {warm} s of warm-up. Ratios are medians of the ratios within a round; spread is half of what lies between the least
  and the greatest sample.
- **Others on the machine:** a measurement of the first four figures is repeated, at most twice, when others used more
  than a tenth of the processors meanwhile; the least disturbed one counts, and each figure says what others used.
- **Load:** eight `wrk` processes, each from a client address of its own, with 64 connections in all; nginx with an
  answer out of memory on each server host; two `iperf3` clients with two streams each, sending without copying. New
  connections are requests with `Connection: close`, closed by the server. All ephemeral port ranges are 1024-65535.
- **Latency** is taken by wrk with a random pause before each request of each connection (so: not as fast as it can,
  and not in step), at half of the rate that plain routing reached in the first round. The pace is the same for all;
  a peer that cannot keep it up reaches less, as told below.
- **The limit** is the processors, for everybody: they are busy with both ends and the gateway. Nothing waits for a
  network.
- **Plain routing:** the kernel forwards, without conntrack and without any rule; clients name the servers themselves.
- **Routing with connection tracking** (`tracked`): the same with one rule that needs conntrack, as every stateful
  firewall has; what the array adds beyond that is its own.
- **HAProxy:** TCP mode, `nbthread 2`, one listener for each thread, `balance source` with `hash-type consistent`,
  `option splice-auto`, buffers of 64 KiB (with and without splicing, 16 and 64 KiB, one and two threads were tried),
  pipes of 1 MiB, `tcp-smart-accept` and `tcp-smart-connect`, active checks once a second.
- **nginx:** stream module, two workers with `reuseport`, bound to the cores, `hash $remote_addr consistent`, buffers
  of 64 KiB.
- **casarray:** as `casarray run` sets it up, two members, probes once a second. `kernel` and `userspace` are its two
  modes; `netfilter` is kernel mode with `fast_path = false`, so that every packet passes connection tracking and hooks.
  The fast path's own memory, 16 MiB for each array, is there from the start and in no figure by connection or pin.

Run it yourself: `script/bench`, as root; everything happens in namespaces, and nothing is left behind. `--quick` shows
whether it works, `--only NAME` measures some of it, `--rounds N`, `--json FILE`, `--report FILE`.

## Each figure

{details}
"""
