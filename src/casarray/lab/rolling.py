"""A domain's members with real agents, and whoever rolls their account: for tests and for the figure of a roll."""

import os
import secrets
import socket
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm
from casarray.adapters.kerberos.agent_client import MemberAgents
from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.directory import DirectoryService
from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.ports import Realm
from casarray.core.config import DirectorySettings, KerberosSettings
from casarray.core.directory.model import Array, Directory, Server, Site
from casarray.core.kerberos.agent_config import AgentSettings
from casarray.core.kerberos.keytab import read_keytab, write_keytab
from casarray.lab.agents import Place, settings_of
from casarray.lab.directory_load import OneName
from casarray.lab.samba_ad import ADMINISTRATOR, DomainController

ACCOUNT = "asa$"


def names_of(count: int) -> tuple[str, ...]:
    """``cas01`` and so on."""
    return tuple(f"cas{number:02}" for number in range(1, count + 1))


def addresses_of(names: Sequence[str], domain: str) -> dict[str, str]:
    """Where their agents listen, in the controller's own namespace: FQDN -> address."""
    return {f"{name}.{domain}": f"127.1.0.{number}" for number, name in enumerate(names, 1)}


def join(controller: DomainController, names: Sequence[str], folder: Path) -> dict[str, Path]:
    """Computer accounts for all of them at once, and a machine keytab for each: FQDN -> its path."""
    lines = []
    for name in names:
        fqdn = f"{name}.{controller.domain}"
        secret = b64encode(secrets.token_urlsafe(32).encode("utf-16-le")).decode()
        lines += [
            f"dn: CN={name.upper()},CN=Computers,{controller.base}",
            "changetype: add",
            "objectClass: computer",
            f"sAMAccountName: {name.upper()}$",
            "userAccountControl: 4096",
            f"dNSHostName: {fqdn}",
            f"servicePrincipalName: host/{fqdn}",
            "msDS-SupportedEncryptionTypes: 24",
            f"clearTextPassword:: {secret}",
            "",
        ]
    controller.load("\n".join(lines) + "\n")
    whole = folder / "all.keytab"
    controller.export_all(whole)
    entries = read_keytab(whole.read_bytes())
    whole.unlink()
    paths = {}
    for name in names:
        fqdn = f"{name}.{controller.domain}"
        own = [one for one in entries if one.components in (("host", fqdn), (f"{name.upper()}$",))]
        paths[fqdn] = folder / f"{name}.machine.keytab"
        paths[fqdn].touch(0o600)
        paths[fqdn].write_bytes(write_keytab(own))
    return paths


def agents_of(
    controller: DomainController, keytabs: Mapping[str, Path], addresses: Mapping[str, str], folder: Path
) -> list[AgentSettings]:
    """Their settings: the domain's administrator may tell them keys."""
    administrators = (f"{ADMINISTRATOR}@{controller.realm}",)
    return [
        settings_of(Place(fqdn, addresses[fqdn], path, folder / fqdn), administrators) for fqdn, path in keytabs.items()
    ]


@contextmanager
def resolved(addresses: Mapping[str, str]) -> Iterator[None]:
    """In this process these names lead there: a thread in another network still has the host's resolver."""
    usual = socket.getaddrinfo

    def lookup(host: Any, *more: Any, **named: Any) -> Any:
        return usual(addresses.get(host, host) if isinstance(host, str) else host, *more, **named)

    socket.getaddrinfo = lookup
    try:
        yield
    finally:
        socket.getaddrinfo = usual


def directory_of(names: Sequence[str], domain: str) -> Directory:
    """One site with one array, of which these are the members."""
    return Directory("Lab").put(
        Site("Here"),
        Array("CAS", f"cas.{domain}", "Here", (), {"profile": "exchange-2010"}),
        *(Server(name, f"{name}.{domain}", "Here") for name in names),
    )


def desk(
    controller_fqdn: str, address: str, ccache: str, names: Sequence[str], realm: type[ActiveDirectoryRealm]
) -> Desk:
    """Whoever rolls; use it in the controller's network, in which ``names`` are `resolved`."""
    settings = KerberosSettings(account=ACCOUNT, ccache=ccache)
    service = DirectoryService(MemoryDirectory(directory_of(names, controller_fqdn.partition(".")[2])), "lab")

    def open_realm() -> Realm:
        return realm((f"ldap://{controller_fqdn}",), settings, DirectorySettings(timeout=10.0), OneName(address))

    return Desk(service, lambda: settings, open_realm, lambda: MemberAgents(settings))


@contextmanager
def krb5_of(controller: DomainController) -> Iterator[None]:
    """Kerberos in this process is that of the lab's domain; acceptors need no file of replays."""
    wanted = {"KRB5_CONFIG": str(controller.krb5_conf), "KRB5RCACHETYPE": "none"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
