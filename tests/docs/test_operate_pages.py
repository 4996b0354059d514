"""The manual says what the code does: its tables are made from the code's.

CASARRAY_UPDATE_GOLDEN=1 writes the generated parts anew; the words around them are written by hand.
"""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from casarray.adapters.referral_metrics import MEANINGS as REFERRAL_MEANINGS
from casarray.app.counters import MAPPER_EVENTS, METRICS, RPC_HTTP_EVENTS
from casarray.core.config_file import load_config
from casarray.core.config_keys import TABLES
from casarray.core.config_table import Table
from casarray.core.kerberos.agent_config import AGENT_TABLES, load_agent
from casarray.core.profiles import PROFILES, WELL_KNOWN
from casarray.faces.cli.app import cli

PAGES = Path(__file__).parent.parent.parent / "docs" / "operate"


def cell(text: str) -> str:
    """Text that cannot end its cell."""
    return text.replace("|", "\\|")


def table(headers: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(cell(c) for c in line) + " |" for line in lines)


def keys_of(part: Table) -> str:
    """The section of one table of the file."""
    rows = []
    for key in part.keys:
        default = part.default_of(key)
        if (
            not key.required
            and re.match(r'^["\[\d-]|^(true|false)$', default)
            and "`" not in default
            and ";" not in default
        ):
            default = f"`{default}`"
        rows.append([f"`{key.name}`", "required" if key.required else default, f"`{key.example}`", key.meaning])
    return f"### `{part.header}`\n\n{part.meaning}\n\n{table(['key', 'default', 'example', 'meaning'], rows)}\n"


def profiles() -> str:
    """The profiles and their services."""
    parts = []
    for profile in PROFILES.values():
        rows = []
        for s in profile.services:
            asked = f" `{s.path}` ({', '.join(map(str, s.status))})" if s.probe in ("http", "https") else ""
            remark = "endpoint mapper" if s.mapper else "" if s.required else "not required"
            rows.append([f"`{s.name}`", str(s.port or "dynamic"), f"`{s.group}`", f"`{s.probe}`{asked}", remark])
        shown = table(["service", "port", "group", "probe", ""], rows)
        parts.append(f"### Profile `{profile.name}`\n\n{profile.meaning}\n\n{shown}\n")
    rows = [[f"`{s.name}`", str(s.port), f"`{s.group}`", f"`{s.probe}`"] for s in WELL_KNOWN.values()]
    known = table(["service", "port", "group", "probe"], rows)
    return "\n".join(parts) + f"\n### Services that need only a name\n\n{known}\n"


def commands() -> str:
    """The commands with their options."""
    parts = []
    root = get_command(cli)
    for path, command in sorted(_leaves((), root), key=lambda leaf: leaf[0]):
        name = " ".join(("casarray", *path))
        parts.append(f"### `{name}`\n\n{_paragraph(command.help)}\n")
        rows = []
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                rows.append([f"`{parameter.metavar or parameter.name.upper()}`", parameter.help or ""])
            elif "--help" not in parameter.opts:
                words = ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))
                rows.append([words, parameter.help or ""])
        example = (command.epilog or "").removeprefix("Example:").strip()
        parts.append(f"{table(['option', 'meaning'], rows)}\n\n```sh\n{example}\n```\n")
    return "\n".join(parts)


def _paragraph(text: str | None) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text or "")


def _leaves(path: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words; typer's own copy of click has no public types."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _leaves((*path, name), inner)
    else:
        yield path, command


def metrics() -> str:
    """The metrics and the events of the endpoint mapper."""
    rows = [[f"`{m.name}`", m.kind, m.unit, ", ".join(f"`{label}`" for label in m.labels), m.meaning] for m in METRICS]
    events = [
        [f"`{event.partition(':')[0]}`", f"`{event.partition(':')[2]}`" if ":" in event else "", meaning]
        for event, meaning in MAPPER_EVENTS.items()
    ]
    events.append(["`wire_error`", "the kind", "connections closed because of bytes that cannot be right"])
    by_http = [
        [f"`{event.partition(':')[0]}`", f"`{event.partition(':')[2]}`" if ":" in event else "", meaning]
        for event, meaning in RPC_HTTP_EVENTS.items()
    ]
    by_http.append(["`wire_error`", "the kind", "connections closed because of bytes that cannot be right"])
    return (
        f"{table(['metric', 'type', 'unit', 'labels', 'meaning'], rows)}\n\n"
        f"### Events of the endpoint mapper\n\n{table(['event', 'kind', 'meaning'], events)}\n\n"
        f"### Events of the RPC proxy\n\n{table(['event', 'kind', 'meaning'], by_http)}\n"
    )


GENERATED = {
    ("configuration.md", "keys"): lambda: "\n".join(keys_of(part) for part in TABLES),
    ("agent.md", "agent"): lambda: "\n".join(keys_of(part) for part in AGENT_TABLES),
    ("configuration.md", "profiles"): profiles,
    ("commands.md", "commands"): commands,
    ("metrics.md", "metrics"): metrics,
}


@pytest.mark.parametrize(("page", "part"), GENERATED)
def test_the_manual_is_what_the_code_is(page: str, part: str) -> None:
    wanted = f"<!-- {part}: generated, see tests/docs -->\n\n{GENERATED[page, part]()}\n<!-- end of {part} -->"
    file = PAGES / page
    text = file.read_text()
    pattern = re.compile(rf"<!-- {part}: .*?<!-- end of {part} -->", re.DOTALL)
    if "CASARRAY_UPDATE_GOLDEN" in os.environ:
        text = pattern.sub(lambda _: wanted, text)
        file.write_text(text)
    assert wanted in text


def test_every_example_of_a_configuration_in_the_manual_is_right() -> None:
    examples = [
        text for page in PAGES.glob("*.md") for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    assert examples
    for text in examples:
        if "[gateway]" in tomllib.loads(text) or "[[site]]" in text:
            load_config(text)
        if "agent" in tomllib.loads(text):
            load_agent(text, hostname="cas1.domain.tld")


def test_every_metric_is_named_with_its_unit_as_prometheus_wants_it() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"casarray_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        for unit in ("seconds", "bytes"):
            assert (metric.unit == unit) == (unit in metric.name), metric.name


def test_every_metric_mentioned_in_the_manual_exists() -> None:
    known = (
        {metric.name for metric in METRICS}
        | set(REFERRAL_MEANINGS)
        | {
            "casarray_agent_stale",
            "casarray_agent_unknown",
            "casarray_agent_key",
            "casarray_agent_clock_skew_seconds",
        }
    )
    for page in PAGES.glob("*.md"):
        mentioned = set(re.findall(r"casarray_[a-z_]+", page.read_text()))
        assert mentioned - known - {"casarray_"} == set(), page.name


def test_every_metric_of_the_referral_is_explained() -> None:
    page = (PAGES / "referral.md").read_text()
    assert [name for name in REFERRAL_MEANINGS if name not in page] == []
