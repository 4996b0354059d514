"""Who stands in the gateway: nobody (plain routing), HAProxy, nginx, casarray in kernel and in userspace mode.

Each peer is a Debian package in the configuration that was found best here for two cores; the files below are all of
it. Health checks are on where a peer has active ones, once a second, as they would be in service.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from casarray.core.errors import Unavailable
from casarray.lab.bench.topology import BULK_PORTS, MAPPER_PORT, PORT, VIP, WEB_PORTS, Ground
from casarray.lab.netns import Namespace, here

START_SECONDS = 20.0
FAST_PATH_SECONDS = 2.0

HAPROXY = """\
global
    nbthread {threads}
    maxconn {maxconn}
    maxpipes 256
    tune.bufsize {bufsize}
    tune.pipesize {pipesize}
    tune.maxpollevents 500
defaults
    mode tcp
    timeout connect 3s
    timeout client 1h
    timeout server 1h
    option splice-auto
    option tcp-smart-accept
    option tcp-smart-connect
    balance source
    hash-type consistent
"""

NGINX_STREAM = """\
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
worker_processes 2;
worker_cpu_affinity auto;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err crit;
events {{ worker_connections 19900; multi_accept on; }}
stream {{
    proxy_timeout 1h;
    proxy_connect_timeout 3s;
    proxy_buffer_size 64k;
    tcp_nodelay on;
{services}}}
"""

NGINX_SERVER = """\
daemon off;
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/nginx.err crit;
events {{ worker_connections 19900; multi_accept on; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_header_timeout 1h;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ {listen} location / {{ return 200 "hello, world\\n"; }} }}
}}
"""

CASARRAY = """\
[gateway]
name = "bench"
mode = "{mode}"
fast_path = {fast_path}
state = "{folder}/state"
control = "{folder}/casarray.sock"
metrics = ""

[[site]]
name = "Bench"
subnets = ["10.11.0.0/24", "10.12.0.0/16", "10.32.0.0/16"]

[[array]]
name = "BENCH"
fqdn = "bench.lab.example"
site = "Bench"
addresses = ["{vip}"]
slots = {slots}
{profile}
"""


#: The least with which the kernel follows connections: what every stateful firewall and every NAT begins with.
TRACKING = (
    "add table inet track; add chain inet track c { type filter hook forward priority 0; }; "
    "add rule inet track c ct state invalid drop"
)


@dataclass(frozen=True, slots=True)
class Running:
    """A peer at work."""

    gateway: Namespace
    ground: Ground
    folder: Path
    direct: bool = False  # clients go to the servers themselves
    program: "subprocess.Popen[bytes] | None" = None
    ready_seconds: float = 0.0

    def target(self, address: int) -> str:
        """Where the load generator of this client address connects to."""
        return self.ground.server(address % self.ground.hosts) if self.direct else VIP

    def pids(self) -> list[int]:
        """All processes in the gateway."""
        said = subprocess.run(["ip", "netns", "pids", self.gateway.name], capture_output=True, text=True, check=True)
        return [int(pid) for pid in said.stdout.split()]


@dataclass(frozen=True, slots=True)
class Routing:
    """Nobody: the kernel routes, the clients name the servers. The limit; ``tracked``, that of a stateful firewall."""

    name: str = "routing"
    title: str = "plain routing"
    tracked: bool = False

    @contextmanager
    def turn(self, ground: Ground, *, mapper: bool = False) -> Iterator[Running]:  # noqa: ARG002 - all ports alike
        """It stands in the gateway; with the endpoint mapper's port and no other if asked."""
        with ground.gateway() as gateway:
            if self.tracked:
                gateway.run("nft", TRACKING)
            yield Running(gateway, ground, folder_of(ground, self.name), direct=True)


@dataclass(frozen=True, slots=True)
class Haproxy:
    """HAProxy in TCP mode, by source hash."""

    name: str = "haproxy"
    title: str = "HAProxy"
    threads: int = 2
    bufsize: int = 65536
    pipesize: int = 1048576
    maxconn: int = 9500  # two descriptors each and two for each pipe, within the usual limit of 20,000

    @contextmanager
    def turn(self, ground: Ground, *, mapper: bool = False) -> Iterator[Running]:
        """It stands in the gateway; with the endpoint mapper's port and no other if asked."""
        folder = folder_of(ground, self.name)
        text = HAPROXY.format(threads=self.threads, maxconn=self.maxconn, bufsize=self.bufsize, pipesize=self.pipesize)
        for port in _ports(mapper):
            check = " check inter 1s" if port in (PORT, MAPPER_PORT) else ""
            text += f"listen p{port}\n    bind {VIP}:{port} shards by-thread backlog 16384\n"
            for number in range(ground.hosts):
                text += f"    server s{number} {ground.server(number)}:{port}{check}\n"
        config = folder / "haproxy.cfg"
        config.write_text(text)
        with ground.gateway() as gateway:
            _own_vip(gateway)
            yield _started(ground, gateway, folder, ["haproxy", "-db", "-f", str(config)])


@dataclass(frozen=True, slots=True)
class Nginx:
    """nginx's stream module, by consistent hash of the client's address."""

    name: str = "nginx"
    title: str = "nginx stream"

    @contextmanager
    def turn(self, ground: Ground, *, mapper: bool = False) -> Iterator[Running]:
        """It stands in the gateway; with the endpoint mapper's port and no other if asked."""
        folder = folder_of(ground, self.name)
        services = ""
        for port in _ports(mapper):
            servers = " ".join(f"server {ground.server(number)}:{port};" for number in range(ground.hosts))
            services += f"    upstream u{port} {{ hash $remote_addr consistent; {servers} }}\n"
            services += f"    server {{ listen {VIP}:{port} reuseport backlog=16384; proxy_pass u{port}; }}\n"
        config = folder / "nginx.conf"
        config.write_text(NGINX_STREAM.format(folder=folder, services=services))
        with ground.gateway() as gateway:
            _own_vip(gateway)
            yield _started(ground, gateway, folder, ["nginx", "-c", str(config)])


@dataclass(frozen=True, slots=True)
class Casarray:
    """The array by `casarray run`, in one of its modes."""

    name: str = "kernel"
    title: str = "casarray, kernel mode"
    mode: str = "kernel"
    members: int = 2
    slots: int = 16381
    probe: str = "tcp"
    fast_path: bool = True

    @contextmanager
    def turn(self, ground: Ground, *, mapper: bool = False) -> Iterator[Running]:
        """It stands in the gateway; with the endpoint mapper's port and no other if asked."""
        folder = folder_of(ground, self.name)
        config = self.configure(ground, folder, mapper=mapper)
        with ground.gateway() as gateway:
            _own_vip(gateway)
            running = start_casarray(ground, gateway, folder, config)
            if self.fast_path and self.mode == "kernel":
                _wait_fast_path(gateway)
            yield running

    def configure(self, ground: Ground, folder: Path, *, mapper: bool = False, services: str = "") -> Path:
        """Write the configuration; ``services`` instead of the usual ones."""
        text = CASARRAY.format(
            mode=self.mode, folder=folder, vip=VIP, slots=self.slots, profile='profile = "msrpc"' if mapper else "",
            fast_path=str(self.fast_path).lower(),
        )  # fmt: skip
        text += services or self._services()
        for number in range(self.members):
            text += f'[[server]]\nname = "s{number}"\nsite = "Bench"\naddress = "{ground.server(number)}"\n\n'
        config = folder / "casarray.toml"
        config.write_text(text)
        return config

    def _services(self) -> str:
        text = f'[[array.service]]\nname = "web"\nport = {PORT}\ngroup = "web"\nprobe = "{self.probe}"\n\n'
        for port in BULK_PORTS:
            # An iperf3 server takes a probe for a client.
            text += f'[[array.service]]\nname = "bulk{port}"\nport = {port}\ngroup = "bulk"\nprobe = "none"\n\n'
        return text


Peer = Routing | Haproxy | Nginx | Casarray


def userspace() -> Casarray:
    """The array in userspace mode."""
    return Casarray(name="userspace", title="casarray, userspace mode", mode="userspace")


def all_peers() -> list[Peer]:
    """Everybody, in the order of the table."""
    tracked = Routing("tracked", "routing with connection tracking", tracked=True)
    netfilter = Casarray(name="netfilter", title="casarray, kernel mode without the fast path", fast_path=False)
    return [Routing(), tracked, Haproxy(), Nginx(), Casarray(), netfilter, userspace()]


def casarray() -> list[str]:
    """The program, as an administrator calls it where it is installed."""
    script = Path(sys.executable).with_name("casarray")
    return [str(script)] if script.exists() else [sys.executable, "-m", "casarray.main"]


def start_casarray(ground: Ground, gateway: Namespace, folder: Path, config: Path) -> Running:
    """Start `casarray run` and wait for ``ready``."""
    began = time.monotonic()
    running = _started(ground, gateway, folder, [*casarray(), "run", "-c", str(config)], word="ready")
    return Running(gateway, ground, folder, program=running.program, ready_seconds=time.monotonic() - began)


@contextmanager
def web_servers(ground: Ground, *, workers: int = 1) -> Iterator[None]:
    """nginx on every servers' host, with a static answer out of memory, on all its addresses."""
    started = []
    try:
        for number in range(ground.hosts):
            folder = folder_of(ground, f"web{number}")
            config = folder / "nginx.conf"
            config.write_text(
                NGINX_SERVER.format(
                    workers=workers,
                    folder=folder,
                    listen=" ".join(f"listen {port} reuseport backlog=16384;" for port in WEB_PORTS),
                )
            )
            host = ground.server_host(number)
            process = _spawn(host, folder, ["nginx", "-c", str(config)])
            started.append(process)
            _wait_listening(host, PORT, process, folder)
        yield
    finally:
        stop(started)


@contextmanager
def bulk_servers(ground: Ground) -> Iterator[None]:
    """iperf3 servers, one for each bulk port on every servers' host."""
    started = []
    try:
        for number in range(ground.hosts):
            host = ground.server_host(number)
            for port in BULK_PORTS:
                process = _spawn(host, folder_of(ground, f"bulk{number}-{port}"), ["iperf3", "-s", "-p", str(port)])
                started.append(process)
                _wait_listening(host, port, process, folder_of(ground, f"bulk{number}-{port}"))
        yield
    finally:
        stop(started)


def stop(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """End them, politely and then not."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ports(mapper: bool) -> tuple[int, ...]:
    return (MAPPER_PORT,) if mapper else (PORT, *BULK_PORTS)


def folder_of(ground: Ground, name: str) -> Path:
    folder = ground.folder / name
    folder.mkdir(exist_ok=True)
    return folder


def _own_vip(gateway: Namespace) -> None:
    gateway.ip(f"addr add {VIP}/32 dev eth0")


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(here()), os.environ.get("PYTHONPATH"))))
    usual = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return usual | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": path, "CASARRAY_LOG": "WARNING"}


def _spawn(host: Namespace, folder: Path, command: list[str]) -> "subprocess.Popen[bytes]":
    with (folder / "out").open("wb") as out, (folder / "log").open("ab") as log:
        return host.spawn(*command, stdout=out, stderr=log, env=_environment())


def _started(ground: Ground, gateway: Namespace, folder: Path, command: list[str], word: str = "") -> Running:
    """Start the command in the gateway and wait: for its word, or until it listens."""
    process = _spawn(gateway, folder, command)
    if not word:
        port = MAPPER_PORT if "p135" in "".join(p.read_text() for p in folder.glob("haproxy.cfg")) else PORT
        _wait_listening(gateway, port, process, folder)
        return Running(gateway, ground, folder, program=process)
    until = time.monotonic() + START_SECONDS
    while word not in (folder / "out").read_text(errors="replace").splitlines():
        _still_there(process, folder, until)
        time.sleep(0.002)
    return Running(gateway, ground, folder, program=process)


def _wait_fast_path(gateway: Namespace) -> None:
    """It comes right after ``ready``, where the kernel can; else all goes the usual way, and is measured so."""
    until = time.monotonic() + FAST_PATH_SECONDS
    while time.monotonic() < until:
        if "casarray" in gateway.run("tc", "filter", "show", "dev", "eth0", "ingress", check=False).stdout:
            return
        time.sleep(0.02)


def _wait_listening(host: Namespace, port: int, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while f":{port} " not in host.run("ss", "-ltnH").stdout:
        _still_there(process, folder, until)
        time.sleep(0.02)


def _still_there(process: "subprocess.Popen[bytes]", folder: Path, until: float) -> None:
    said = (folder / "log").read_text(errors="replace")[-2000:]
    if process.poll() is not None:
        raise Unavailable(f"{folder.name} ended at its start ({process.returncode}): {said}")
    if time.monotonic() > until:
        raise Unavailable(f"{folder.name} is not ready after {START_SECONDS:.0f} s: {said}")
