"""What an administrator brings from a server: exports of the registry, or the configuration file before SP1."""

from collections.abc import Iterable
from typing import Final

from casarray.core.fixed_ports import registry_text
from casarray.core.fixed_ports.ports import RpcService
from casarray.core.fixed_ports.registry_file import Export, Setting, read_export
from casarray.core.fixed_ports.service_config import read_service_config
from casarray.core.fixed_ports.text import decode

LARGEST: Final = registry_text.LARGEST  # bytes of one file


def read_given(data: bytes, file: str) -> Export:
    """What a file sets, whichever of the two it is. Raises nothing but `ConfigError`."""
    if decode(data[:400]).lstrip("\ufeff \t\r\n").startswith("<"):
        return Export({RpcService.AB: read_service_config(data, file)})
    return read_export(data, file)


def merged(exports: Iterable[tuple[str, Export]]) -> Export:
    """Several files of one server as one. Where two speak of the same service differently, that is a remark."""
    settings: dict[RpcService, tuple[str, Setting]] = {}
    remarks: list[str] = []
    for file, export in exports:
        remarks += export.remarks
        for service, setting in export.settings.items():
            before = settings.get(service)
            if before is not None and before[1].port != setting.port:
                remarks.append(
                    f"{before[0]} and {file} say different things of {service.windows_name}; {file} is taken"
                )
            settings[service] = (file, setting)
    return Export({service: setting for service, (_, setting) in settings.items()}, tuple(remarks))
