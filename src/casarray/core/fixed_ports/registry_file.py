"""The registry files that fix the two ports, written and read back.

RPC Client Access reads ``TCP/IP Port``, a DWORD; Address Book (since SP1) reads ``RpcTcpPort``, a string. A value of
another type is as good as none: the service starts on a dynamic port and says nothing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from casarray.core.fixed_ports.ports import LAST_PORT, RpcService
from casarray.core.fixed_ports.registry_text import Value, ValueType, read_registry
from casarray.core.fixed_ports.text import Encoding, encode, printable

HEADER: Final = "Windows Registry Editor Version 5.00"
SERVICES: Final = "HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\services"

_UNDER: Final = {RpcService.RPC: "MSExchangeRPC\\ParametersSystem", RpcService.AB: "MSExchangeAB\\Parameters"}
_NAME: Final = {RpcService.RPC: "TCP/IP Port", RpcService.AB: "RpcTcpPort"}
_TYPE: Final = {RpcService.RPC: ValueType.DWORD, RpcService.AB: ValueType.STRING}
_NAMES: Final = frozenset(name.casefold() for name in _NAME.values())

_OURS = re.compile(
    r"HKEY_LOCAL_MACHINE\\SYSTEM\\(CurrentControlSet|ControlSet[0-9]{3})\\services\\"
    r"((MSExchangeRPC|MSExchangeAB)(?:\\.*)?)",
    re.IGNORECASE,
)
_DECIMAL = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Setting:
    """What the next start of a service makes of what is set for it."""

    port: int | None  # None: a dynamic port
    problem: str = ""  # why what is set there has no effect; a sentence that says what to do


@dataclass(frozen=True, slots=True)
class Export:
    """What an export says. A service that it does not speak of is absent."""

    settings: Mapping[RpcService, Setting]
    remarks: tuple[str, ...] = ()  # what else was seen, a sentence each


def key_of(service: RpcService) -> str:
    """The registry key that holds the service's port."""
    return f"{SERVICES}\\{_UNDER[service]}"


def registry_text(service: RpcService, port: int) -> str:
    """The registry file that fixes one port."""
    data = f"dword:{port:08x}" if _TYPE[service] is ValueType.DWORD else f'"{port}"'
    return f'{HEADER}\n\n[{key_of(service)}]\n"{_NAME[service]}"={data}\n\n'


def registry_file(service: RpcService, port: int, encoding: Encoding = Encoding.UTF_16) -> bytes:
    """The same as regedit writes it."""
    return encode(registry_text(service, port), encoding)


def read_export(data: bytes, file: str) -> Export:
    """What an export (or a file of our own) sets. Raises nothing but `ConfigError`."""
    found = read_registry(data, file, lambda key: _OURS.fullmatch(key) is not None, _NAMES)
    settings: dict[RpcService, Setting] = {}
    remarks: list[str] = []
    for service in RpcService:
        if any(key.casefold() == key_of(service).casefold() for key in found.keys):
            settings[service] = Setting(None)
        said: dict[int, Value] = {}
        for value in found.values:
            if _removes(value, service):
                settings[service] = Setting(None)
            elif _speaks_of(value, service):
                settings[service] = _setting(value, service, file)
                said[value.line] = value
        if len(said) > 1:
            lines = " and ".join(str(line) for line in said)
            remarks.append(
                f'{file}: "{_NAME[service]}" stands there {len(said)} times, on the lines {lines}; the last one counts'
            )
    remarks += _strangers(found.values, file)
    return Export(settings, tuple(remarks))


def _speaks_of(value: Value, service: RpcService) -> bool:
    return value.key.casefold() == key_of(service).casefold() and value.name.casefold() == _NAME[service].casefold()


def _removes(value: Value, service: RpcService) -> bool:
    """The file takes the service's value away, alone or with a key above it."""
    if value.type is ValueType.KEY_DELETED:
        return f"{key_of(service)}\\".casefold().startswith(f"{value.key}\\".casefold())
    return value.type is ValueType.DELETED and _speaks_of(value, service)


def _setting(value: Value, service: RpcService, file: str) -> Setting:
    """What the service makes of a value under its name."""
    where, name, right = f'{file}:{value.line}: "{value.name}"', service.windows_name, _TYPE[service]
    mend = f"import the file that casarray ports export writes, and restart {name}"
    if value.type is ValueType.UNREADABLE:
        return Setting(
            None, f"{where} is not readable ({printable(str(value.data))}), and regedit passes over it; {mend}"
        )
    if value.type is not right:
        return Setting(None, f"{where} is {value.type}, but {name} reads {right} alone and ignores it; {mend}")
    text = str(value.data)
    if not _DECIMAL.fullmatch(text):
        return Setting(None, f'{where} is "{printable(text)}", which is no port; {mend}')
    port = int(text)
    if port > LAST_PORT:
        return Setting(None, f"{where} is {port}, and the last port is {LAST_PORT}; {mend}")
    return Setting(port or None)  # 0 is what Exchange itself writes for a dynamic port


def _strangers(values: Sequence[Value], file: str) -> list[str]:
    """Values that were meant for us, in places where nobody reads them."""
    told = []
    for value in values:
        where = f"{file}:{value.line}"
        mine = next((s for s in RpcService if value.key.casefold() == key_of(s).casefold()), None)
        if value.type is ValueType.KEY_DELETED:
            continue
        if mine is not None and not value.name:
            told.append(f'{where}: "{printable(str(value.data))}" is not understood, and regedit passes over it')
        elif mine is None and value.name:
            told.append(f'{where}: "{value.name}" stands in [{printable(value.key, 120)}], {_why_there(value.key)}')
        elif mine is not None and not _speaks_of(value, mine):
            told.append(
                f'{where}: "{value.name}" is the other service\'s value; {mine.windows_name} reads "{_NAME[mine]}"'
            )
    return told


def _why_there(key: str) -> str:
    """Why a value in this key has no effect."""
    found = _OURS.fullmatch(key)
    if found is None or found[1].casefold() == "currentcontrolset":
        return "where nobody reads it"
    return f"and {found[1]} may not be the set in force; export CurrentControlSet"
