"""A real MIT Kerberos realm: krb5kdc and kadmind, in a namespace of a `Lab`.

It is up in a tenth of a second. Each realm makes passwords of its own; they travel through standard input and end with
the folder. Nothing of the host's Kerberos is touched: all of it stands in the folder, and `environment` tells where.

    with Lab() as lab, MitKdc(lab, folder) as kdc:
        password = kdc.add_user("alice")
        cache = kdc.ticket("alice", password)            # for KRB5CCNAME
        keytab = kdc.keytab("http/cas.mit.example")      # makes the principal, if there is none
        kdc.administrator                                # a keytab that may do with kadmin what casarray needs
"""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from casarray.core.errors import Unavailable
from casarray.lab.netns import Lab, Namespace

ADMINISTRATOR = "casarray/admin"
START_SECONDS = 20.0

_PROGRAMS = {
    "krb5kdc": "krb5-kdc",
    "kdb5_util": "krb5-kdc",
    "kadmin.local": "krb5-kdc",
    "kadmind": "krb5-admin-server",
    "kadmin": "krb5-user",
    "kinit": "krb5-user",
}
_SBIN = "/usr/sbin"  # not in a plain user's PATH
_KRB5_CONF = """\
[libdefaults]
    default_realm = {realm}
    dns_lookup_realm = false
    dns_lookup_kdc = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
    forwardable = true
[realms]
    {realm} = {{
        kdc = {address}:{port}
        admin_server = {address}
    }}
[domain_realm]
    .{domain} = {realm}
    {domain} = {realm}
"""
_KDC_CONF = """\
[kdcdefaults]
    kdc_listen = {address}:{port}
    kdc_tcp_listen = {address}:{port}
[realms]
    {realm} = {{
        database_name = {folder}/private/principal
        key_stash_file = {folder}/private/stash
        acl_file = {folder}/kadm5.acl
        kadmind_listen = {address}:749
        kpasswd_listen = {address}:464
        max_life = 10h
        supported_enctypes = aes256-cts:normal aes128-cts:normal
    }}
[logging]
    kdc = FILE:{folder}/krb5kdc.log
    admin_server = FILE:{folder}/kadmind.log
"""
_CLOCK = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
int gettimeofday(struct timeval *now, void *zone)
{
    int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int done = real(now, zone);
    now->tv_sec += AHEAD;
    return done;
}
time_t time(time_t *where)
{
    struct timeval now;
    gettimeofday(&now, 0);
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}
"""


def missing() -> str | None:
    """Why a KDC cannot run here; None if it can."""
    packages = {package for program, package in _PROGRAMS.items() if not _path_of(program)}
    return f"Debian packages are missing: {', '.join(sorted(packages))}" if packages else None


def _path_of(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path=_SBIN)


class MitKdc:
    """One KDC with its administration server."""

    def __init__(
        self,
        lab: Lab,
        folder: Path,
        *,
        name: str = "kdc",
        address: str = "10.99.0.11",
        domain: str = "mit.example",
        net: str = "domain",
    ) -> None:
        self.lab = lab
        self.folder = folder
        self.name = name
        self.address = address
        self.domain = domain
        self.net = net
        self.realm = domain.upper()
        self.fqdn = f"{name}.{domain}"
        self.krb5_conf = folder / "krb5.conf"
        self.administrator = folder / "private/administrator.keytab"
        self.host: Namespace
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "MitKdc":
        try:
            self.set_up()
            self.start()
        except BaseException:
            self.tear_down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.tear_down()

    def set_up(self) -> None:
        """Make the namespace, the realm, and an administrator of it."""
        self.host = self.lab.namespace(self.name)
        self.lab.leg(self.host, self.net, f"{self.address}/24")
        (self.folder / "private").mkdir(parents=True, exist_ok=True)
        (self.folder / "private").chmod(0o700)
        self.krb5_conf.write_text(_KRB5_CONF.format(port=88, **self._words()))
        (self.folder / "kdc.conf").write_text(_KDC_CONF.format(port=88, **self._words()))
        (self.folder / "kadm5.acl").write_text(f"{ADMINISTRATOR}@{self.realm} admcil\n")
        master = secrets.token_urlsafe(24)
        self._tool("kdb5_util", "create", "-s", "-r", self.realm, text=f"{master}\n{master}\n")
        self.local(f"addprinc -randkey {ADMINISTRATOR}", f"ktadd -q -norandkey -k {self.administrator} {ADMINISTRATOR}")

    def _words(self) -> dict[str, object]:
        return {"address": self.address, "domain": self.domain, "realm": self.realm, "folder": self.folder}

    def start(self, *daemons: str) -> None:
        """Start krb5kdc and kadmind, or that one of them, and wait until they listen."""
        found = {"krb5kdc": (88, "-n"), "kadmind": (749, "-nofork")}
        for daemon in daemons or tuple(found):
            port, option = found[daemon]
            self._daemons[daemon] = self._spawn(daemon, option, port)

    def stop(self, *daemons: str) -> None:
        """Kill both, or that one, without a word."""
        for daemon in daemons or tuple(self._daemons):
            if process := self._daemons.pop(daemon, None):
                process.kill()
                process.wait()

    @contextmanager
    def clock(self, ahead: int) -> Iterator[Path]:
        """For a while a second krb5kdc on port 89, whose clock is so many seconds ahead; its krb5.conf."""
        library, source = self.folder / f"clock{ahead}.so", self.folder / "clock.c"
        source.write_text(_CLOCK)
        command = ["gcc", "-shared", "-fPIC", f"-DAHEAD=({ahead})", "-o", str(library), str(source), "-ldl"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        krb5_conf, kdc_conf = self.folder / "krb5-clock.conf", self.folder / "kdc-clock.conf"
        krb5_conf.write_text(_KRB5_CONF.format(port=89, **self._words()))
        kdc_conf.write_text(_KDC_CONF.format(port=89, **self._words()))
        changed = {"LD_PRELOAD": str(library), "KRB5_KDC_PROFILE": str(kdc_conf)}
        process = self._spawn("krb5kdc", "-n", 89, changed)
        try:
            yield krb5_conf
        finally:
            process.kill()
            process.wait()

    def _spawn(
        self, daemon: str, option: str, port: int, changed: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        log = self.folder / f"{daemon}.console.log"
        with log.open("ab") as console:
            process = self.host.spawn(
                _path_of(daemon) or daemon, option, stdout=console, stderr=console,
                env=self.environment() | dict(changed or {}),
            )  # fmt: skip
        until = time.monotonic() + START_SECONDS
        while not self._listens(port):
            if process.poll() is not None or time.monotonic() > until:
                raise Unavailable(f"{daemon} does not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        return process

    def _listens(self, port: int) -> bool:
        with self.host.inside(), suppress(OSError), socket.create_connection((self.address, port), timeout=1):
            return True
        return False

    def tear_down(self) -> None:
        """The namespace and what runs in it are the lab's to take away."""
        self.stop()

    def environment(self) -> dict[str, str]:
        """What tells Kerberos programs of this realm; nothing of the caller's reaches them."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KRB5", "VIRTUAL"))}
        return kept | {
            "KRB5_CONFIG": str(self.krb5_conf),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "HOME": str(self.folder),
            "LC_ALL": "C",
        }

    def _tool(self, program: str, *arguments: str, text: str = "", env: Mapping[str, str] | None = None) -> str:
        done = self.host.run(
            _path_of(program) or program, *arguments, check=False, input=text, env=self.environment() | dict(env or {})
        )
        if done.returncode != 0:
            raise Unavailable(f"{program} failed: {done.stderr.strip()[-2000:]}")
        return done.stdout

    # The database behind everybody's back.

    def local(self, *lines: str) -> str:
        """What `kadmin.local` says to these lines. `Unavailable` at the first that failed."""
        done = self.host.run(
            _path_of("kadmin.local") or "kadmin.local", "-r", self.realm, check=False,
            input="".join(f"{line}\n" for line in lines), env=self.environment(),
        )  # fmt: skip
        wrong = [line for line in done.stderr.splitlines() if line and "defaulting to no policy" not in line]
        if done.returncode != 0 or wrong:
            raise Unavailable(f"kadmin.local failed: {' '.join(wrong)}")
        return done.stdout

    def principals(self) -> tuple[str, ...]:
        """All principals of the realm, without it."""
        end = f"@{self.realm}"
        return tuple(line.removesuffix(end) for line in self.local("listprincs").splitlines() if line.endswith(end))

    def wipe(self, *kept: str) -> None:
        """Take away every principal but the realm's own, the administrator and those named."""
        own = ("K/M", "kadmin/", "krbtgt/", "kiprop/", ADMINISTRATOR)
        gone = [one for one in self.principals() if not one.startswith(own) and one not in kept]
        if gone:
            self.local(*(f"delprinc -force {one}" for one in gone))

    # People and services.

    def add_user(self, name: str) -> str:
        """A user; returns the password."""
        password = f"aA1-{secrets.token_urlsafe(15)}"
        self.local(f"addprinc -pw {password} +requires_preauth {name}")
        return password

    def add_service(self, name: str) -> None:
        """A principal with random keys: ``http/cas.mit.example``."""
        self.local(f"addprinc -randkey {name}")

    def keytab(self, *names: str) -> Path:
        """A keytab with the keys these principals have now; those that do not exist are made."""
        path = self.folder / "private" / f"{'+'.join(names).replace('/', '_')}.keytab"
        path.unlink(missing_ok=True)
        there = self.principals()
        made = [f"addprinc -randkey {name}" for name in names if name not in there]
        self.local(*made, *(f"ktadd -q -norandkey -k {path} {name}" for name in names))
        return path

    def ticket(self, user: str, password: str) -> str:
        """A credentials cache of that user, as KRB5CCNAME takes it."""
        cache = f"FILE:{self.folder}/private/{user.replace('/', '_')}.ccache"
        self._tool("kinit", "-c", cache, f"{user}@{self.realm}", text=f"{password}\n")
        return cache

    def admin_ticket(self) -> str:
        """A credentials cache with which kadmin lets in whoever has it."""
        cache = f"FILE:{self.folder}/private/administrator.ccache"
        keytab = str(self.administrator)
        self._tool("kinit", "-c", cache, "-S", "kadmin/admin", "-k", "-t", keytab, f"{ADMINISTRATOR}@{self.realm}")
        return cache

    def service_ticket(self, cache: str, name: str) -> None:
        """Get a ticket for that service into the cache."""
        self._tool("kvno", "-c", cache, f"{name}@{self.realm}")
