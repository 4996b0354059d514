"""`casarray referral` by a real Active Directory: users with homeMDB are led to the array of their database."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import Domain
from tests.gateway.gateways import PROGRAM, eventually
from tests.gateway.old_profile import host_behind, logged_on_as

from casarray.app.stores import Note
from casarray.core.dcerpc.interfaces.emsmdb_rops import LogonRedirect
from casarray.core.directory.changes import difference
from casarray.core.directory.legacy_dn import of_account, of_server
from casarray.core.directory.model import (
    MAILBOX,
    Account,
    Array,
    Copy,
    Database,
    Directory,
    Server,
    Site,
)
from casarray.lab import netns, samba_ad

pytestmark = [
    pytest.mark.root,
    pytest.mark.samba,
    pytest.mark.timeout(180),
    pytest.mark.skipif((netns.missing() or samba_ad.missing()) is not None, reason="no domain controller can run here"),
]

HERE, MAPPER = "127.0.0.1", 23135
CONFIG = """\
[gateway]
name = "gw1"
state = "{folder}/state"
metrics = ""

[directory]
store = "ldap://{dc}"
principal = "gw1"
keytab = "{keytab}"
interval = "300ms"
timeout = "3s"

[referral]
mapper_port = 23135
book_port = 23500
mailbox_port = 23501

[[retired]]
name = "old1.lab.example"
addresses = ["127.0.0.1"]
site = "Berlin"
"""


def filled(before: Directory) -> Directory:
    """Two sites with an array each; alice is at home in the first one."""
    return before.put(
        Site("Ulm"),
        Site("Berlin"),
        Server("mbx1", "mbx1.lab.example", "Ulm", (MAILBOX,), None),
        Server("mbx2", "mbx2.lab.example", "Berlin", (MAILBOX,), None),
        Array("CAS", "cas.lab.example", "Ulm"),
        Array("BER", "ber.lab.example", "Berlin"),
        Database("DB1", "mbx1", (Copy("mbx1"),), "cas.lab.example"),
        Database("DB2", "mbx2", (Copy("mbx2"),), "ber.lab.example"),
        Account("alice", "DB1", "alice@lab.example"),
    )


@contextmanager
def referral(domain: Domain, folder: Path) -> Iterator[None]:
    """The program on the host of the domain controller, which knows the domain alone."""
    overlay = Path("/etc/netns") / domain.dc.host.name
    made = not overlay.exists()
    overlay.mkdir(parents=True, exist_ok=True)
    (overlay / "resolv.conf").write_text(f"nameserver {domain.dc.address}\noptions timeout:1\n")
    path = folder / "referral.toml"
    path.write_text(CONFIG.format(folder=folder, dc=domain.dc.fqdn, keytab=domain.dc.keytab("gw1")))
    env = os.environ | domain.dc.environment() | {"PYTHONPATH": str(netns.here())}
    try:
        process = domain.dc.host.spawn(PROGRAM, "referral", "run", "-c", str(path), stdout=subprocess.PIPE, env=env)
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
    finally:
        if made:
            shutil.rmtree(overlay, ignore_errors=True)


async def test_a_user_of_active_directory_is_led_to_the_array_of_the_database_also_after_a_move(
    domain: Domain, tmp_path: Path
) -> None:
    for user in ("alice", "gw1"):
        domain.dc.add_user(user)
    store = domain.open()
    store.change((before := store.read()), difference(before.directory, filled(before.directory)), Note("test", "made"))
    snapshot = store.read()
    directory = snapshot.directory
    alice = of_account(directory, directory.accounts["alice"])
    with referral(domain, tmp_path):
        led = await logged_on_as(HERE, MAPPER, alice, HERE)
        assert led == LogonRedirect(of_server(directory, directory.arrays["cas"]))
        assert await host_behind(HERE, MAPPER, led.server_dn, HERE) == "cas.lab.example"
        old = led.server_dn.replace("cn=cas.lab.example", "cn=old1")
        assert await host_behind(HERE, MAPPER, old, HERE) == "ber.lab.example"

        moved = directory.put(replace(directory.accounts["alice"], database="DB2"))
        store.change(snapshot, difference(directory, moved), Note("test", "moved"))

        async def led_elsewhere() -> None:
            answer = await logged_on_as(HERE, MAPPER, alice, HERE)
            assert answer == LogonRedirect(of_server(directory, directory.arrays["ber"]))

        await eventually(led_elsewhere, 15)
