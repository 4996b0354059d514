"""What the host report says, of a made-up host and of this one; and that three capabilities are enough."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from casarray.adapters.kernel.host import Need, prepare_host, probe_host

if TYPE_CHECKING:
    from tests.adapters.kernel.conftest import Lab

CAPABILITIES = "+net_admin,+net_raw,+net_bind_service,+bpf"
FORWARDS = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/netfilter/nf_conntrack_tcp_loose")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc of a host where everything is as it should be."""
    for name, text in {
        "thread-self/status": "Name:\tx\nCapInh:\t0000000000000000\nCapEff:\t0000000000003400\nCapBnd:\tff\n",
        "sys/net/netfilter/nf_conntrack_max": "262144\n",
        "sys/net/ipv4/conf/all/rp_filter": "2\n",
        **{f"sys/{name}": "0\n" for name in FORWARDS},
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def nft(folder: Path, script: str) -> str:
    program = folder / "nft"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


ACCEPTS = 'case "$1" in --version) echo "nftables v1.0.6 (x)";; esac; cat >/dev/null 2>&1 </dev/null'


def test_a_host_with_everything_can_forward(proc: Path, tmp_path: Path) -> None:
    report = probe_host(proc=proc, nft=nft(tmp_path, ACCEPTS))
    assert report.can_forward
    assert report.missing == ()
    assert report.advice == ()


def test_a_missing_capability_is_one_sentence_with_the_way_out(proc: Path, tmp_path: Path) -> None:
    (proc / "thread-self/status").write_text("CapEff:\t0000000000000000\n")
    report = probe_host(proc=proc, nft=nft(tmp_path, ACCEPTS))
    assert not report.can_forward
    assert report.missing[:3] == (
        "CAP_NET_ADMIN is missing: without it neither the forwarding table nor the addresses can be set; "
        "run as root or by the systemd unit",
        "CAP_NET_RAW is missing: without it idle clients of a dead member are not told, and addresses not announced; "
        "run as root or by the systemd unit",
        "CAP_NET_BIND_SERVICE is missing: without it the endpoint mapper's port 135 cannot be answered; "
        "run as root or by the systemd unit",
    )
    assert report.missing[3:] == ("the kernel's features were not looked at, because CAP_NET_ADMIN is missing",)


def test_port_135_needs_no_capability_where_it_is_free_to_all(proc: Path, tmp_path: Path) -> None:
    (proc / "thread-self/status").write_text("CapEff:\t0000000000003000\n")
    assert not probe_host(proc=proc, nft=nft(tmp_path, ACCEPTS)).can_forward
    (proc / "sys/net/ipv4/ip_unprivileged_port_start").write_text("100\n")
    assert probe_host(proc=proc, nft=nft(tmp_path, ACCEPTS)).can_forward


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ('echo "nftables v0.9.0 (x)"', "nft 0.9.0 is too old: install nftables 0.9.9 or later"),
        ('echo "something else"', "nft of unknown version is too old"),
        ("exit 1", "nft of unknown version is too old"),
    ],
)
def test_an_old_nft_program_is_named(proc: Path, tmp_path: Path, script: str, sentence: str) -> None:
    assert any(sentence in said for said in probe_host(proc=proc, nft=nft(tmp_path, script)).missing)


def test_no_nft_program_says_what_to_install(proc: Path) -> None:
    assert any("install the package nftables" in said for said in probe_host(proc=proc, nft="/nonexistent").missing)


def test_a_feature_the_kernel_refuses_is_named_and_userspace_offered(proc: Path, tmp_path: Path) -> None:
    refuses = (
        'case "$1" in --version) echo "nftables v1.0.6";; *) if grep -q jhash; then echo "no" >&2; exit 1; fi;; esac'
    )
    report = probe_host(proc=proc, nft=nft(tmp_path, refuses))
    assert report.missing == (
        "hashing of addresses (jhash): this kernel refuses it (no); load its nf_tables modules, or use "
        'mode = "userspace"',
    )


def test_ipv6_is_asked_for_only_where_an_array_has_it(proc: Path, tmp_path: Path) -> None:
    refuses = 'case "$1" in --version) echo "nftables v1.0.6";; *) if grep -q "dnat ip6"; then exit 1; fi;; esac'
    assert not probe_host(proc=proc, nft=nft(tmp_path, refuses)).can_forward
    assert probe_host((4,), proc=proc, nft=nft(tmp_path, refuses)).can_forward


def test_a_small_connection_table_and_a_strict_path_filter_are_advice(proc: Path, tmp_path: Path) -> None:
    (proc / "sys/net/netfilter/nf_conntrack_max").write_text("8192\n")
    (proc / "sys/net/ipv4/conf/all/rp_filter").write_text("1\n")
    report = probe_host(proc=proc, nft=nft(tmp_path, ACCEPTS))
    assert report.can_forward
    assert [said.partition(":")[0] for said in report.advice] == [
        "the connection table holds 8192 connections, then new ones are dropped",
        "net.ipv4.conf.{all}.rp_filter is 1",
    ]


def test_forwarding_is_switched_on_for_the_versions_in_use(proc: Path) -> None:
    assert prepare_host((4,), proc=proc).can_forward
    assert [(proc / "sys" / name).read_text().strip() for name in FORWARDS] == ["1", "0", "1"]


def test_a_switch_that_cannot_be_set_is_a_sentence_with_the_command(proc: Path) -> None:
    (proc / "sys/net/ipv4/ip_forward").unlink()
    report = prepare_host((4,), proc=proc)
    assert report.missing == (
        "net.ipv4.ip_forward cannot be set (No such file or directory), and the kernel would forward no IPv4 packet: "
        "run `sysctl -w net.ipv4.ip_forward=1` as root",
    )


@pytest.mark.root
def test_this_hosts_kernel_has_what_is_needed_and_is_left_as_it_was(lab: "Lab") -> None:
    report = lab.gateway.call(probe_host)
    assert report.missing == ()
    assert {finding.need for finding in report.findings} == {Need.REQUIRED, Need.ADVISED}
    assert lab.gateway.run("nft list ruleset") == ""


# Run by another user, who has the three capabilities of deploy/casarray.service and may not write executable memory.
PRIVILEGED_WORK = """
import ctypes, os, socket, sys
assert os.getuid() == 65534
ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE, as MemoryDenyWriteExecute= does; Linux 6.3
from ipaddress import ip_address
from casarray.adapters.kernel.conntrack import Conntrack
from casarray.adapters.kernel.fast_path import FastPath
from casarray.adapters.kernel.host import prepare_host, probe_host
from casarray.adapters.kernel.lock import AddressLock
from casarray.adapters.kernel.resets import Resets
from casarray.adapters.kernel.vip import announce, place, withdraw
assert not probe_host().missing, probe_host().missing
assert not prepare_host().missing, prepare_host().missing
for address, family in ((ip_address("10.91.0.100"), socket.AF_INET), (ip_address("fd91::100"), socket.AF_INET6)):
    with AddressLock([address]):
        placed = place(address)
        announce([placed], times=1)
        socket.create_server((str(address), 135), family=family).close()
        withdraw(placed)
resets = Resets()
resets.prepare()
assert Conntrack().count_by_mark(0xFFFF0000)[0x10070000] == 1
assert resets.reset(0x10070000, 0xFFFF0000) == 1
assert not Conntrack().count_by_mark(0xFFFF0000)
resets.remove()
fast_path = FastPath("CAS")
fast_path.renew([ip_address("10.91.0.100"), ip_address("fd91::100")])
assert fast_path.status().interfaces, fast_path.status()
fast_path.close(keep=False)
print("done")
"""


def test_the_systemd_unit_gives_just_these_capabilities_and_is_understood() -> None:
    unit = Path(__file__).parents[3] / "deploy" / "casarray.service"
    lines = unit.read_text().splitlines()
    for directive in ("CapabilityBoundingSet=", "AmbientCapabilities="):
        (given,) = [line.removeprefix(directive).split() for line in lines if line.startswith(directive)]
        assert ",".join(f"+{one.removeprefix('CAP_').lower()}" for one in given) == CAPABILITIES
    if shutil.which("systemd-analyze") is None:
        pytest.skip("the unit is not verified: there is no systemd-analyze")
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "/usr/bin/casarray is not executable" not in line]
    assert said == []  # where casarray is not installed, its absence is all that may be said


@pytest.mark.root
def test_four_capabilities_are_enough_for_everything_the_kernel_is_asked(lab: "Lab") -> None:
    lab.gateway.run("sysctl -qw net.ipv4.ip_forward=0", "sysctl -qw net.ipv6.conf.all.forwarding=0")
    lab.gateway.run("nft add table ip t", "nft add chain ip t c { type filter hook input priority 0; }")
    lab.gateway.run(
        "conntrack -I -p tcp --state ESTABLISHED -t 60 -m 0x10070000 -s 10.91.0.2 -d 10.91.0.100 --sport 9 --dport 8"
    )
    source = Path(__file__).parents[3] / "src"
    packages = next(folder for folder in sys.path if folder.endswith("site-packages"))
    done = subprocess.run(
        [
            *("ip", "netns", "exec", lab.gateway.name, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
            *("--no-new-privs", f"--inh-caps=-all,{CAPABILITIES}", f"--ambient-caps=-all,{CAPABILITIES}"),
            *(f"--bounding-set=-all,{CAPABILITIES}", interpreter(), "-W", "error", "-c", PRIVILEGED_WORK),
        ],
        env={"PYTHONPATH": f"{source}:{packages}", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.stdout.strip(), done.stderr) == ("done", "")


def interpreter() -> str:
    """A Python of this version that a user without rights may run: root's own may lie in root's home."""
    for candidate in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        tried = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", candidate, "-c", ""],
            capture_output=True,
            check=False,
        )
        if tried.returncode == 0:
            return candidate
    pytest.skip("no Python of this version that user 65534 may run")
