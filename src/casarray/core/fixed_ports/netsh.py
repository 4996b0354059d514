"""Reads what ``netsh int ipv4 show dynamicport tcp`` prints, in whatever language Windows speaks.

    Protocol tcp Dynamic Port Range          Protokoll tcp Dynamischer Portbereich
    ---------------------------------        ---------------------------------
    Start Port      : 6005                   Startport              : 6005
    Number of Ports : 59530                  Anzahl von Ports       : 59530

The words differ, the order does not: the first number is the start, the second how many. It is not the last port.
"""

import re
from typing import Final

from casarray.core.errors import ConfigError
from casarray.core.fixed_ports.ports import LAST_PORT, DynamicRange
from casarray.core.fixed_ports.text import decode, printable

LARGEST: Final = 64 * 1024  # bytes; the output has five lines

_NUMBER = re.compile(r"[^0-9A-Za-z-]([0-9]{1,9})[ \t]*$")
_PROTOCOL = re.compile(r"\b(tcp|udp)\b", re.IGNORECASE)
_COMMAND = "netsh int ipv4 show dynamicport tcp"


def read_netsh(data: bytes, file: str) -> DynamicRange:
    """The range in the output; `ConfigError` for anything else. ``file`` is for the message alone."""
    if len(data) > LARGEST:
        raise ConfigError(f"{file}: {len(data)} bytes are no output of netsh; write that of {_COMMAND} into it")
    numbers: list[int] = []
    of_tcp = True
    for line in re.split(r"\r\n|\n|\r", decode(data)):
        found = _NUMBER.search(line)
        if found is None:
            protocol = _PROTOCOL.search(line)
            # The command itself may stand in the file, with its prompt; it names a protocol as well, the right one.
            of_tcp = of_tcp if protocol is None else protocol[1].lower() == "tcp"
        elif of_tcp:
            numbers.append(int(found[1]))
    if len(numbers) != 2:
        raise ConfigError(
            f"{file}: {len(numbers) or 'no'} number{'s' * (len(numbers) != 1)} for TCP, and netsh prints two, the "
            f"first port and how many; write the output of {_COMMAND} into it"
        )
    return _checked(DynamicRange(*numbers), file)


def _checked(found: DynamicRange, file: str) -> DynamicRange:
    if not (1 <= found.start <= LAST_PORT and found.count >= 1 and found.last <= LAST_PORT):
        raise ConfigError(
            f"{file}: {printable(str(found.count))} ports from {found.start} on are more than there are (the second "
            f"number is how many, not the last port); write the output of {_COMMAND} into it"
        )
    return found
