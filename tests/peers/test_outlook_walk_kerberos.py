"""The walk of `casarray test outlook` with logons: how it was really taken, and why not by Kerberos."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

pytest.importorskip("gssapi", reason="python-gssapi is not installed (the extra casarray[kerberos])")

from casarray.adapters.outlook_network import OutlookNetwork
from casarray.app.connectivity import perform
from casarray.core.directory.model import Array, Directory, Site
from casarray.core.outlook.asking import Resolved, Went
from casarray.core.outlook.planning import plan_of
from casarray.core.outlook.verdicts import Step, Trouble
from casarray.core.outlook.wish import LogOn, Means, Wish
from casarray.lab import mit_kdc, netns
from casarray.lab.mit_kdc import MitKdc

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif((netns.missing() or mit_kdc.missing()) is not None, reason="no KDC can run here"),
]

NAME = "cas.mit.example"
SPNS = (f"exchangeMDB/{NAME}", f"exchangeRFR/{NAME}", f"exchangeAB/{NAME}")
HERE = "127.0.0.1"
#: The KDC library's clock, and Python's.
CLOCK = (
    mit_kdc._CLOCK
    + """
int clock_gettime(clockid_t which, struct timespec *now)
{
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(which, now);
    if (which == CLOCK_REALTIME)
        now->tv_sec += AHEAD;
    return done;
}
"""
)


class Named(OutlookNetwork):
    """The array's name leads to the loopback."""

    async def resolve(self, name: str, *, outside: bool) -> Resolved | Went:
        """As if a name server said so."""
        return Resolved((ip_address(HERE),)) if name == NAME else await super().resolve(name, outside=outside)


@contextmanager
def member(
    kdc: MitKdc, *options: str, spns: tuple[str, ...] = SPNS, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A server that stands for the array, on the loopback of the KDC's host."""
    command = [sys.executable, "-m", "casarray.lab.server", "--name", "cas", "--domain", "mit.example", *options]
    if spns:
        command += ["--keytab", str(kdc.keytab(*spns))]
    around = os.environ | {"PYTHONPATH": str(netns.here()), "KRB5RCACHEDIR": str(kdc.folder)} | dict(env or {})
    process = kdc.host.spawn(*command, stdout=subprocess.PIPE, env=around)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"ready")
        yield
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def walk(logon: str, means: Means | None = None) -> list[Step]:
    """Walk; the steps from the endpoint mapper on."""
    directory = Directory(organization="Lab").put(Site("Lab"), Array("CAS", NAME, "Lab", (ip_address(HERE),)))
    plan = plan_of(directory, Wish(user="user00007", discover=False, logon=logon))
    means = means or Means()
    means = replace(means, timeout_seconds=8.0, log_on=replace(means.log_on, kind=logon))

    async def once() -> list[Step]:
        network = Named(means)
        try:
            return list(await perform(plan, network, lambda _: None, time.monotonic))
        finally:
            await network.close()

    return asyncio.run(once())[1:]


def mechanisms(steps: list[Step]) -> dict[str, str]:
    return {str(step.scenario): step.mechanism for step in steps if step.mechanism}


@pytest.mark.parametrize("logon", ["kerberos", "negotiate"])
def test_with_tickets_it_is_kerberos_that_takes_every_logon(
    kdc: MitKdc, monkeypatch: pytest.MonkeyPatch, logon: str
) -> None:
    monkeypatch.setenv("KRB5CCNAME", kdc.ticket("alice", kdc.add_user("alice")))
    with member(kdc):
        steps = walk(logon)
    assert [step.trouble for step in steps] == [None] * 6, [step.text for step in steps]
    assert mechanisms(steps) == {"RFR": "Kerberos", "NSPI": "Kerberos", "EMSMDB connect": "Kerberos"}


def users(folder: Path, password: str) -> str:
    """Who may log on by NTLM."""
    file = folder / "users"
    file.touch(0o600)
    file.write_text(f"alice:{password}\n")
    return str(file)


def test_a_name_that_is_missing_makes_ntlm_of_kerberos_without_a_word_to_users_and_is_told_here(
    kdc: MitKdc, tmp_path: Path
) -> None:
    password = kdc.add_user("alice")
    with member(kdc, "--ntlm-users", users(tmp_path, password), spns=SPNS[:2]):
        steps = walk("negotiate", Means(LogOn(user="alice", password=password)))
    assert mechanisms(steps) == {"RFR": "Kerberos", "NSPI": "NTLM", "EMSMDB connect": "Kerberos"}
    found = next(step for step in steps if step.scenario == "NSPI")
    assert found.trouble is Trouble.NTLM
    assert f"the KDC knows no exchangeAB/{NAME}" in found.text
    assert steps[-1].scenario == "Affinity"  # users get on


def test_a_server_that_has_lost_its_keys_takes_ntlm_and_that_is_told(kdc: MitKdc, tmp_path: Path) -> None:
    password = kdc.add_user("alice")
    with member(kdc, "--no-kerberos", "--ntlm-users", users(tmp_path, password)):
        steps = walk("negotiate", Means(LogOn(user="alice", password=password)))
        forced = walk("kerberos", Means(LogOn(user="alice", password=password)))
    assert set(mechanisms(steps).values()) == {"NTLM"}
    assert "the server takes no Kerberos, though there is a ticket" in next(
        s.text for s in steps if s.trouble is Trouble.NTLM
    )
    assert (forced[-1].scenario, forced[-1].trouble) == ("RFR", Trouble.NO_KERBEROS)


def test_a_wrong_password_is_a_logon_that_is_denied(kdc: MitKdc, tmp_path: Path) -> None:
    with member(kdc, "--ntlm-users", users(tmp_path, "right")):
        steps = walk("ntlm", Means(LogOn(user="alice", password="wrong")))
    assert (steps[-1].scenario, steps[-1].trouble) == ("RFR", Trouble.LOGON_DENIED)


def test_a_member_whose_clock_is_wrong_is_told_by_what_it_says_of_the_time(
    kdc: MitKdc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KRB5CCNAME", kdc.ticket("alice", kdc.add_user("alice")))
    library, source = tmp_path / "clock.so", tmp_path / "clock.c"
    source.write_text(CLOCK)
    built = ["gcc", "-shared", "-fPIC", "-DAHEAD=1800", "-o", str(library), str(source), "-ldl"]
    subprocess.run(built, check=True, capture_output=True, timeout=60)
    with member(kdc, "--ntlm-users", users(tmp_path, "any"), env={"LD_PRELOAD": str(library)}):
        steps = walk("kerberos")
    assert (steps[-1].scenario, steps[-1].trouble) == ("RFR", Trouble.CLOCK), steps[-1].text
    assert "is 30 minutes ahead of this machine's" in steps[-1].text


def test_a_name_that_the_kdc_does_not_know_stops_kerberos_at_its_step(
    kdc: MitKdc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5CCNAME", kdc.ticket("alice", kdc.add_user("alice")))
    with member(kdc, spns=(SPNS[0], SPNS[1])):
        steps = walk("kerberos")
    assert (steps[-1].scenario, steps[-1].trouble) == ("NSPI", Trouble.NO_KERBEROS)
    assert f"the logon by Kerberos to exchangeAB/{NAME} fails" in steps[-1].text
    assert "casarray test kerberos" in steps[-1].next


def test_a_kdc_and_a_machine_whose_clocks_differ_are_told_apart_from_other_troubles(
    kdc: MitKdc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = kdc.ticket("alice", kdc.add_user("alice"))
    with member(kdc), kdc.clock(1800) as ahead:
        conf = tmp_path / "krb5.conf"
        conf.write_text(ahead.read_text().replace("[libdefaults]", "[libdefaults]\n    kdc_timesync = 0"))
        monkeypatch.setenv("KRB5_CONFIG", str(conf))
        monkeypatch.setenv("KRB5CCNAME", cache)
        steps = walk("kerberos")
    assert (steps[-1].scenario, steps[-1].trouble) == ("RFR", Trouble.CLOCK), steps[-1].text
    assert "set the clocks" in steps[-1].next


def test_without_a_ticket_and_without_a_password_nobody_logs_on(
    kdc: MitKdc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/nobody")
    with member(kdc):
        steps = walk("kerberos")
    assert (steps[-1].scenario, steps[-1].trouble) == ("RFR", Trouble.NO_KERBEROS)
    assert repr(Means(LogOn(user="alice", password="geheim"))).count("geheim") == 0
