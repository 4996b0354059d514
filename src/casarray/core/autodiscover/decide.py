"""Whom a client is told: from the directory and the settings of arrays to the answer, with the reasons for the log.

Over TCP clients are told the name of the array, over HTTP the published name, and the two must differ: what Outlook can
resolve as EXCH from outside it tries first, and waits for. A database that is active in another site is told under the
array of that site, by the directory's rule (`lookup.told`). Since Exchange 2013 a server is named by the mailbox:
GUID@DOMAIN. [MS-OXDSCLI] 2.2.4, 3.2.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from uuid import NAMESPACE_URL, uuid5

from casarray.core.autodiscover.request import Request
from casarray.core.autodiscover.response import (
    EXCH,
    EXPR,
    MAPI_HTTP,
    WEB,
    ErrorCode,
    OwaUrl,
    Protocol,
    RedirectAddress,
    RedirectUrl,
    Refusal,
    Response,
    Settings,
    Side,
    User,
)
from casarray.core.config import DirectorySettings
from casarray.core.directory import legacy_dn
from casarray.core.directory.legacy_dn import accounts_with_legacy_dn
from casarray.core.directory.lookup import accounts_with_address, array_of_site, by_fqdn, told
from casarray.core.directory.model import Account, Array, Database, Directory, key
from casarray.core.kerberos.shares import published

EXCHANGE_2010, EXCHANGE_2013 = "exchange-2010", "exchange-2013"


def server_version(major: int, minor: int, build: int) -> str:
    """As ServerVersion has it: from the top 4 bits that are 7, 6 of major, 6 of minor, a set one, 15 of build."""
    return f"{7 << 28 | major << 22 | minor << 16 | 1 << 15 | build:08X}"


#: What servers of each profile say they are at least: 2010 SP3, and 2013 SP1, the first with MAPI over HTTP.
VERSIONS: Mapping[str, str] = {EXCHANGE_2010: server_version(14, 3, 123), EXCHANGE_2013: server_version(15, 0, 847)}


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides besides the directory. Keys of mappings are folded: `key` of an address or an account's name."""

    profile: str = DirectorySettings().profile  # of arrays that name none
    redirects: Mapping[str, RedirectAddress | RedirectUrl] = field(default_factory=dict)  # by address
    mailbox_guids: Mapping[str, str] = field(default_factory=dict)  # by account; they go before the directory's
    deployment_id: str = ""  # empty: worked out of the organisation's name, so always the same
    anywhere_authentication: str = "Ntlm"  # of EXPR; Negotiate only where every Outlook knows it
    owa_authentication: str = "Basic, Fba"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, and sentences for the log about what an administrator may have to put right."""

    response: Response
    notes: tuple[str, ...] = ()


def decide(directory: Directory, request: Request, rules: Rules) -> Decision:
    """What this client is told."""
    found = accounts_of(directory, request)
    for address in (request.address, *(account.address for account in found)):
        if address and (redirect := rules.redirects.get(key(address))) is not None:
            return _redirected(address, redirect)
    if not found:
        return Decision(Refusal(ErrorCode.UNKNOWN_ADDRESS, "The email address can't be found."))
    if len(found) > 1:
        names = ", ".join(account.name for account in found)
        return _misconfigured(f"the accounts {names} have the same address {found[0].address}: change all but one")
    return _decide(directory, rules, found[0], request.mapi_http)


def _redirected(address: str, redirect: RedirectAddress | RedirectUrl) -> Decision:
    if isinstance(redirect, RedirectAddress) and key(redirect.address) == key(address):
        return _misconfigured(f"the address {address} is redirected to itself: remove that redirect, or set another")
    return Decision(redirect)


def _decide(directory: Directory, rules: Rules, account: Account, mapi_http: bool) -> Decision:
    if not account.database:
        note = f"the account {account.name} asked for its settings and has no mailbox: enable one, or tell the user"
        return Decision(Refusal(ErrorCode.NO_OPTIONS, "Bad Address"), (note,))
    database = directory.databases.get(key(account.database))
    if database is None:
        return _misconfigured(
            f"the mailbox of {account.name} is in the database {account.database}, which is not in the directory: "
            "move it, or add the database"
        )
    return _settings(_Home(directory, rules, account, told_database(directory, database)), mapi_http)


def accounts_of(directory: Directory, request: Request) -> tuple[Account, ...]:
    """Whose settings are asked for; by the address if there is one, else by the legacyExchangeDN."""
    if request.address:
        return accounts_with_address(directory, request.address)
    return accounts_with_legacy_dn(directory, request.legacy_dn)


def told_database(directory: Directory, database: Database) -> Database:
    """The database as its clients are told of it now: after a switchover, with the name of the other site's array."""
    return replace(database, rpc_client_access_server=told(directory, database))


def published_name(array: Array) -> str:
    """The name that EXPR tells: the first published one that is not the array's own; empty if there is none.

    A name for Autodiscover alone is told only where there is no other.
    """
    names = [name for name in published(array) if key(name) != key(array.fqdn)]
    others = [name for name in names if not key(name).startswith("autodiscover.")]
    return next(iter((*others, *names)), "")


@dataclass(frozen=True, slots=True)
class _Home:
    """One mailbox and what is known about the way to it."""

    directory: Directory
    rules: Rules
    account: Account
    database: Database  # with the name that is told now

    def array(self) -> Array | None:
        """The array that is told; of a database that names a single server, the array of that server's site."""
        named = by_fqdn(self.directory, self.database.rpc_client_access_server)
        if named is None or isinstance(named, Array):
            return named
        return array_of_site(self.directory, named.site)

    def profile(self, array: Array) -> str:
        """The array's profile; with services of its own and none named, it has none."""
        default = "" if "service" in array.settings else self.rules.profile
        return str(array.settings.get("profile", default))

    def mailbox(self) -> str:
        """GUID@DOMAIN; empty without the GUID or the address."""
        given = self.rules.mailbox_guids.get(key(self.account.name), "")
        guid = given or self.account.mailbox_guid or self.account.guid
        domain = self.account.address.rpartition("@")[2]
        return f"{guid}@{domain}" if guid and domain else ""

    def user(self) -> User:
        deployment = self.rules.deployment_id or str(uuid5(NAMESPACE_URL, f"/o={key(self.directory.organization)}"))
        dn = legacy_dn.of_account(self.directory, self.account)
        return User(self.account.display_name or self.account.name, dn, self.account.address, deployment)


def _misconfigured(note: str) -> Decision:
    return Decision(Refusal(ErrorCode.MISCONFIGURED, "Bad Address"), (note,))


def _settings(home: _Home, mapi_http: bool) -> Decision:
    fqdn = home.database.rpc_client_access_server
    if by_fqdn(home.directory, fqdn) is None:
        return _misconfigured(
            f"clients of the database {home.database.name} would be told {fqdn}, which is neither an array nor a "
            f"server: set its RpcClientAccessServer to the array of its site"
        )
    array = home.array()
    if array is None:
        note = f"clients of the database {home.database.name} are told the single server {fqdn}: its site has no array"
        return Decision(Settings(home.user(), (_exchange_2010(home),)), (note,))
    profile, name, notes = home.profile(array), published_name(array), []
    if key(array.fqdn) != key(fqdn):
        notes.append(
            f"clients of the database {home.database.name} are told the single server {fqdn}, and not the array "
            f"{array.fqdn} of its site: set its RpcClientAccessServer to the array"
        )
    if profile not in VERSIONS:
        return _misconfigured(
            f"the array {array.name} has the profile {profile or 'none'}, of which Autodiscover knows nothing to "
            f"tell: it needs {EXCHANGE_2010} or {EXCHANGE_2013}"
        )
    if not name:
        notes.append(
            f"clients of the array {array.name} are not told of RPC over HTTP: it has no published name that differs "
            f"from {array.fqdn}; set one (casarray array set {array.name} --published NAME)"
        )
    if profile == EXCHANGE_2013 and not home.mailbox():
        return _misconfigured(
            f"the mailbox of {home.account.name} has no GUID or no address, and clients of the profile {profile} reach "
            "it by both: give it what is missing"
        )
    protocols = _protocols(home, array, profile, name, mapi_http)
    return Decision(Settings(home.user(), protocols), tuple(notes))


def _protocols(home: _Home, array: Array, profile: str, name: str, mapi_http: bool) -> tuple[Protocol, ...]:
    web = _web(home, array, name)
    if profile == EXCHANGE_2013 and mapi_http:
        return (_mapi_http(home, array, name), web)
    first = _exchange_2013(home) if profile == EXCHANGE_2013 else _exchange_2010(home)
    urls = _urls(name or array.fqdn)
    exch = replace(first, as_url=urls, ews_url=urls, oof_url=urls)
    return (exch, _expr(home, name), web) if name else (exch, web)


def _exchange_2010(home: _Home) -> Protocol:
    mdb = legacy_dn.of_database(home.directory, home.database)
    return Protocol(
        EXCH,
        server=home.database.rpc_client_access_server,
        server_dn=mdb.removesuffix(legacy_dn.PRIVATE_MDB),
        server_version=VERSIONS[EXCHANGE_2010],
        mdb_dn=mdb,
    )


def _exchange_2013(home: _Home) -> Protocol:
    dn = f"{legacy_dn.of_admin_group(home.directory)}/cn=Configuration/cn=Servers/cn={home.mailbox()}"
    return Protocol(
        EXCH,
        server=home.mailbox(),
        server_dn=dn,
        server_version=VERSIONS[EXCHANGE_2013],
        mdb_dn=dn + legacy_dn.PRIVATE_MDB,
    )


def _expr(home: _Home, name: str) -> Protocol:
    urls = _urls(name)
    return Protocol(
        EXPR,
        server=name,
        as_url=urls,
        ews_url=urls,
        oof_url=urls,
        ssl="On",
        auth_package=home.rules.anywhere_authentication,
        cert_principal_name=f"msstd:{name}",
    )


def _web(home: _Home, array: Array, name: str) -> Protocol:
    """Inside, the published name serves as well: a certificate need not have the array's own."""

    def side(host: str, protocol: str) -> Side:
        owa = OwaUrl(f"https://{host}/owa/", home.rules.owa_authentication)
        return Side((owa,), protocol, _urls(host))

    return Protocol(WEB, side(name or array.fqdn, EXCH), side(name, EXPR) if name else None)


def _mapi_http(home: _Home, array: Array, name: str) -> Protocol:
    def urls(path: str) -> tuple[str, str]:
        inside, outside = (
            f"https://{host}/mapi/{path}/?MailboxId={home.mailbox()}" if host else ""
            for host in (name or array.fqdn, name)
        )
        return inside, outside

    return Protocol(MAPI_HTTP, mail_store=urls("emsmdb"), address_book=urls("nspi"))


def _urls(host: str) -> str:
    """Where availability, out-of-office and everything else of Exchange Web Services is asked for."""
    return f"https://{host}/EWS/Exchange.asmx"
