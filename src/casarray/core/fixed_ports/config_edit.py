"""Sets a service's port in the text of a configuration file and leaves every other character of it as it is.

The text is changed by line, as an administrator would do it, and then read again: when it does not say exactly what was
wanted (a file may be written in ways that nobody foresaw), nothing is changed and the reader is told what to write.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from casarray.core.errors import ConfigError
from casarray.core.toml_lines import key_lines

_PORT = re.compile(r"^(\s*port\s*=\s*)[0-9_xXa-fA-F]+")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_NAME = re.compile(r"^(\s*)name\s*=")


def with_ports(text: str, file: str, array: str, ports: Iterable[tuple[str, int]]) -> str:
    """The text in which this array has these services on these ports. ``file`` is for the message alone."""
    for service, port in ports:
        text = _with_port(text, file, array, service, port)
    return text


def _with_port(text: str, file: str, array: str, service: str, port: int) -> str:
    wanted = tomllib.loads(text)
    index = next(i for i, table in enumerate(wanted["array"]) if table["name"] == array)
    tables = wanted["array"][index].setdefault("service", [])
    at = next((i for i, table in enumerate(tables) if table["name"] == service), None)
    lines = _LINE.findall(text)
    places = key_lines(text)
    mine = ("array", index, "service")
    if at is None:
        tables.append({"name": service, "port": port})
        block = f'[[array.service]]\nname = "{service}"\nport = {port}\n'
        changed = _insert(lines, _end_of(places, index, lines), f"\n{block}")
    elif "port" in tables[at]:
        tables[at]["port"] = port
        changed = _replace(lines, places.get((*mine, at, "port"), 0), port)
    else:
        tables[at]["port"] = port
        changed = _add_port(lines, places.get((*mine, at, "name"), 0), port)
    if _read(changed) != wanted:
        raise ConfigError(
            f"{file} is written in a way that is not changed by itself; write this below the array {array}:\n"
            f'[[array.service]]\nname = "{service}"\nport = {port}'
        )
    return changed


def _read(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except ValueError:
        return None


def _replace(lines: list[str], number: int, port: int) -> str:
    """With another number on the line ``port = 5001   # why``."""
    if number:
        lines = [*lines]
        lines[number - 1] = _PORT.sub(rf"\g<1>{port}", lines[number - 1])
    return "".join(lines)


def _add_port(lines: list[str], number: int, port: int) -> str:
    """With a port on the line below the service's name."""
    found = _NAME.match(lines[number - 1]) if number else None
    return _insert(lines, number, f"{found[1]}port = {port}\n") if found else "".join(lines)


def _end_of(places: Mapping[tuple[str | int, ...], int], index: int, lines: list[str]) -> int:
    """How many lines there are up to the end of the array, without the comments and blanks before what follows."""
    last = max(line for path, line in places.items() if path[:2] == ("array", index))
    after = [line for path, line in places.items() if line > last and path[:2] != ("array", index)]
    end = min(after) - 1 if after else len(lines)
    while end > last and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return end


def _insert(lines: list[str], after: int, block: str) -> str:
    before = "".join(lines[:after])
    newline = "\r\n" if "\r\n" in before else "\n"
    lead = "" if before.endswith("\n") else newline
    return before + lead + block.replace("\n", newline) + "".join(lines[after:])
