"""Who has which service principal name, in the whole forest: asked of a global catalogue.

A global catalogue holds a part of every object of every domain of the forest, and these names are among it. It answers
on ports of its own. Where none does, the domain alone can be asked, and that is said.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from casarray.adapters.kerberos.ad_names import whole
from casarray.adapters.stores.ldap_connection import Connection
from casarray.adapters.stores.ldap_link import Link
from casarray.core.directory.active_directory import domain_name
from casarray.core.errors import Unavailable
from casarray.core.kerberos import ad_account
from casarray.core.kerberos.account import Owner
from casarray.core.kerberos.principal import Spn

Linking = Callable[[Sequence[str]], Link]
"""Makes a way to the first of these that answers: LDAP URLs."""

AT_ONCE = 100  # names in one search
_DOMAINS = "(&(objectClass=crossRef)(systemFlags:1.2.840.113556.1.4.803:=2))"


class Forest:
    """The global catalogue, and in its place the domain."""

    def __init__(self, domain: Link, urls: Sequence[str], link: Linking, remarks: list[str]) -> None:
        """``domain``: the way to its domain controller; ``remarks`` gets a sentence when that is all there is."""
        self._domain = domain
        self._urls = urls
        self._link = link
        self._remarks = remarks
        self._catalogue: Link | None = None
        self._alone = False  # no global catalogue answered

    def owners(self, names: Sequence[Spn]) -> Mapping[Spn, tuple[Owner, ...]]:
        """Who has each of these; those that nobody has are left out."""
        found: dict[Spn, list[Owner]] = {}
        unique = list(dict.fromkeys(names))
        for start in range(0, len(unique), AT_ONCE):
            chunk = unique[start : start + AT_ONCE]
            for owner in self._search(ad_account.names_filter([str(spn) for spn in chunk])):
                held = {name.casefold() for name in owner.names}
                for spn in chunk:
                    if spn.key in held:
                        found.setdefault(spn, []).append(owner)
        return {spn: tuple(owners) for spn, owners in found.items()}

    def everybody(self) -> Iterable[Owner]:
        """Every account that has a name."""
        return self._search(ad_account.OWNERS_FILTER)

    def close(self) -> None:
        """Hang up."""
        if self._catalogue is not None:
            self._catalogue.close()
            self._catalogue = None

    def _search(self, what: str) -> list[Owner]:
        """All that match, as a whole: a search that is begun anew elsewhere must not give anybody twice."""
        if not self._alone:
            try:
                return self._of_forest().attempt(lambda connection: _owners(connection, "", what))
            except Unavailable as error:
                self._remark(error)
                self._alone = True
        return self._domain.attempt(lambda connection: _owners(connection, connection.partitions.domain, what))

    def _of_forest(self) -> Link:
        if self._catalogue is None:
            root = self._domain.attempt(lambda connection: domain_name(connection.partitions.root))
            secure = any(url.startswith("ldaps:") for url in self._urls)
            urls = [catalogue_url(url) for url in (*self._urls, f"{'ldaps' if secure else 'ldap'}://{root}")]
            self._catalogue = self._link(list(dict.fromkeys(urls)))
        return self._catalogue

    def _remark(self, error: Unavailable) -> None:
        domains = self._domain.attempt(_domains)
        if len(domains) > 1:
            here = self._domain.attempt(lambda connection: domain_name(connection.partitions.domain))
            self._remarks.append(
                f"no global catalogue answers ({error}): names were looked for in the domain {here} alone, so another "
                f"domain of the forest may have them too; name a domain controller that is a global catalogue in realm "
                f"under [kerberos]"
            )


def catalogue_url(url: str) -> str:
    """The same domain controller, or domain, at the port of the global catalogue: 3268, or 3269 with TLS."""
    found = re.fullmatch(r"(ldaps?)://(\[[^\]]*\]|[^:/]+)(:\d+)?/?", url)
    assert found is not None  # a Connector has read it
    return f"{found[1]}://{found[2]}:{3269 if found[1] == 'ldaps' else 3268}"


def _owners(connection: Connection, base: str, what: str) -> list[Owner]:
    rows = connection.rows(base, "sub", what, ad_account.OWNER_ATTRIBUTES)
    return [ad_account.owner_of(dn, whole(connection, dn, values)) for dn, values in rows]


def _domains(connection: Connection) -> list[str]:
    """The domains of the forest."""
    base = f"CN=Partitions,{connection.partitions.configuration}"
    return [dn for dn, _ in connection.rows(base, "one", _DOMAINS, ("1.1",))]
