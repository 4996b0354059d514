"""Real Samba servers as members of a site: endpoint mapper on 135, each with its own range of dynamic ports.

They are the stand-alone kind (`samba-dcerpcd` and its workers), in the namespaces of a `NetworkSite`. Their user exists
in the namespace only: `ip netns exec` lays /etc/netns/NAME/passwd over the host's. Each run makes its own password.
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from asyncio import sleep
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from casarray.core.errors import Unavailable
from casarray.lab.netns import Namespace
from casarray.lab.site import NetworkSite, Wanted

USER = "alice"
LSARPC = "12345778-1234-abcd-ef00-0123456789ab/0.0"
SAMR = "12345778-1234-abcd-ef00-0123456789ac/1.0"

_DAEMONS = (
    "/usr/lib/x86_64-linux-gnu/samba",
    "/usr/lib/aarch64-linux-gnu/samba",
    "/usr/lib/samba",
    "/usr/libexec/samba",
)
_SMB_CONF = """\
[global]
    netbios name = {name}
    workgroup = LAB
    server role = standalone server
    interfaces = lo eth0
    bind interfaces only = yes
    private dir = {folder}/private
    state directory = {folder}/state
    cache directory = {folder}/cache
    lock directory = {folder}/lock
    pid directory = {folder}/pid
    ncalrpc dir = {folder}/ncalrpc
    log file = {folder}/log.samba
    log level = 1
    passdb backend = tdbsam:{folder}/private/passdb.tdb
    rpc start on demand helpers = no
    rpc server dynamic port range = {first}-{last}
    load printers = no
    printcap name = /dev/null
    disable spoolss = yes
    restrict anonymous = 0
"""


def missing() -> str | None:
    """Why Samba servers cannot run here; None if they can."""
    programs = [p for p in ("smbd", "smbpasswd", "rpcclient") if not shutil.which(p)]
    if programs:
        return f"{', '.join(programs)} missing (Debian packages samba, smbclient)"
    return None if _daemon() else "samba-dcerpcd is missing (Debian package samba)"


def _daemon() -> str | None:
    found = (Path(folder) / "samba-dcerpcd" for folder in _DAEMONS)
    return next((str(path) for path in found if path.exists()), None)


class SambaSite(NetworkSite):
    """A `NetworkSite` whose servers are Samba's."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.password = secrets.token_urlsafe(12)

    def write_config(self, wanted: Wanted | None = None) -> None:
        """As the site's, with Samba's interfaces instead of Exchange's."""
        super().write_config(wanted)
        text = self.config_path.read_text(encoding="utf-8")
        head, _, tail = text.partition("[[array.service]]")
        servers = tail[tail.index("[[server]]") :]
        services = (
            f'[[array.service]]\nname = "lsa"\ngroup = "rpc"\nprobe = "rpc"\ninterfaces = ["{LSARPC}"]\n\n'
            f'[[array.service]]\nname = "samr"\ngroup = "rpc"\nprobe = "rpc"\ninterfaces = ["{SAMR}"]\n\n'
        )
        self.config_path.write_text(head + services + servers, encoding="utf-8")

    def login(self) -> list[str]:
        """What tells Samba's client tools who they are: a file, since command lines are public."""
        path = self.folder / "login"
        if not path.exists():
            path.touch(0o600)
            path.write_text(f"username={USER}\npassword={self.password}\n")
        return ["-A", str(path)]

    def first_port(self, name: str) -> int:
        """The first of the fifty dynamic ports of that server."""
        return 50000 + 100 * (self.names.index(name) + 1)

    def tear_down(self) -> None:
        """Also the users' files."""
        namespaces = [self.lab.namespaces[name].name for name in self.names if name in self.lab.namespaces]
        super().tear_down()
        for name in namespaces:
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)

    async def start_server(self, name: str) -> None:
        """Start a Samba server and wait until its endpoint mapper answers for lsarpc."""
        host, folder = self.host(name), self.folder / f"{name}.samba"
        if not folder.exists():
            self._set_up(name, host, folder)
        daemon = _daemon()
        if daemon is None:
            raise Unavailable("samba-dcerpcd is missing: install Debian's package samba")
        conf = f"--configfile={folder}/smb.conf"
        for program in ((daemon, "--libexec-rpcds"), ("smbd",)):
            with (folder / "console.log").open("ab") as console:
                command = [program[0], "--foreground", "--no-process-group", conf, *program[1:]]
                self.servers[f"{name}/{Path(program[0]).name}"] = host.spawn(*command, stdout=console, stderr=console)
        until = time.monotonic() + 20
        binding = f"ncacn_ip_tcp:{self.addresses(name)[0]}[sign]"
        ask = ["rpcclient", *self.login(), binding, "-c", "srvinfo"]
        while name.upper() not in host.run(*ask, check=False, env=client_environment(folder)).stdout:
            if time.monotonic() > until:
                raise Unavailable(f"Samba on {name} does not answer:\n{(folder / 'console.log').read_text()[-2000:]}")
            await sleep(0.1)

    def stop_server(self, name: str) -> None:
        """Kill every process of that server, without a word, as a crash would."""
        host = self.host(name)
        listed = subprocess.run(["ip", "netns", "pids", host.name], capture_output=True, text=True, check=True)
        for pid in listed.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for key in [k for k in self.servers if k.startswith(f"{name}/")]:
            self.servers.pop(key).wait()

    def _set_up(self, name: str, host: Namespace, folder: Path) -> None:
        for part in ("private", "state", "cache", "lock", "pid", "ncalrpc"):
            (folder / part).mkdir(parents=True)
        (folder / "private").chmod(0o700)
        first = self.first_port(name)
        text = _SMB_CONF.format(name=name.upper(), folder=folder, first=first, last=first + 49)
        (folder / "smb.conf").write_text(text)
        overlay = Path("/etc/netns") / host.name
        overlay.mkdir(parents=True, exist_ok=True)
        users = Path("/etc/passwd").read_text()
        if f"\n{USER}:" not in users:
            users += f"{USER}:x:64001:65534::/nonexistent:/usr/sbin/nologin\n"
        (overlay / "passwd").write_text(users)
        (overlay / "resolv.conf").write_text("# the lab has no resolver\n")
        command = ["smbpasswd", "-c", str(folder / "smb.conf"), "-s", "-a", USER]
        host.run(*command, input=f"{self.password}\n{self.password}\n")


def client_environment(folder: Path) -> Mapping[str, str]:
    """The environment of Samba's client tools: no configuration of the host's, no cache in the home."""
    conf = folder / "client.conf"
    if not conf.exists():
        conf.write_text(
            f"[global]\n    lock directory = {folder}\n    cache directory = {folder}\n    name resolve order = host\n"
        )
    return os.environ | {"SMB_CONF_PATH": str(conf), "HOME": str(folder)}
