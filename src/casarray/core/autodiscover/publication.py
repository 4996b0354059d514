"""Where clients inside the forest find Autodiscover: service connection points in the configuration partition.

Outlook looks for every such object in the forest by its keyword, prefers those whose ``Site=`` is its own site, and
asks at the URL in ``serviceBindingInformation``. Exchange makes one for each server, below the server. One that names a
single server leads clients past the array: all of a site have to say the same URL. Where a site has none, ours stands
below ``CN=casarray Autodiscover,CN=Services``. [MS-OXDISCO] 3.1.5.1.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from casarray.core.directory.active_directory import Partitions, child, dn_key, first_value, is_below
from casarray.core.directory.ad_steps import Add, Delete, Edit, Modify, Step
from casarray.core.directory.model import Array, Directory, key

KEYWORD = "77378F46-2C66-4aa9-A6A6-3E7A48B19596"  # of a URL; that of a pointer to another forest is another one
CLASS, SERVICE = "serviceConnectionPoint", "ms-Exchange-AutoDiscover-Service"
SITE = "Site="
URL = "serviceBindingInformation"
FILTER = f"(&(objectClass={CLASS})(|(keywords={KEYWORD})(serviceClassName={SERVICE})))"
ATTRIBUTES = ("keywords", URL, "serviceClassName", "serviceDNSName")
CONTAINER = "casarray Autodiscover"


@dataclass(frozen=True, slots=True)
class Pointer:
    """One service connection point."""

    dn: str
    urls: tuple[str, ...]
    sites: tuple[str, ...]  # none: for clients of every site
    keywords: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called: Exchange calls it like its server."""
        return first_value(self.dn)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be, and what to do."""

    site: str
    words: str


def read_pointer(dn: str, values: Mapping[str, Sequence[str]]) -> Pointer | None:
    """The object as a pointer; None when it leads to another forest or has not the keyword that clients look for."""
    keywords = tuple(values.get("keywords", ()))
    if key(KEYWORD) not in map(key, keywords):
        return None
    sites = tuple(word[len(SITE) :] for word in keywords if key(word).startswith(key(SITE)))
    return Pointer(dn, tuple(values.get(URL, ())), sites, keywords)


def container(partitions: Partitions) -> str:
    """Where ours stand."""
    return child(CONTAINER, f"CN=Services,{partitions.configuration}")


def is_ours(pointer: Pointer, partitions: Partitions) -> bool:
    """Whether we made it."""
    return is_below(pointer.dn, container(partitions))


def plan_publish(
    pointers: Sequence[Pointer], directory: Directory, arrays: Iterable[Array], url: str, partitions: Partitions
) -> tuple[Step, ...]:
    """What makes every pointer of the arrays' sites say this URL, and gives one to sites that have none.

    Pointers of sites without an array, and those for every site that are not ours, stay as they are.
    """
    steps: list[Step] = []
    missing: list[Array] = []
    seen: set[str] = set()
    for array in sorted(arrays, key=lambda a: key(a.name)):
        near = list(of_site(pointers, array.site, directory))
        for pointer in near:
            if pointer.urls != (url,) and dn_key(pointer.dn) not in seen:
                seen.add(dn_key(pointer.dn))
                steps.append(Modify(pointer.dn, (Edit(URL, pointer.urls, (url,)),)))
        if not near:
            missing.append(array)
    if missing:
        steps.append(Add(container(partitions), ("container",), {}, may_exist=True))
    for array in missing:
        values = {
            "keywords": (KEYWORD, SITE + array.site),
            URL: (url,),
            "serviceClassName": (SERVICE,),
            "serviceDNSName": (array.fqdn,),
        }
        steps.append(Add(child(array.name, container(partitions)), (CLASS,), values))
    return tuple(steps)


def plan_unpublish(pointers: Sequence[Pointer], arrays: Iterable[Array], partitions: Partitions) -> tuple[Step, ...]:
    """What takes ours away again, of these arrays' sites; those of Exchange's servers are not touched."""
    sites = {key(array.site) for array in arrays}
    ours = [pointer for pointer in pointers if is_ours(pointer, partitions)]
    gone = [pointer for pointer in ours if sites & set(map(key, pointer.sites))]
    steps: list[Step] = [Delete(pointer.dn, may_lack=True) for pointer in gone]
    if gone and len(gone) == len(ours):
        steps.append(Delete(container(partitions), may_lack=True))
    return tuple(steps)


def differences(
    pointers: Sequence[Pointer], directory: Directory, arrays: Iterable[Array], url: str
) -> Iterator[Difference]:
    """What clients inside would stumble over."""
    for array in sorted(arrays, key=lambda a: key(a.name)):
        near = list(of_site(pointers, array.site, directory))
        if not near:
            what = f"no service connection point of the site {array.site}: clients there take one of another site"
            yield Difference(array.site, f"{what}, or guess; casarray autodiscover publish makes one")
        for pointer in near:
            if pointer.urls != (url,):
                told = ", ".join(pointer.urls) or "no URL"
                what = f"{pointer.name} says {told}, so its clients go past the array"
                yield Difference(array.site, f"{what}; it should say {url}: casarray autodiscover publish")
    for pointer in pointers:
        if not pointer.sites and pointer.urls != (url,):
            told = ", ".join(pointer.urls) or "no URL"
            words = f"{pointer.name} says {told} to clients of every site: give it Site= keywords, or the URL {url}"
            yield Difference("", words)


def of_site(pointers: Sequence[Pointer], site: str, directory: Directory) -> Iterator[Pointer]:
    """The pointers for clients of a site: by their keyword, and those of the site's servers by their name."""
    for pointer in pointers:
        server = directory.servers.get(key(pointer.name))
        named = server is not None and not pointer.sites and key(server.site) == key(site)
        if named or key(site) in map(key, pointer.sites):
            yield pointer
