"""Which array uses which shared account, and on which servers its keys lie."""

from collections.abc import Iterator
from dataclasses import dataclass

from casarray.core.config import KerberosSettings
from casarray.core.directory.lookup import servers_of_site
from casarray.core.directory.model import Array, Directory, Server, key
from casarray.core.errors import NotFound


@dataclass(frozen=True, slots=True)
class Share:
    """A shared account, the arrays under whose names it answers, and their members."""

    account: str
    arrays: tuple[Array, ...]
    servers: tuple[Server, ...]  # every member of every array, by name

    def server(self, name: str) -> Server | None:
        """The member of that name or FQDN."""
        wanted = key(name)
        return next((s for s in self.servers if wanted in (key(s.name), key(s.fqdn))), None)


def shares(directory: Directory, settings: KerberosSettings) -> tuple[Share, ...]:
    """All of them, by the account's name. Arrays without an account are in none."""
    found: dict[str, tuple[str, list[Array]]] = {}
    for array in sorted(directory.arrays.values(), key=lambda one: key(one.name)):
        if account := account_of(array, settings):
            found.setdefault(key(account), (account, []))[1].append(array)
    return tuple(_share(directory, account, arrays) for _, (account, arrays) in sorted(found.items()))


def account_of(array: Array, settings: KerberosSettings) -> str:
    """The array's own account, or the forest's; empty: none."""
    own = array.settings.get("service_account")
    return own if isinstance(own, str) and own else settings.account


def published(array: Array) -> tuple[str, ...]:
    """The names, besides its own, that the array's web and mail services are reached by."""
    names = array.settings.get("published")
    return tuple(str(name) for name in names) if isinstance(names, list | tuple) else ()


def share_of(directory: Directory, settings: KerberosSettings, account: str) -> Share:
    """The share of that account (``DOMAIN\\name`` too). `NotFound` says how an array gets one."""
    wanted = key(account.rpartition("\\")[2])
    found = shares(directory, settings)
    exact = [share for share in found if key(share.account) == wanted]
    for share in exact or found:  # a computer's account may be written with its $ or without
        if key(share.account).removesuffix("$") == wanted.removesuffix("$"):
            return share
    raise NotFound(
        f"no array uses the account {account}: set account under [kerberos] in the configuration, or service_account "
        f"of the array (casarray array set NAME --service-account {account})"
    )


def every_member(found: tuple[Share, ...]) -> Iterator[tuple[Share, Server]]:
    """Every member of every share."""
    for share in found:
        for server in share.servers:
            yield share, server


def _share(directory: Directory, account: str, arrays: list[Array]) -> Share:
    members = {
        key(server.name): server
        for array in arrays
        for server in servers_of_site(directory, array.site)
        if server.is_member
    }
    return Share(account, tuple(arrays), tuple(members[name] for name in sorted(members)))
