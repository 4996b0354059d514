"""A member with Apache, Dovecot and Postfix that read tickets, the lab's RPC server beside them, and a real KDC."""

import base64
import itertools
import os
import poplib
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

gssapi = pytest.importorskip("gssapi", reason="python-gssapi is not installed (the extra casarray[kerberos])")

from casarray.lab import kerberos_members, mit_kdc, netns
from casarray.lab.kerberos_members import KerberosMember
from casarray.lab.logins import Client, Logins, Tally, Target
from casarray.lab.mit_kdc import MitKdc
from casarray.lab.server import tell

REASON = netns.missing() or mit_kdc.missing() or kerberos_members.missing()
pytestmark = [pytest.mark.root, pytest.mark.skipif(REASON is not None, reason=str(REASON))]

NAME = "cas.mit.example"
SERVICES = ("HTTP", "imap", "pop", "smtp", "exchangeMDB", "host")
_hosts = itertools.count(21)  # another address each time: the KDC's host remembers whose the last one was
RPC = 5001


def array_keytab(kdc: MitKdc) -> bytes:
    """The keys of all names of the array, as they are now."""
    return kdc.keytab(*(f"{service}/{NAME}" for service in SERVICES)).read_bytes()


@pytest.fixture
def member(kdc: MitKdc) -> Iterator[KerberosMember]:
    """A member with the array's keys."""
    with netns.Lab() as lab:
        host, address = lab.namespace("cas1"), f"10.99.0.{next(_hosts)}"
        kdc.lab.leg(host, kdc.net, f"{address}/24", device="eth0")
        with KerberosMember(host, "cas1", [address], krb5_conf=kdc.krb5_conf, domain=kdc.domain) as found:
            found.write_keytabs(array_keytab(kdc))
            yield found


@pytest.fixture
def rpc_server(member: KerberosMember) -> Iterator[Path]:
    """The lab's RPC server on it, reading the web server's keytab; its control socket."""
    control = member.folder / "rpc.sock"
    command = [sys.executable, "-m", "casarray.lab.server", "--name", "cas1", "--address", *member.addresses]
    command += ["--rpc-port", str(RPC), "--keytab", str(member.keytabs["http"].path), "--control", str(control)]
    env = os.environ | {"PYTHONPATH": str(netns.here())}
    process = member.host.spawn(*command, stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"ready")
    yield control
    process.terminate()
    process.wait(10)


def log_in(member: KerberosMember, *clients: Client, **options: Any) -> Tally:
    return Logins(Target(member.addresses[0], NAME, RPC), list(clients), **options).run()


def gssapi_answers(service: str, cache: str) -> Any:
    """What smtplib wants: a function from a challenge to an answer. [RFC 4752]."""
    name = gssapi.Name(f"{service}/{NAME}", gssapi.NameType.kerberos_principal)
    context = gssapi.SecurityContext(
        name=name, creds=gssapi.Credentials(usage="initiate", store={"ccache": cache}), usage="initiate"
    )

    def answer(challenge: bytes | None = None) -> bytes:
        if not context.complete:
            return context.step(challenge or None) or b""
        context.unwrap(challenge)
        return bytes(context.wrap(b"\1\0\0\0", False).message)

    return answer


@pytest.mark.timeout(90)
def test_a_member_takes_tickets_and_a_new_keytab_without_a_reload(
    kdc: MitKdc, member: KerberosMember, rpc_server: Path
) -> None:
    password = kdc.add_user("alice")
    alice = Client("alice", kdc.ticket("alice", password))
    tally = log_in(member, alice, alice, count=12, fresh_share=0.5)
    assert tally.reasons == {}
    assert tally.total == 12
    assert set(tally.members["cas1"]) == {"http", "imap", "rpc"}
    state = tell(rpc_server, "state")["kerberos"]
    assert state["callers"] == {"alice@MIT.EXAMPLE": tally.succeeded["rpc"]}
    assert state["last"] == {"principal": "alice@MIT.EXAMPLE", "mechanism": "SPNEGO, Kerberos", "level": "privacy"}

    # The keys change at the KDC: who comes with a new ticket is refused by a member that has the old ones only ...
    kdc.local(*(f"cpw -randkey -keepold {service}/{NAME}" for service in SERVICES))
    tally = log_in(member, alice, count=3, fresh_share=1.0)
    assert tally.succeeded == {}
    assert sorted(reason.partition(":")[0] for reason in tally.reasons) == ["http", "imap", "rpc"]
    assert log_in(member, alice, count=3).reasons == {}  # ... and who has one from before is not.
    # With old and new keys in the files both are welcome, and nobody was reloaded.
    member.write_keytabs(array_keytab(kdc))
    assert log_in(member, alice, count=3).reasons == {}
    assert log_in(member, alice, count=3, fresh_share=1.0).reasons == {}


@pytest.mark.timeout(90)
def test_mail_is_sent_and_fetched_and_the_web_server_offers_a_way_without_kerberos(
    kdc: MitKdc, member: KerberosMember
) -> None:
    cache = kdc.ticket("alice", kdc.add_user("alice"))
    address = member.addresses[0]
    smtp = smtplib.SMTP(address, timeout=10)
    smtp.ehlo()
    assert "GSSAPI" in smtp.esmtp_features["auth"]
    answer = gssapi_answers("smtp", cache)
    code, challenge = smtp.docmd("AUTH GSSAPI", base64.b64encode(answer()).decode())
    while code == 334:
        code, challenge = smtp.docmd(base64.b64encode(answer(base64.b64decode(challenge))).decode())
    assert code == 235, challenge
    smtp.quit()

    pop = poplib.POP3(address, timeout=10)
    assert b"cas1" in pop.getwelcome()
    assert "GSSAPI" in pop.capa()["SASL"]
    answer = gssapi_answers("pop", cache)
    pop._putcmd("AUTH GSSAPI")  # type: ignore[attr-defined]  # poplib knows no mechanisms
    while (line := pop._getline()[0]).startswith(b"+ "):  # type: ignore[attr-defined]  # poplib has no other way to speak SASL
        pop._putline(base64.b64encode(answer(base64.b64decode(line[2:]))))  # type: ignore[attr-defined]  # poplib has no other way to speak SASL
    assert line.startswith(b"+OK"), line
    pop.quit()

    curl = ["curl", "-sk", "--resolve", f"{NAME}:443:{address}", "--resolve", f"{NAME}:80:{address}"]
    env = os.environ | {"KRB5CCNAME": cache, "KRB5_CONFIG": str(kdc.krb5_conf)}
    said = kdc.host.run(*curl, "--negotiate", "-u", ":", f"https://{NAME}/ews/", env=env)
    assert said.stdout == f"cas1 alice@MIT.EXAMPLE via {address}\n"
    assert kdc.host.run(*curl, f"http://{NAME}/health/").stdout == "ok\n"
    refused = kdc.host.run(*curl, "-i", f"http://{NAME}/both/").stdout
    assert "401 Unauthorized" in refused
    assert 'WWW-Authenticate: Basic realm="lab"' in refused
    login = f'user = "alice:{member.password}"'
    said = kdc.host.run(*curl, "--basic", "-K", "-", f"http://{NAME}/both/", input=login)
    assert said.stdout == f"cas1 alice via {address}\n"


@pytest.mark.timeout(60)
def test_nothing_is_left_of_a_member(kdc: MitKdc) -> None:
    with netns.Lab() as lab:
        host, address = lab.namespace("cas1"), f"10.99.0.{next(_hosts)}"
        kdc.lab.leg(host, kdc.net, f"{address}/24", device="eth0")
        member = KerberosMember(host, "cas1", [address], krb5_conf=kdc.krb5_conf, domain=kdc.domain)
        with member:
            file = member.keytabs["mail"]
            member.write_keytabs(array_keytab(kdc))
            assert file.path.stat().st_mode & 0o777 == 0o600
            assert file.path.owner() == "dovecot"
            assert sorted(member.processes) == ["dovecot", "httpd", "postfix"]
            assert len(host_processes(host.name)) > 3
        until = time.monotonic() + 5
        while (left := host_processes(host.name)) and time.monotonic() < until:
            time.sleep(0.05)
        assert left == []
        assert not member.folder.exists()
        member.close()  # twice is once


def host_processes(name: str) -> list[str]:
    listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True).stdout.split()
    found = []
    for pid in listed:
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/comm").read_text().strip())
    return [name for name in found if "pytest" not in name]
