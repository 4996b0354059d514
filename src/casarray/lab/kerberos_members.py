"""A member with real web and mail servers that read tickets: Apache with mod_auth_gssapi, Dovecot, Postfix.

They run in the namespace of a `Lab`, from configuration written here, and take tickets for any name whose key stands in
their keytab files. Those files are somebody else's to write: `casarray agent`, or a test. Nothing of the host's own
configuration, mail or replay caches is touched; all of it stands in one folder below /tmp, which goes with the member.

    http, https   / and /health are open; /ews wants Negotiate and names the user; /both takes Basic as well
    imap 143, pop3 110   GSSAPI, and PLAIN with the member's password
    smtp 25       AUTH GSSAPI and PLAIN through Dovecot

**Which reload a new keytab needs: none.** mod_auth_gssapi acquires its credentials for each request anew, and Dovecot's
auth process for each login; both open the keytab file by its name, so a file that was renamed into place counts from
the next login on. Tried with Apache 2.4 (module 1.6.4) and Dovecot 2.3.19: see tests/lab/test_kerberos_members.py. The
commands in `KeytabFile.reload` are harmless all the same, for those who want to see an agent run them.
"""

import base64
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casarray.core.errors import Unavailable
from casarray.lab.netns import Namespace

HTTP = "http"
MAIL = "mail"
START_SECONDS = 20.0
STOP_SECONDS = 5.0
_FOLDERS = "casarray-member-"

_MODULES = Path("/usr/lib/apache2/modules")
_POSTFIX_MASTER = "/usr/lib/postfix/sbin/master"
_NEEDS = {
    HTTP: {
        "/usr/sbin/apache2": "apache2",
        str(_MODULES / "mod_auth_gssapi.so"): "libapache2-mod-auth-gssapi",
        "/usr/bin/openssl": "openssl",
    },
    MAIL: {
        "/usr/sbin/dovecot": "dovecot-core",
        "/usr/lib/dovecot/imap": "dovecot-imapd",
        "/usr/lib/dovecot/pop3": "dovecot-pop3d",
        "/usr/lib/dovecot/modules/auth/libmech_gssapi.so": "dovecot-gssapi",
        _POSTFIX_MASTER: "postfix",
    },
}
_APACHE_MODULES = (
    *("mpm_event", "authn_core", "authz_core", "authz_user", "auth_basic", "authn_file", "auth_gssapi"),
    *("dir", "mime", "include", "filter", "ssl", "setenvif", "headers", "env"),
)
_APACHE = """\
ServerRoot {folder}
ServerName {fqdn}
PidFile {folder}/httpd.pid
DefaultRuntimeDir {folder}
ErrorLog {folder}/httpd-error.log
User www-data
Group www-data
{listen}
{modules}
StartServers 1
ServerLimit 4
MaxRequestWorkers 100
TypesConfig /etc/mime.types
LogFormat "%h %u \\"%r\\" %>s" short
CustomLog {folder}/httpd-access.log short
DocumentRoot {folder}/www
DirectoryIndex index.shtml index.html
DirectorySlash Off
KeepAlive On
MaxKeepAliveRequests 0
<Directory {folder}/www>
    Options +Includes
    AddType text/html .shtml
    AddOutputFilter INCLUDES .shtml
    Require all granted
</Directory>
# No acceptor's name: any key of the keytab may serve, so a ticket for the array's name is taken whatever the member
# is called.
<LocationMatch "^/(ews|both)">
    AuthType GSSAPI
    AuthName "lab"
    GssapiCredStore keytab:{folder}/http.keytab
    GssapiAllowedMech krb5
    GssapiLocalName Off
    GssapiPublishErrors On
    Require valid-user
</LocationMatch>
<Location "/both">
    Header always add WWW-Authenticate "Basic realm=\\"lab\\"" "expr=%{{REQUEST_STATUS}} == 401"
    <If "%{{HTTP:Authorization}} =~ /^Basic /">
        AuthType Basic
        AuthBasicProvider file
        AuthUserFile {folder}/basic
    </If>
</Location>
{hosts}
"""
_TLS_HOST = """\
<VirtualHost {address}:443>
    ServerName {fqdn}
    SSLEngine on
    SSLCertificateFile {folder}/tls.pem
    SSLCertificateKeyFile {folder}/tls.key
</VirtualHost>
"""
_DOVECOT = """\
base_dir = {folder}/dovecot
log_path = {folder}/dovecot.log
protocols = imap pop3
listen = {addresses}
login_greeting = {name} ready
ssl = no
disable_plaintext_auth = no
auth_verbose = yes
first_valid_uid = 1
mail_location = maildir:{folder}/mail/%n
auth_mechanisms = gssapi plain
auth_krb5_keytab = {folder}/mail.keytab
# Any key of the keytab may serve, whatever this host is called.
auth_gssapi_hostname = "$ALL"
auth_realms = {realm}
auth_default_realm = {realm}
import_environment = KRB5_CONFIG={krb5_conf} KRB5RCACHEDIR={folder}/replay
default_internal_user = dovecot
default_login_user = dovenull
mail_max_userip_connections = 1000
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={folder}/mail/%n allow_all_users=yes
}}
service imap-login {{
  service_count = 0
  inet_listener imap {{
    port = 143
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  service_count = 0
  inet_listener pop3 {{
    port = 110
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service auth {{
  unix_listener postfix-auth {{
    mode = 0666
  }}
}}
"""
_POSTFIX = """\
compatibility_level = 3.6
queue_directory = {folder}/postfix/queue
data_directory = {folder}/postfix/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = {addresses}
inet_protocols = all
myhostname = {fqdn}
mydestination =
mynetworks = 127.0.0.0/8
local_recipient_maps =
alias_maps =
default_transport = error:the lab sends nothing out
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {folder}/dovecot/postfix-auth
smtpd_sasl_security_options = noanonymous
smtpd_recipient_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_client_connection_count_limit = 0
# The lab has no reverse zones; whoever looks a client up there greets it seconds later, too late for a probe.
smtpd_peername_lookup = no
"""
_POSTFIX_MASTER_CF = """\
smtp      inet  n - n - - smtpd
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
proxymap  unix  - - n - - proxymap
error     unix  - - n - - error
anvil     unix  - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
"""


def missing(services: Sequence[str] = (HTTP, MAIL)) -> str | None:
    """Why these servers cannot run here; None if they can."""
    packages = {p for service in services for path, p in _NEEDS[service].items() if not Path(path).exists()}
    return f"Debian packages are missing: {', '.join(sorted(packages))}" if packages else None


@dataclass(frozen=True, slots=True)
class KeytabFile:
    """A keytab that a service reads: where it lies, who must be able to read it, and how the service is reloaded."""

    path: Path
    owner: str  # the user its reader runs as; mode 0600
    reload: tuple[str, ...]  # a command; no reader of ours needs it

    def write(self, keytab: bytes) -> None:
        """Put it in place as an agent would: written aside, with its owner and mode, and renamed."""
        aside = self.path.with_name(f".{self.path.name}.new")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(keytab)
        owner = pwd.getpwnam(self.owner)
        os.chown(aside, owner.pw_uid, owner.pw_gid)
        aside.rename(self.path)


def _sweep() -> None:
    """Remove the folders of members whose owner was killed; their names carry its process."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDERS}*-*"):
        owner = folder.name.removeprefix(_FOLDERS).partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)


class KerberosMember:
    """The servers of one member. A context manager; leaving it leaves neither processes nor files.

    ``addresses``: where it listens, those of its namespace. ``krb5_conf``: what tells its servers of the realm.
    ``password``: what PLAIN and Basic take from every user, made for each member.
    """

    def __init__(
        self,
        host: Namespace,
        name: str,
        addresses: Sequence[str],
        *,
        krb5_conf: Path,
        domain: str = "lab.example",
        services: Sequence[str] = (HTTP, MAIL),
        users: Sequence[str] = ("alice",),
    ) -> None:
        self.host = host
        self.name = name
        self.fqdn = f"{name}.{domain}"
        self.addresses = tuple(addresses)
        self.realm = domain.upper()
        self.services = tuple(services)
        self.password = secrets.token_urlsafe(12)
        self.processes: dict[str, subprocess.Popen[Any]] = {}
        _sweep()
        # Not below the folder of a test: that hides from the users that the servers' workers become.
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDERS}{os.getpid()}-{name}-"))
        self.folder.chmod(0o711)
        self._krb5_conf = self.folder / "krb5.conf"
        self._krb5_conf.write_bytes(krb5_conf.read_bytes())
        self._users = tuple(users)

    def __enter__(self) -> "KerberosMember":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def keytabs(self) -> Mapping[str, KeytabFile]:
        """The keytab files of its services, by service: ``http``, ``mail``."""
        known = {
            HTTP: KeytabFile(
                self.folder / "http.keytab",
                "www-data",
                ("apache2", "-f", f"{self.folder}/httpd.conf", "-k", "graceful"),
            ),
            MAIL: KeytabFile(
                self.folder / "mail.keytab", "dovecot", ("doveadm", "-c", f"{self.folder}/dovecot.conf", "reload")
            ),
        }
        return {service: known[service] for service in self.services}

    def write_keytabs(self, keytab: bytes) -> None:
        """Give every service these keys."""
        for file in self.keytabs.values():
            file.write(keytab)

    def start(self) -> None:
        """Start the services and wait until they listen. `Unavailable` with the last of their words."""
        (self.folder / "replay").mkdir(exist_ok=True)
        (self.folder / "replay").chmod(0o1777)  # each user that reads tickets keeps a file of its own in there
        if HTTP in self.services:
            self._write_web()
            self._spawn("httpd", "apache2", "-f", f"{self.folder}/httpd.conf", "-DFOREGROUND")
        if MAIL in self.services:
            self._write_mail()
            self._spawn("dovecot", "dovecot", "-F", "-c", f"{self.folder}/dovecot.conf")
            self.host.run("postfix", "-c", f"{self.folder}/postfix/etc", "check", check=False)
            # With `postfix start` the master would leave our hands; so it stays in front.
            self._spawn("postfix", _POSTFIX_MASTER, "-d", "-c", f"{self.folder}/postfix/etc")
        for port in self.ports:
            self._until_listening(port)

    @property
    def ports(self) -> tuple[int, ...]:
        """The TCP ports it listens on."""
        return (80, 443) * (HTTP in self.services) + (143, 110, 25) * (MAIL in self.services)

    def close(self) -> None:
        """End the services and remove the folder. Twice is once."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self) -> None:
        """End the services, each with its children; it can be started again."""
        self.ask_to_end()
        for process in reversed(self.processes.values()):
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            # Each leads a session of its own; whoever outlived its parent is in there.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()

    def ask_to_end(self) -> None:
        """Tell the services to end, and do not wait."""
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.terminate()

    def log(self, name: str) -> str:
        """The end of ``httpd-error``, ``httpd-access``, ``dovecot`` or ``postfix``."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def _spawn(self, name: str, *command: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("KRB5")}
        env = kept | {"KRB5_CONFIG": str(self._krb5_conf), "KRB5RCACHEDIR": str(self.folder / "replay")}
        with (self.folder / f"{name}.out").open("ab") as out:
            self.processes[name] = self.host.spawn(*command, stdout=out, stderr=out, env=env)

    def _until_listening(self, port: int) -> None:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                with self.host.inside(), socket.create_connection((self.addresses[0], port), 1.0):
                    return
            except OSError as error:
                ended = [name for name, process in self.processes.items() if process.poll() is not None]
                if ended or time.monotonic() > until:
                    words = "".join(p.read_text(errors="replace")[-1000:] for p in self.folder.glob("*.out"))
                    words += self.log("httpd-error") + self.log("dovecot") + self.log("postfix")
                    raise Unavailable(
                        f"{self.name} does not listen on port {port} ({', '.join(ended) or error}):\n{words}"
                    ) from error
                time.sleep(0.02)

    def _write_web(self) -> None:
        for place in ("ews", "both", "health"):
            (self.folder / "www" / place).mkdir(parents=True, exist_ok=True)
        page = f'{self.name} <!--#echo var="REMOTE_USER" --> via <!--#echo var="SERVER_ADDR" -->\n'
        for place in ("", "ews/", "both/"):
            (self.folder / f"www/{place}index.shtml").write_text(page)
        (self.folder / "www/health/index.html").write_text("ok\n")
        self._write_basic()
        self._write_certificate()
        words = {"folder": self.folder, "fqdn": self.fqdn}
        bracketed = [f"[{address}]" if ":" in address else address for address in self.addresses]
        text = _APACHE.format(
            **words,
            listen="\n".join(f"Listen {address}:{port}" for address in bracketed for port in (80, 443)),
            modules="\n".join(f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in _APACHE_MODULES),
            hosts="".join(_TLS_HOST.format(address=address, **words) for address in bracketed),
        )
        (self.folder / "httpd.conf").write_text(text)

    def _write_basic(self) -> None:
        path = self.folder / "basic"
        path.touch(0o600)
        digest = base64.b64encode(hashlib.sha1(self.password.encode()).digest()).decode()
        path.write_text("".join(f"{user}:{{SHA}}{digest}\n" for user in self._users))
        os.chown(path, pwd.getpwnam("www-data").pw_uid, -1)

    def _write_certificate(self) -> None:
        if (self.folder / "tls.pem").exists():
            return
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-days", "2", "-subj", f"/CN={self.fqdn}", "-keyout", f"{self.folder}/tls.key",
                "-out", f"{self.folder}/tls.pem",
            ],
            check=True, capture_output=True, timeout=30,
        )  # fmt: skip

    def _write_mail(self) -> None:
        for place in ("dovecot", "mail", "postfix/etc", "postfix/queue", "postfix/data"):
            (self.folder / place).mkdir(parents=True, exist_ok=True)
        os.chown(self.folder / "mail", pwd.getpwnam("mail").pw_uid, -1)
        os.chown(self.folder / "postfix/data", pwd.getpwnam("postfix").pw_uid, -1)
        words: dict[str, Any] = {
            "folder": self.folder,
            "name": self.name,
            "fqdn": self.fqdn,
            "realm": self.realm,
            "krb5_conf": self._krb5_conf,
            "addresses": ", ".join(self.addresses),
        }
        conf = self.folder / "dovecot.conf"
        conf.touch(0o600)
        conf.write_text(_DOVECOT.format(password=self.password, **words))
        (self.folder / "postfix/etc/main.cf").write_text(_POSTFIX.format(**words))
        (self.folder / "postfix/etc/master.cf").write_text(_POSTFIX_MASTER_CF)
