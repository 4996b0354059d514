"""A real Active Directory: Samba's domain controller, in a namespace of a `Lab`, with the schema that casarray needs.

Provisioning takes about five seconds, a start two. Each domain makes passwords of its own; they travel through standard
input and end with the folder. Nothing of the host's Kerberos or Samba is touched: all of it stands in the folder, and
`environment` tells clients where.
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from casarray.core.directory.active_directory import domain_dn, parent
from casarray.core.directory.ad_schema import schema_ldif
from casarray.core.errors import Unavailable
from casarray.lab.netns import Lab, Namespace

ADMINISTRATOR = "Administrator"
START_SECONDS = 60.0
_TOP = "Microsoft Exchange"

_PROGRAMS = {
    "samba": "samba",
    "samba-tool": "samba",
    "ldbmodify": "ldb-tools",
    "kinit": "krb5-user",
}
_PARTS = {
    "/usr/share/samba/setup/provision.ldif": "samba-ad-provision",
    "/usr/lib/*/samba/ldb/samba_dsdb.so": "samba-dsdb-modules",
    "/usr/lib/*/samba/vfs/acl_xattr.so": "samba-vfs-modules",
    "/usr/lib/*/sasl2/libgssapiv2.so": "libsasl2-modules-gssapi-mit",
}
_SMB_CONF = """\
[global]
    netbios name = {netbios}
    realm = {realm}
    workgroup = {workgroup}
    server role = active directory domain controller
    dns forwarder =
    interfaces = lo eth0
    bind interfaces only = yes
    private dir = {folder}/private
    state directory = {folder}/state
    cache directory = {folder}/cache
    lock directory = {folder}/lock
    pid directory = {folder}/pid
    ncalrpc dir = {folder}/ncalrpc
    winbindd socket directory = {folder}/winbindd
    ntp signd socket directory = {folder}/ntp
    binddns dir = {folder}/bind-dns
    log file = {folder}/log/log.samba
    log level = 1
    max log size = 0
    dsdb:schema update allowed = true
    xattr_tdb:file = {folder}/state/xattr.tdb
    vfs objects = dfs_samba4 acl_xattr xattr_tdb
    disable spoolss = yes
    load printers = no
    tls enabled = yes
    rpc server dynamic port range = 49152-49200
[sysvol]
    path = {folder}/state/sysvol
    read only = no
[netlogon]
    path = {folder}/state/sysvol/{domain}/scripts
    read only = no
"""
_KRB5_CONF = """\
[libdefaults]
    default_realm = {realm}
    dns_lookup_realm = false
    dns_lookup_kdc = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
[realms]
    {realm} = {{
{kdcs}
    }}
[domain_realm]
    .{domain} = {realm}
    {domain} = {realm}
"""


def missing() -> str | None:
    """Why a domain controller cannot run here; None if it can."""
    packages = [package for program, package in _PROGRAMS.items() if not shutil.which(program)]
    packages += [p for pattern, p in _PARTS.items() if not any(Path("/").glob(pattern.removeprefix("/")))]
    return f"Debian packages are missing: {', '.join(sorted(set(packages)))}" if packages else None


def _sweep() -> None:
    """Remove what killed owners left in /etc/netns; a lab's names carry its owner's process."""
    for folder in Path("/etc/netns").glob("ca*x*-*"):
        owner = folder.name[2:].partition("x")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)


class DomainController:
    """One domain controller, of a domain of its own or a further one of another's (``beside``)."""

    def __init__(
        self,
        lab: Lab,
        folder: Path,
        *,
        name: str = "dc1",
        address: str = "10.99.0.10",
        domain: str = "lab.example",
        beside: "DomainController | None" = None,
    ) -> None:
        self.lab = lab
        self.folder = folder
        self.name = name
        self.address = address
        self.domain = domain
        self.beside = beside
        self.realm = domain.upper()
        self.fqdn = f"{name}.{domain}"
        self.base = domain_dn(domain)
        self.password: str = beside.password if beside else f"aA1-{secrets.token_urlsafe(15)}"
        self.krb5_conf = folder / "krb5.conf"
        self.ca = folder / "private/tls/ca.pem"
        self.host: Namespace
        self._conf = folder / "smb.conf"
        self._kept = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "DomainController":
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
        """Make the namespace and the domain."""
        _sweep()
        self.host = self.lab.namespace(self.name)
        self.lab.leg(self.host, "domain", f"{self.address}/24")
        overlay = Path("/etc/netns") / self.host.name
        overlay.mkdir(parents=True, exist_ok=True)
        resolver = self.beside.address if self.beside else self.address
        (overlay / "resolv.conf").write_text(f"search {self.domain}\nnameserver {resolver}\noptions timeout:1\n")
        self._write_folders()
        self._write_configuration()
        if self.beside is not None:
            self._join(self.beside)
            return
        self._tool(
            "samba-tool", "domain", "provision", f"--configfile={self._conf}", f"--realm={self.realm}",
            f"--domain={self._workgroup}", f"--host-name={self.name}", f"--host-ip={self.address}",
            "--server-role=dc", "--dns-backend=SAMBA_INTERNAL",
        )  # fmt: skip
        self.set_password(f"CN={ADMINISTRATOR},CN=Users,{self.base}", self.password)

    @property
    def _workgroup(self) -> str:
        return self.domain.partition(".")[0].upper()

    def _write_folders(self) -> None:
        parts = ("private", "cache", "lock", "pid", "ncalrpc", "log", "winbindd", "ntp", f"state/sysvol/{self.domain}")
        for part in parts:
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / f"state/sysvol/{self.domain}/scripts").mkdir(exist_ok=True)
        (self.folder / "private").chmod(0o700)
        (self.folder / "ntp").chmod(0o750)  # with any other mode, Samba ends itself

    def _write_configuration(self) -> None:
        words = {"folder": self.folder, "domain": self.domain, "realm": self.realm}
        self._conf.write_text(_SMB_CONF.format(netbios=self.name.upper(), workgroup=self._workgroup, **words))
        controllers = [self, *([self.beside] if self.beside else [])]
        kdcs = "\n".join(f"        kdc = {dc.address}" for dc in controllers)
        self.krb5_conf.write_text(_KRB5_CONF.format(kdcs=kdcs, **words))

    def _join(self, other: "DomainController") -> None:
        cache = other.ticket(ADMINISTRATOR, self.password)
        self._tool(
            "samba-tool", "domain", "join", self.domain, "DC", f"--configfile={self._conf}",
            "--use-kerberos=required", f"--use-krb5-ccache={cache}", f"--server={other.fqdn}",
            "--dns-backend=SAMBA_INTERNAL", seconds=90,
        )  # fmt: skip
        self._write_configuration()  # the tool writes one of its own

    def start(self) -> None:
        """Start it and wait until it answers over LDAP as a client would find it."""
        with (self.folder / "console.log").open("ab") as console:
            self._process = self.host.spawn(
                "samba", "--foreground", "--no-process-group", f"--configfile={self._conf}",
                stdout=console, stderr=console, env=self.environment(),
            )  # fmt: skip
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self.search("", "(objectClass=*)", "dnsHostName", scope="base")
                return
            except (Unavailable, subprocess.CalledProcessError) as error:
                if self._process.poll() is not None or time.monotonic() > until:
                    text = (self.folder / "console.log").read_text(errors="replace")[-2000:]
                    raise Unavailable(f"the domain controller {self.name} does not start ({error}):\n{text}") from error
                time.sleep(0.1)

    def stop(self) -> None:
        """Kill every process of it without a word, as a crash would."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """For a while it takes connections and answers nobody."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        listed = subprocess.run(["ip", "netns", "pids", self.host.name], capture_output=True, text=True, check=True)
        for pid in listed.stdout.split():
            if int(pid) != os.getpid():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), number)

    def tear_down(self) -> None:
        """Also what stands outside of the folder. The namespace and what runs in it are the lab's to take away."""
        if not hasattr(self, "host"):
            return  # it did not come so far
        with suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(Path("/etc/netns") / self.host.name, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """What tells Kerberos clients of this domain; nothing of the caller's Python reaches Samba's."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KRB5", "VIRTUAL"))}
        return kept | {"KRB5_CONFIG": str(self.krb5_conf), "LDAPSASL_NOCANON": "on", "HOME": str(self.folder)}

    def _tool(self, *command: str, text: str = "", seconds: float = 60, env: Mapping[str, str] | None = None) -> str:
        done = self.host.run(
            *command, check=False, input=text, timeout=seconds, env=self.environment() | dict(env or {})
        )
        if done.returncode != 0:
            raise Unavailable(f"{' '.join(command[:3])} failed: {(done.stderr + done.stdout).strip()[-2000:]}")
        return done.stdout

    # The directory behind everybody's back.

    def load(self, ldif: str, seconds: float = 300) -> None:
        """Put LDIF (changetypes, or plain entries to add) straight into the database. A running server sees it."""
        self._tool("ldbmodify", f"--configfile={self._conf}", "-H", str(self.folder / "private/sam.ldb"),
                   text=ldif, seconds=seconds)  # fmt: skip

    def add(self, ldif: str, seconds: float = 600) -> None:
        """Add entries straight into the database, in one transaction."""
        self._tool("ldbadd", f"--configfile={self._conf}", "-H", str(self.folder / "private/sam.ldb"),
                   text=ldif, seconds=seconds)  # fmt: skip

    def modify(self, ldif: str) -> None:
        """Do what the LDIF says over LDAP, as the administrator."""
        cache = self.ticket(ADMINISTRATOR, self.password)
        self._tool("ldbmodify", f"--configfile={self._conf}", "-H", f"ldap://{self.fqdn}", "--use-kerberos=required",
                   text=ldif, env={"KRB5CCNAME": cache})  # fmt: skip

    def search(self, base: str, what: str, *attributes: str, scope: str = "sub") -> str:
        """What `ldbsearch` says over LDAP, as the administrator."""
        tool = ("ldbsearch", f"--configfile={self._conf}", "-H", f"ldap://{self.fqdn}", "--use-kerberos=required")
        cache = self.ticket(ADMINISTRATOR, self.password)
        return self._tool(*tool, "-b", base, "-s", scope, what, *attributes, env={"KRB5CCNAME": cache})

    def wipe(self) -> None:
        """Take away what was made since `keep`: the organisation, sites, subnets, accounts, organisational units."""
        database = ("-H", str(self.folder / "private/sam.ldb"))
        kinds = "".join(f"(objectClass={name})" for name in ("user", "site", "subnet", "organizationalUnit"))
        new = f"(&(uSNCreated>={self._kept + 1})(|{kinds}(cn={_TOP})))"
        found = self._tool("ldbsearch", f"--configfile={self._conf}", *database, "--cross-ncs", new, "1.1")
        names = [line.removeprefix("dn: ") for line in found.replace("\n ", "").splitlines() if line.startswith("dn: ")]
        tops = [dn for dn in names if parent(dn) not in names]  # what stands below goes with it
        if tops:
            self._tool("ldbdel", f"--configfile={self._conf}", *database, "-r", *tops, seconds=300)

    def keep(self) -> None:
        """Remember what there is: `wipe` takes away what comes later."""
        found = self.search("", "(objectClass=*)", "highestCommittedUSN", scope="base")
        self._kept = int(found.partition("highestCommittedUSN: ")[2].split()[0])

    def extend_schema(self) -> None:
        """Teach it what casarray keeps. It cannot be undone."""
        self.modify(schema_ldif(self.base))

    # People.

    def set_password(self, dn: str, password: str) -> None:
        """Give a user a password."""
        secret = b64encode(f'"{password}"'.encode("utf-16-le")).decode()
        self.load(f"dn: {dn}\nchangetype: modify\nreplace: unicodePwd\nunicodePwd:: {secret}\n-\n")

    def add_user(self, name: str) -> str:
        """A plain user; returns its password."""
        dn = f"CN={name},CN=Users,{self.base}"
        password = f"aA1-{secrets.token_urlsafe(15)}"
        self.load(f"dn: {dn}\nchangetype: add\nobjectClass: user\nsAMAccountName: {name}\nuserAccountControl: 514\n")
        self.set_password(dn, password)
        self.load(f"dn: {dn}\nchangetype: modify\nreplace: userAccountControl\nuserAccountControl: 66048\n-\n")
        self._keytab_file(name).unlink(missing_ok=True)  # of a user of that name before the controller was put back
        return password

    def ticket(self, user: str, password: str) -> str:
        """A credentials cache of that user, as KRB5CCNAME takes it."""
        cache = f"FILE:{self.folder}/private/{user}.ccache"
        self._tool("kinit", "-c", cache, f"{user}@{self.realm}", text=f"{password}\n")
        return cache

    def keytab(self, user: str) -> Path:
        """A keytab with that user's keys."""
        path = self._keytab_file(user)
        if not path.exists():
            self._tool("samba-tool", "domain", "exportkeytab", str(path), f"--principal={user}", f"-s{self._conf}")
        return path

    def _keytab_file(self, user: str) -> Path:
        return self.folder / f"private/{user}.keytab"

    @contextmanager
    def granted(self, dn: str, *entries: str) -> Iterator[None]:
        """For a while these access control entries (SDDL) stand on an object, too."""
        database = ("-H", str(self.folder / "private/sam.ldb"))
        conf = f"--configfile={self._conf}"
        found = self._tool(
            "ldbsearch", conf, *database, "-b", dn, "-s", "base", "(objectClass=*)", "nTSecurityDescriptor"
        )
        before = found.replace("\n ", "").partition("nTSecurityDescriptor: ")[2].split("\n")[0]
        self._tool("samba-tool", "dsacl", "set", f"--objectdn={dn}", f"--sddl={''.join(entries)}", *database,
                   f"-s{self._conf}")  # fmt: skip
        try:
            yield
        finally:
            edit = f"replace: nTSecurityDescriptor\nnTSecurityDescriptor: {before}"
            self.load(f"dn: {dn}\nchangetype: modify\n{edit}\n-\n")

    # Machines.

    def add_machine(self, name: str, *names: str) -> Path:
        """A server that has joined: its computer account with host/ names (and these), AES keys; returns its keytab.

        The keytab has the keys under ``NAME$`` and ``host/name.domain``.
        """
        fqdn = f"{name}.{self.domain}".lower()
        account = f"{name.upper()}$"
        own = [f"{service}/{host}" for service in ("host", "RestrictedKrbHost") for host in (fqdn, name.upper())]
        secret = b64encode(secrets.token_urlsafe(32).encode("utf-16-le")).decode()
        lines = [
            f"dn: CN={name.upper()},CN=Computers,{self.base}",
            "changetype: add",
            "objectClass: computer",
            f"sAMAccountName: {account}",
            "userAccountControl: 4096",
            f"dNSHostName: {fqdn}",
            *(f"servicePrincipalName: {spn}" for spn in [*own, *names]),
            "msDS-SupportedEncryptionTypes: 24",
            f"clearTextPassword:: {secret}",
        ]
        self.load("\n".join(lines) + "\n")
        path = self.folder / f"private/{name.lower()}.machine.keytab"
        path.unlink(missing_ok=True)
        return self.export(path, account, f"host/{fqdn}")

    def export(self, path: Path, *principals: str) -> Path:
        """Add the keys of these to a keytab, as the domain controller has them now."""
        for principal in principals:
            self._tool("samba-tool", "domain", "exportkeytab", str(path), f"--principal={principal}", f"-s{self._conf}")
        return path

    def export_all(self, path: Path) -> Path:
        """The keys of everybody, as the domain controller has them now."""
        self._tool("samba-tool", "domain", "exportkeytab", str(path), f"-s{self._conf}", seconds=300)
        return path
