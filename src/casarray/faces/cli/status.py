"""`status` and `explain`: what a gateway does, and why a client is where it is."""

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from casarray.app.operations import (
    ArrayStatus,
    DirectoryStatus,
    Explanation,
    FastPathStatus,
    GroupExplanation,
    GroupStatus,
    MemberStatus,
    Status,
)
from casarray.core.config import Wish
from casarray.faces.cli.options import AsJson, Control
from casarray.faces.cli.output import BAD, CAUTION, DIM, GOOD, count, percent, print_json, show, size, span, table
from casarray.faces.cli.world import gateway


def add_to(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command("status", epilog="Example:  casarray status --json | jq .arrays[0].ready")(show_status)
    cli.command("explain", epilog="Example:  casarray explain 10.11.0.7")(explain)


def show_status(context: typer.Context, control: Control = None, as_json: AsJson = False) -> None:
    """Show the arrays, their servers and what they carry."""
    status = gateway(context, control).status()
    if as_json:
        print_json(status)
    else:
        show(_status(status))


def explain(
    context: typer.Context,
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="The address of a client.", show_default=False)],
    array: Annotated[str | None, typer.Option("--array", metavar="NAME", help="Only this array.")] = None,
    control: Control = None,
    as_json: AsJson = False,
) -> None:
    """Say which server a client is led to, why, and until when."""
    explanation = gateway(context, control).explain(client, array)
    if as_json:
        print_json(explanation)
    else:
        show(_explanation(explanation))


def gateway_line(status: Status) -> Text:
    """The gateway in one line."""
    gate = status.gateway
    age, memory = span(gate.uptime_seconds), size(gate.rss_bytes)
    return Text.assemble(
        (gate.name, "bold"),
        f"  {gate.mode}, {gate.return_path}  casarray {gate.version}, pid {gate.pid}, up {age}, {memory}",
    )


def directory_line(directory: DirectoryStatus) -> Text:
    """Where arrays and servers come from, and how fresh that is."""
    if directory.reachable:
        state = ("in reach", GOOD)
        rest = f", seen {span(directory.age_seconds)} ago, revision {directory.revision}"
    else:
        state = ("OUT OF REACH", BAD)
        rest = f", going on with what it held {span(directory.age_seconds)} ago: {directory.reason}"
    return Text.assemble("directory ", (directory.store, "bold"), "  ", state, rest)


def array_lines(array: ArrayStatus) -> list[Text]:
    """An array in one line, and in another whether it has a fast path."""
    if array.panic:
        ready = ("every server looks down; the last known good ones are kept in use", BAD)
    else:
        ready = ("ready", GOOD) if array.ready else ("NOT READY", BAD)
    where = f"  {array.fqdn} at {', '.join(array.addresses)}, site {array.site}  "
    lines = [Text.assemble((array.name, "bold"), where, ready)]
    if array.fast_path is not None:
        lines.append(_fast_path_line(array.fast_path))
    return lines


def _fast_path_line(fast_path: FastPathStatus) -> Text:
    if fast_path.interfaces:
        where = ", ".join(fast_path.interfaces)
        return Text.assemble("  fast path over ", (where, "bold"), f": {count(fast_path.packets)} packets")
    return Text.assemble("  fast path ", ("off", CAUTION), f": {fast_path.reason}")


def group_line(group: GroupStatus) -> Text:
    """A group in one line."""
    ports = [str(port) for port in group.ports] + (["dynamic"] if group.dynamic else [])
    return Text.assemble(
        "group ", (group.name, "bold"), f"  ports {', '.join(ports)}; {count(group.pins)} pinned clients"
    )


def state_cell(member: MemberStatus) -> Text:
    """What the operator wants of it, with the deadline of a drain."""
    text = member.state.value
    if member.deadline_seconds is not None:
        text += f" ({span(member.deadline_seconds)} left)"
    return Text(text, "" if member.state is Wish.ACTIVE else CAUTION)


def used_cell(member: MemberStatus) -> Text:
    """Whether clients are led to it."""
    return Text("yes", GOOD) if member.eligible else Text("no", BAD if member.state is Wish.ACTIVE else DIM)


def services_cell(member: MemberStatus) -> Text:
    """Each service with the latency of its probe."""
    text = Text()
    for number, service in enumerate(member.services):
        latency = f" {service.latency_ms:.1f}ms" if service.up and service.latency_ms is not None else ""
        text.append(", " if number else "")
        text.append(f"{service.name}{latency}" if service.up else f"{service.name} DOWN", "" if service.up else BAD)
    return text


def reasons(group: GroupStatus) -> list[Text]:
    """In words, whatever is not as it should be."""
    lines = []
    for member in group.members:
        words = [member.reason] if member.reason else []
        words += [s.reason for s in member.services if not s.up and s.reason and s.reason not in words]
        subject = f"{member.name} "  # probes' reasons are whole sentences
        lines += [Text(word if word.startswith(subject) else f"{member.name}: {word}", CAUTION) for word in words]
    return lines


def _status(status: Status) -> Group:
    parts: list[RenderableType] = [gateway_line(status)]
    if status.directory is not None:
        parts.append(directory_line(status.directory))
    for array in status.arrays:
        parts += [Text(), *array_lines(array)]
        for group in array.groups:
            parts.append(Padding(_group(group), (0, 0, 0, 2)))
        if any(array.mapper.values()):
            mapper = ", ".join(f"{count(n)} {event.replace('_', ' ')}" for event, n in array.mapper.items() if n)
            parts.append(Text(f"  endpoint mapper: {mapper}", DIM))
    if not status.arrays:
        parts.append(Text("no arrays are configured"))
    if status.warnings:
        parts += [Text(), *(Text(f"warning: {warning}", CAUTION) for warning in status.warnings)]
    return Group(*parts)


def _group(group: GroupStatus) -> Group:
    rows = [
        (
            member.name,
            state_cell(member),
            used_cell(member),
            span(member.since_seconds),
            percent(member.share),
            count(member.connections),
            count(member.new_connections),
            services_cell(member),
        )
        for member in group.members
    ]
    columns = ("SERVER", "STATE", "USED", "SINCE", "SHARE", "CONNECTIONS", "TOTAL", "SERVICES")
    shown = table(columns, rows, numbers=("SINCE", "SHARE", "CONNECTIONS", "TOTAL"))
    return Group(group_line(group), Padding(Group(shown, *reasons(group)), (0, 0, 0, 2)))


def _explanation(explanation: Explanation) -> Group:
    parts: list[RenderableType] = []
    for array in explanation.arrays:
        parts.append(Text.assemble((explanation.client, "bold"), f" in {array.array} ({array.fqdn})"))
        parts += [Padding(_explained(group), (0, 0, 0, 2)) for group in array.groups]
    return Group(*parts)


def _explained(group: GroupExplanation) -> Group:
    led = (f"is led to {group.member}", GOOD) if group.member else ("is refused", BAD)
    lines = [Text.assemble("group ", (group.group, "bold"), ": ", led), Text(f"  {group.reason}")]
    if group.pinned_seconds is not None:
        lines.append(Text(f"  pinned for {span(group.pinned_seconds)} more, and longer with every new connection"))
    if group.slot is not None:
        lines.append(Text(f"  slot {group.slot}", DIM))
    lines += [Text(f"  else {other.member}: {other.reason}", DIM) for other in group.alternatives]
    return Group(*lines)
