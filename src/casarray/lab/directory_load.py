"""How long a big organisation in Active Directory takes to read: ``python -m casarray.lab.directory_load 10000``.

Starts a domain controller in a namespace (as root), puts so many servers and as many databases into it, and prints the
times as JSON. Filling it takes some seven milliseconds an object; that is the domain controller's work.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from casarray.adapters.stores.ldap_directory import open_ldap
from casarray.adapters.stores.ldap_names import Names
from casarray.app.stores import Note
from casarray.core.config import DirectorySettings
from casarray.core.directory import edits
from casarray.core.directory.active_directory import Entry, EntryKind, Partitions, child
from casarray.core.directory.ad_reading import read
from casarray.core.directory.ad_schema import VOCABULARY
from casarray.core.directory.ad_steps import Add
from casarray.core.directory.ad_writing import plan
from casarray.core.directory.changes import difference
from casarray.core.directory.model import CLIENT_ACCESS, MAILBOX, Copy, Database, Directory, Kind, Server
from casarray.core.errors import Unavailable
from casarray.lab import netns, samba_ad
from casarray.lab.samba_ad import ADMINISTRATOR, DomainController

ROUNDS = 3


class OneName(Names):
    """The lab's controller, whose name no resolver knows."""

    def __init__(self, address: str) -> None:
        self._address = address

    def controllers(self, domain: str, seconds: float) -> list[str]:  # noqa: ARG002 - nobody is asked
        return []

    def addresses(self, host: str) -> list[str]:  # noqa: ARG002 - there is one
        return [self._address]


def organisation(base: str, site: str, count: int) -> str:
    """LDIF of an array, so many servers and as many databases, as casarray itself would make them."""
    partitions = Partitions(base, f"CN=Configuration,{base}", f"CN=Schema,CN=Configuration,{base}", base)
    reading = read([Entry(child(site, partitions.sites), "site", EntryKind.SITE, ("site",))])
    after = edits.new_array(reading.directory, "CAS", f"cas.{_domain(base)}", site)
    names = [f"S{number:05}" for number in range(count)]
    roles = (CLIENT_ACCESS, MAILBOX)
    after = after.put(
        *(Server(name, f"{name.lower()}.{_domain(base)}", site, roles) for name in names),
        *(Database(f"D{name[1:]}", name, (Copy(name),), f"cas.{_domain(base)}") for name in names),
    )
    schema = frozenset(name.casefold() for name in VOCABULARY)
    steps = plan(reading, difference(reading.directory, after), partitions, schema)
    blocks = []
    for step in steps:
        if isinstance(step, Add):
            lines = [f"dn: {step.dn}", *(f"objectClass: {name}" for name in step.classes)]
            lines += [f"{name}: {value}" for name, values in step.values.items() for value in values]
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _domain(base: str) -> str:
    return base.replace("DC=", "").replace(",", ".")


def measure(fqdn: str, address: str, cache: str) -> dict[str, Any]:
    """The times, in seconds, and the memory, in MiB; of the controller at that address, by that credentials cache."""
    figures: dict[str, Any] = {"memory_before": _memory()}

    def opened() -> Any:
        settings = DirectorySettings(ccache=cache, timeout=60)
        return open_ldap([f"ldap://{fqdn}"], settings, OneName(address))

    reads = []
    for _ in range(ROUNDS):
        store = opened()
        reads.append(_timed(store.read))
        figures.setdefault("memory_first", _memory())
        if len(reads) < ROUNDS:
            store.close()
    figures["first_read"] = [round(seconds, 2) for seconds in reads]
    figures["memory_last"] = _memory()
    directory: Directory = store.read().directory
    figures["things"] = {str(kind): len(directory.of(kind)) for kind in Kind}
    figures["look_unchanged"] = round(_timed(store.revision), 4)
    snapshot = store.read()
    after = edits.change(snapshot.directory, Kind.SERVER, "S00000", weight=50)
    changes = difference(snapshot.directory, after)
    figures["change"] = round(_timed(lambda: store.change(snapshot, changes, Note("lab", "measure"))), 3)
    figures["read_one_change"] = round(_timed(store.read), 3)
    store.close()
    return figures


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Fill, measure, print."""
    if reason := netns.missing() or samba_ad.missing():
        raise Unavailable(reason)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with (
        tempfile.TemporaryDirectory(prefix="casarray-ad-") as folder,
        netns.Lab() as lab,
        DomainController(lab, Path(folder)) as controller,
    ):
        controller.extend_schema()
        filled = _timed(
            lambda: controller.add(organisation(controller.base, "Default-First-Site-Name", count), seconds=3600)
        )
        os.environ["KRB5_CONFIG"] = str(controller.krb5_conf)
        with controller.host.inside():
            cache = controller.ticket(ADMINISTRATOR, controller.password)
            found = measure(controller.fqdn, controller.address, cache)
            print(json.dumps({"filled": round(filled, 1), **found}, indent=2))


if __name__ == "__main__":
    main()
