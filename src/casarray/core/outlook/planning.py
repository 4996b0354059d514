"""From what somebody wants to test, and what the directory knows, to the plan of the walk."""

from dataclasses import replace

from casarray.core.directory import legacy_dn
from casarray.core.directory.lookup import accounts_with_address, array_of_site, by_fqdn, members, told
from casarray.core.directory.model import Account, Array, Directory, Server, key
from casarray.core.errors import Conflict, NotFound
from casarray.core.kerberos.shares import published
from casarray.core.outlook.journey import Journey, Mailbox
from casarray.core.outlook.walk import Plan
from casarray.core.outlook.wish import Wish


def plan_of(directory: Directory, wish: Wish) -> Plan:
    """The plan. `NotFound` for what the directory does not know, `Conflict` for what does not go together."""
    if wish.deep and not wish.user:
        raise Conflict("a deep test opens a mailbox: say whose (USER@DOMAIN), or test without a logon (--test self)")
    if wish.by_server and not wish.server:
        raise Conflict("a test of one server (--rpc-test server) wants its name: --server NAME")
    account = _account(directory, wish.user)
    box = _mailbox(directory, wish.user, account)
    plan = _of_server(directory, wish, box) if wish.by_server else _of_array(directory, wish, account, box)
    return replace(plan, discover=wish.discover and bool(box.address), outside=wish.outside, http=wish.http)


def _mailbox(directory: Directory, user: str, account: Account | None) -> Mailbox:
    """What is known of it. Of somebody unknown the legacyExchangeDN is guessed, until Autodiscover tells it."""
    address = user if "@" in user else ""
    if account is not None:
        return Mailbox(account.address or address, account.name, legacy_dn.of_account(directory, account))
    if not user:
        return Mailbox()
    name = user.partition("@")[0].rpartition("\\")[2]
    return Mailbox(address, name, legacy_dn.of_account(directory, Account(name)), guessed=True)


def _account(directory: Directory, user: str) -> Account | None:
    """Whose address or name it is; None for somebody whom the directory does not know."""
    if not user:
        return None
    if "@" in user:
        found = accounts_with_address(directory, user)
        if len(found) > 1:
            raise Conflict(f"the accounts {', '.join(one.name for one in found)} have the same address {user}")
        return found[0] if found else None
    return directory.accounts.get(key(user.rpartition("\\")[2]))


def _told(directory: Directory, account: Account | None) -> tuple[str, str]:
    """The account's database, and the name that its clients are told; both empty where nothing is known.

    A name that nobody has is told as it stands: our own Autodiscover would tell the site's array in its place, a
    mailbox server's does not.
    """
    database = directory.databases.get(key(account.database)) if account is not None and account.database else None
    if database is None:
        return "", ""
    named = database.rpc_client_access_server
    return database.name, named if by_fqdn(directory, named) is None else told(directory, database)


def _of_array(directory: Directory, wish: Wish, account: Account | None, box: Mailbox) -> Plan:
    database, name = _told(directory, account)
    array = _array(directory, wish, name)
    if array is None:  # a name that the directory does not know, or that of a server
        fqdn = wish.array or name
        known = by_fqdn(directory, fqdn)
        journey = _journey(wish, fqdn, box, fqdn, by_server=isinstance(known, Server), database=database)
        addresses = known.addresses if known is not None else ()
        plan = Plan(fqdn, fqdn, box, addresses, journey, database=database, told=name)
        known_or_named = known is not None or bool(wish.array)
        return replace(plan, told_known=known_or_named, proxy=wish.proxy, mapper_port=wish.mapper_port)
    dn = legacy_dn.of_server(directory, array)
    mapped = tuple((str(a), server.name) for server in members(directory, array) for a in server.addresses)
    journey = replace(_journey(wish, array.name, box, array.fqdn, dn), known=mapped)
    chosen = _members(directory, wish, array)
    proxy = wish.proxy or next(iter(published(array)), "")
    return Plan(
        array.name,
        array.fqdn,
        box,
        array.addresses,
        journey if not (wish.server and not wish.each_member) else None,
        tuple(_member(journey, server, by_name=wish.http) for server in chosen),
        database=database,
        told=name,
        told_known=not name or by_fqdn(directory, name) is not None,
        proxy=proxy,
        mapper_port=wish.mapper_port,
        known=mapped,
    )


def _array(directory: Directory, wish: Wish, told_name: str) -> Array | None:
    """The array that is meant; None for a name beyond the directory."""
    if wish.array:
        return _array_named(directory, wish.array)
    if wish.server:
        return array_of_site(directory, _server(directory, wish.server).site)
    found = by_fqdn(directory, told_name) if told_name else None
    if isinstance(found, Server):  # clients go past the array; that is what has to be said
        return array_of_site(directory, found.site)
    if isinstance(found, Array):
        return found
    if len(directory.arrays) == 1:
        return next(iter(directory.arrays.values()))
    if told_name:
        return None
    if not directory.arrays:
        raise NotFound("the directory has no array; name one by its FQDN: --array cas.domain.tld")
    raise Conflict(f"there are {len(directory.arrays)} arrays: say which (--array NAME), or whose mailbox")


def _array_named(directory: Directory, name: str) -> Array | None:
    found = directory.arrays.get(key(name)) or by_fqdn(directory, name)
    if isinstance(found, Array):
        return found
    if "." not in name:
        raise NotFound(f"the directory has no array {name}; casarray array list shows them")
    return None


def _server(directory: Directory, name: str) -> Server:
    found = directory.servers.get(key(name)) or by_fqdn(directory, name)
    if not isinstance(found, Server):
        raise NotFound(f"the directory has no server {name}; casarray server list --directory shows them")
    return found


def _members(directory: Directory, wish: Wish, array: Array) -> tuple[Server, ...]:
    found = members(directory, array)
    if wish.server:
        wanted = _server(directory, wish.server)
        if all(key(one.name) != key(wanted.name) for one in found):
            raise NotFound(f"{wanted.name} is no member of {array.name}; casarray array show {array.name} shows them")
        return (wanted,)
    return found if wish.each_member else ()


def _journey(
    wish: Wish,
    server: str,
    box: Mailbox,
    name: str,
    dn: str = "",
    *,
    by_server: bool = False,
    database: str = "",
) -> Journey:
    """To an array, or to a server under its own name."""
    return Journey(
        server,
        name,
        name,
        box,
        dn,
        (name,),
        through_array=not by_server,
        deep=wish.deep,
        logon=wish.logon,
        mapper_port=wish.mapper_port,
        database=database,
    )


def _member(to_array: Journey, server: Server, *, by_name: bool) -> Journey:
    """To a member by itself, as a client of the array would speak to it; proxies want its name."""
    host = str(server.addresses[0]) if server.addresses and not by_name else server.fqdn
    # Towers of a member name the member, and names from RFR are the array's there too.
    own = tuple(map(str, server.addresses))
    return replace(to_array, server=server.name, host=host, own_addresses=own, through_array=False)


def _of_server(directory: Directory, wish: Wish, box: Mailbox) -> Plan:
    server = _server(directory, wish.server)
    array = array_of_site(directory, server.site)
    names = (server.fqdn, array.fqdn) if array is not None else (server.fqdn,)
    dn = legacy_dn.of_server(directory, server)
    journey = replace(_journey(wish, server.name, box, server.fqdn, dn, by_server=True), rfr_names=names)
    return Plan(
        server.name, server.fqdn, box, server.addresses, journey, proxy=wish.proxy, mapper_port=wish.mapper_port
    )
