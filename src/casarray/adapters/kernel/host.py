"""What this host can do for a kernel gateway, and what it must be told to do.

`probe_host` only looks: rights, the nft program, and the kernel's features, each tried with `nft --check` on a tiny
table, which the kernel examines and never commits. `prepare_host` sets the switches that forwarding needs. Each finding
that is not good is one sentence with the next step. Both block for some 100 ms: from a coroutine, use a thread.
"""

import re
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from casarray.adapters.kernel.resets import rules

_NFT_SECONDS = 10.0
_OLDEST_NFT = (0, 9, 9)  # concatenations with intervals, `reject` before routing
_FEW_CONNECTIONS = 131_072
_MAPPER_PORT = 135
_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
_CAPABILITIES = {
    "CAP_NET_ADMIN": (12, "without it neither the forwarding table nor the addresses can be set"),
    "CAP_NET_RAW": (13, "without it idle clients of a dead member are not told, and addresses not announced"),
    "CAP_NET_BIND_SERVICE": (10, "without it the endpoint mapper's port 135 cannot be answered"),
}

_IPV6 = "IPv6 address translation"

# Each is what the forwarder's table uses, on its own, so that a refusal names what is missing.
_FEATURES = {
    "address translation": (
        "chain c { type nat hook prerouting priority -100; ip daddr 192.0.2.1 dnat ip to 192.0.2.2\n }"
    ),
    _IPV6: ("chain c { type nat hook prerouting priority -100; ip6 daddr 2001:db8::1 dnat ip6 to 2001:db8::2\n }"),
    "masquerading": "chain c { type nat hook postrouting priority 100; ip daddr 192.0.2.1 masquerade\n }",
    "hashing of addresses (jhash)": (
        "chain c { type filter hook prerouting priority 0; meta priority set jhash ip saddr mod 16381 seed 0x1234\n }"
    ),
    "maps written by packets": (
        "map m { type ipv4_addr : classid; flags dynamic,timeout; size 16; }\n"
        "chain c { type filter hook prerouting priority 0; update @m { ip saddr timeout 3h : 0:1 }\n }"
    ),
    "verdict maps": (
        "map m { type classid : verdict; }\nchain n { accept\n }\n"
        "chain c { type filter hook prerouting priority 0; meta priority vmap @m\n }"
    ),
    "connection marks": (
        "chain c { type filter hook prerouting priority 0; ct mark set ct mark and 0x0000ffff or 0x10010000\n }"
    ),
    "port ranges in maps": "map m { type ipv4_addr . inet_service : classid; flags interval,timeout; }",
}


class Need(StrEnum):
    """How much a finding matters."""

    REQUIRED = "required"  # no kernel gateway without it
    ADVISED = "advised"  # works, but something is lost


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``sentence`` says what is the case and, unless good, what to do."""

    name: str
    need: Need
    good: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class HostReport:
    """Everything that was looked at, in the order it was."""

    findings: tuple[Finding, ...]

    @property
    def can_forward(self) -> bool:
        """Whether a kernel gateway can run here."""
        return all(finding.good for finding in self.findings if finding.need is Need.REQUIRED)

    @property
    def missing(self) -> tuple[str, ...]:
        """One sentence for each required thing that is not there."""
        return tuple(f.sentence for f in self.findings if f.need is Need.REQUIRED and not f.good)

    @property
    def advice(self) -> tuple[str, ...]:
        """One sentence for each thing that would be better otherwise."""
        return tuple(f.sentence for f in self.findings if f.need is Need.ADVISED and not f.good)


def probe_host(versions: Collection[int] = (4, 6), *, nft: str = "nft", proc: Path = Path("/proc")) -> HostReport:
    """Look at this host and this network namespace, for arrays of these IP versions; changes and raises nothing."""
    unneeded = "" if 6 in versions else _IPV6
    rights = _capabilities(proc)
    program = _nft_program(nft)
    findings = [*rights, program]
    if not program.good:
        skipped = "not looked at, because the nft program is missing"
    elif not rights[0].good:
        skipped = "not looked at, because CAP_NET_ADMIN is missing"
    else:
        skipped = ""
    if skipped:
        findings.append(Finding("kernel features", Need.REQUIRED, False, f"the kernel's features were {skipped}"))
    else:
        findings += _features(nft, unneeded)
    return HostReport((*findings, *_hints(proc)))


def prepare_host(versions: Collection[int] = (4, 6), *, proc: Path = Path("/proc")) -> HostReport:
    """Set what forwarding of these IP versions needs, where it is not set; then each finding says how it is now."""
    findings = [
        set_switch(proc / "sys", path, Need.REQUIRED, f"the kernel would forward no IPv{version} packet")
        for version, path in _FORWARDING.items()
        if version in versions
    ]
    lost = "connections would not survive the move to another gateway"
    findings.append(set_switch(proc / "sys", "net/netfilter/nf_conntrack_tcp_loose", Need.ADVISED, lost))
    return HostReport(tuple(findings))


def _capabilities(proc: Path) -> list[Finding]:
    try:
        status = (proc / "thread-self/status").read_text()
    except OSError:
        status = ""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    effective = int(found[1], 16) if found else 0
    findings = []
    for name, (bit, loss) in _CAPABILITIES.items():
        good = bool(effective >> bit & 1)
        if name == "CAP_NET_BIND_SERVICE" and not good:
            first = _number(proc / "sys/net/ipv4/ip_unprivileged_port_start")
            good = first is not None and first <= _MAPPER_PORT
        sentence = f"{name} is missing: {loss}; run as root or by the systemd unit"
        if good:
            sentence = f"{name} is there or not needed"
        findings.append(Finding(name, Need.REQUIRED, good, sentence))
    return findings


def _nft_program(nft: str) -> Finding:
    name = "nft program"
    try:
        said = subprocess.run(
            [nft, "--version"], capture_output=True, text=True, timeout=_NFT_SECONDS, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        sentence = f"the nft program cannot be run ({error}): install the package nftables"
        return Finding(name, Need.REQUIRED, False, sentence)
    found = re.search(r"v(\d+)\.(\d+)(?:\.(\d+))?", said)
    version = tuple(int(part or 0) for part in found.groups()) if found else ()
    shown = ".".join(map(str, version)) or "of unknown version"
    if version < _OLDEST_NFT:
        oldest = ".".join(map(str, _OLDEST_NFT))
        return Finding(name, Need.REQUIRED, False, f"nft {shown} is too old: install nftables {oldest} or later")
    return Finding(name, Need.REQUIRED, True, f"nft {shown} is there")


def _features(nft: str, unneeded: str) -> list[Finding]:
    """All in one question, for each takes the time of a process; only a refusal is looked into one by one."""
    tables = {
        name: f"table inet casarray_probe{number} {{\n{text}\n}}\n"
        for number, (name, text) in enumerate(_FEATURES.items())
        if name != unneeded
    }
    resets = "resets of idle clients"
    if not _refusal(nft, "".join(tables.values()) + rules()):
        needs = {**dict.fromkeys(tables, Need.REQUIRED), resets: Need.ADVISED}
        return [Finding(name, need, True, f"{name}: the kernel has it") for name, need in needs.items()]
    return [
        *(_feature(nft, name, text, Need.REQUIRED) for name, text in tables.items()),
        _feature(nft, resets, rules(), Need.ADVISED),
    ]


def _feature(nft: str, name: str, table: str, need: Need) -> Finding:
    if refusal := _refusal(nft, table):
        return Finding(name, need, False, f"{name}: {refusal}")
    return Finding(name, need, True, f"{name}: the kernel has it")


def _refusal(nft: str, text: str) -> str:
    """Why these rules could not be; empty if they could."""
    try:
        done = subprocess.run(
            [nft, "--check", "-f", "-"], input=text, capture_output=True, text=True, timeout=_NFT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"could not be tried: {error}"
    if not done.returncode:
        return ""
    said = done.stderr.strip().partition("\n")[0]
    return f'this kernel refuses it ({said}); load its nf_tables modules, or use mode = "userspace"'


def set_switch(root: Path, path: str, need: Need, otherwise: str) -> Finding:
    """Have the switch (``root`` is /proc/sys) at 1; ``otherwise`` is what happens if that cannot be."""
    name = path.replace("/", ".")
    file = root / path
    try:
        if file.read_text().strip() == "1":
            return Finding(name, need, True, f"{name} is 1")
        file.write_text("1")
    except OSError as error:
        sentence = f"{name} cannot be set ({error.strerror}), and {otherwise}: run `sysctl -w {name}=1` as root"
        return Finding(name, need, False, sentence)
    return Finding(name, need, True, f"{name} was set to 1")


def _hints(proc: Path) -> list[Finding]:
    findings = []
    most = _number(proc / "sys/net/netfilter/nf_conntrack_max")
    if most is not None:
        sentence = f"the connection table holds {most} connections"
        good = most >= _FEW_CONNECTIONS
        if not good:
            more = 2 * _FEW_CONNECTIONS
            sentence += f", then new ones are dropped: consider `sysctl -w net.netfilter.nf_conntrack_max={more}`"
        findings.append(Finding("net.netfilter.nf_conntrack_max", Need.ADVISED, good, sentence))
    strict = sorted(file.parent.name for file in (proc / "sys/net/ipv4/conf").glob("*/rp_filter") if _number(file) == 1)
    sentence = "no interface filters by the reverse path strictly"
    if strict:
        sentence = (
            f"net.ipv4.conf.{{{','.join(strict)}}}.rp_filter is 1: clients whose way back leads through another "
            "interface are dropped unseen; set it to 2 (loose)"
        )
    findings.append(Finding("net.ipv4.conf.*.rp_filter", Need.ADVISED, not strict, sentence))
    return findings


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
