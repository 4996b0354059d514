"""What the parts of a configuration may not do to each other: the rules that no single value can break."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from casarray.core.config import (
    ApiSettings,
    Array,
    AutodiscoverSettings,
    Bind,
    Config,
    DirectorySettings,
    Gateway,
    KerberosSettings,
    ProbeKind,
    Proof,
    ReferralSettings,
    Retired,
    ReturnPath,
    RpcHttpSettings,
    Server,
    Site,
)
from casarray.core.config_services import nearest
from casarray.core.config_values import Report, show
from casarray.core.forwarding import nft
from casarray.core.forwarding.table import MAX_MEMBER_ID, Address
from casarray.core.profiles import PROFILES
from casarray.core.toml_lines import Path


@dataclass(slots=True)
class Draft:
    """The values that could be read, each with its place in the file."""

    gateway: Gateway
    directory: DirectorySettings = field(default_factory=DirectorySettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    kerberos: KerberosSettings = field(default_factory=KerberosSettings)
    sites: list[tuple[Path, Site]] = field(default_factory=list)
    arrays: list[tuple[Path, Array]] = field(default_factory=list)
    servers: list[tuple[Path, Server]] = field(default_factory=list)
    referral: ReferralSettings = field(default_factory=ReferralSettings)
    retired: list[tuple[Path, Retired]] = field(default_factory=list)
    rpc_http: RpcHttpSettings = field(default_factory=RpcHttpSettings)
    autodiscover: AutodiscoverSettings = field(default_factory=AutodiscoverSettings)
    #: Every site that the file names, also those in which something else is wrong.
    site_names: frozenset[str] = frozenset()

    def config(self) -> Config:
        """The whole."""
        return Config(
            self.gateway,
            tuple(site for _, site in self.sites),
            tuple(array for _, array in self.arrays),
            tuple(server for _, server in self.servers),
            self.directory,
            self.api,
            self.kerberos,
            self.referral,
            tuple(one for _, one in self.retired),
            self.autodiscover,
            self.rpc_http,
        )


def check_rules(draft: Draft, report: Report) -> None:
    """Report every rule that the draft breaks."""
    _check_gateway(draft.gateway, report)
    _check_directory(draft.directory, report)
    _check_api(draft, report)
    _check_autodiscover(draft, report)
    _check_rpc_http(draft, report)
    for kind, named in (("site", draft.sites), ("array", draft.arrays), ("server", draft.servers)):
        _check_names(kind, [(path, part.name) for path, part in named], report)
    _check_names("array's host name", [(path, a.fqdn) for path, a in draft.arrays], report, key="fqdn")
    _check_names("retired server", [(path, one.name) for path, one in draft.retired], report)
    _check_retired(draft, report)
    _check_subnets(draft.sites, report)
    _check_addresses(draft, report)
    for path, site in [(p, a.site) for p, a in draft.arrays] + [(p, s.site) for p, s in draft.servers]:
        _check_site(path, site, draft.site_names, report)
    _check_one_array_per_site(draft.arrays, report)
    for path, array in draft.arrays:
        _check_members(path, array, draft.servers, report)


def _check_gateway(gateway: Gateway, report: Report) -> None:
    if gateway.source_addresses and gateway.return_path is not ReturnPath.MASQUERADE:
        path = ("gateway", "source_addresses")
        what = f'has no meaning with return_path "{gateway.return_path}"'
        report.wrong(path, what, 'set return_path = "masquerade", or leave source_addresses out')


def _check_directory(directory: DirectorySettings, report: Report) -> None:
    path = ("directory", "store")
    if directory.profile not in PROFILES:
        close = nearest(directory.profile, PROFILES)
        right = f"did you mean {show(close)}?" if close else f"write one of {', '.join(map(show, PROFILES))}"
        report.wrong(("directory", "profile"), f"there is no profile {show(directory.profile)}", right)
    ldap = [store.startswith("ldap") for store in directory.store]
    if len(directory.store) != 1 and not all(ldap):
        report.wrong(path, "several stores", "write one store, or several domain controllers of one Active Directory")
    if directory.bind is Bind.SIMPLE and not (directory.user and directory.password_file):
        report.wrong(("directory", "bind"), "simple needs a user", "set user and password_file, or leave bind out")
    plain = any(store.startswith("ldap://") for store in directory.store) and not directory.starttls
    if directory.bind is Bind.SIMPLE and plain:
        right = 'write "ldaps://..." in store, or set starttls = true'
        report.wrong(("directory", "bind"), "simple would send the password in clear", right)


def _check_api(draft: Draft, report: Report) -> None:
    api, path = draft.api, ("api", "listen")
    if not api.listen:
        return
    if missing := [name for name in ("certificate", "key", "token_file") if not getattr(api, name)]:
        what = f"without {' and '.join(missing)}, whoever reaches {api.listen} could listen in or rule the gateway"
        report.wrong(path, what, f"set {', '.join(missing)} as well, or leave listen out: the control socket is there")
    if api.listen == draft.gateway.metrics:
        report.wrong(path, f"{api.listen} serves the metrics already", "write another port, or another gateway.metrics")


def _check_autodiscover(draft: Draft, report: Report) -> None:
    """It speaks HTTPS alone, knows mailboxes, and can tell who asks."""
    told, path = draft.autodiscover, ("autodiscover", "listen")
    if told.redirect_listen and not told.url:
        what = "a redirect has to lead somewhere"
        report.wrong(("autodiscover", "redirect_listen"), what, "set autodiscover.url, or leave redirect_listen out")
    if Proof.NONE in told.authentication and len(told.authentication) > 1:
        what = "whoever comes is answered anyway with none"
        report.wrong(("autodiscover", "authentication"), what, 'write "none" alone, or leave it out')
    if not told.listen:
        return
    if missing := [name for name in ("certificate", "key") if not getattr(told, name)]:
        what = f"clients ask over HTTPS, and there is no {' and no '.join(missing)}"
        report.wrong(path, what, "set autodiscover.certificate and autodiscover.key")
    if Proof.NONE not in told.authentication and not told.keytab:
        what = "without a keytab nobody can prove who he is"
        report.wrong(path, what, 'set autodiscover.keytab, or authentication = "none"')
    if draft.directory.is_file:
        what = "this file has no mailboxes that clients could be told of"
        report.wrong(path, what, 'set directory.store to "embedded", or to domain controllers')
    if told.listen in (draft.gateway.metrics, draft.api.listen, told.redirect_listen):
        report.wrong(path, f"{told.listen} serves something else already", "write another address or port")


def _check_rpc_http(draft: Draft, report: Report) -> None:
    """Passwords and mail go through the RPC proxy: TLS, except where nobody can listen in."""
    proxy, path = draft.rpc_http, ("rpc-http", "listen")
    if bool(proxy.certificate) is not bool(proxy.key):
        one, other = ("certificate", "key") if proxy.certificate else ("key", "certificate")
        report.wrong(("rpc-http", one), f"there is no {other} to go with it", f"set rpc-http.{other} as well")
    if proxy.listen and not proxy.certificate and not proxy.listen.startswith(("127.", "localhost:", "[::1]:")):
        what = f"without a certificate, everybody on the way to {proxy.listen} could read along"
        report.wrong(
            path, what, "set rpc-http.certificate and rpc-http.key, or listen on 127.0.0.1 behind what has TLS"
        )
    if not draft.directory.is_file:
        return  # its arrays are not known yet
    known = {array.name.casefold() for _, array in draft.arrays}
    for index, name in enumerate(proxy.arrays):
        if name.casefold() not in known:
            right = (
                f"write names of arrays: {', '.join(show(array.name) for _, array in draft.arrays) or 'there is none'}"
            )
            report.wrong(("rpc-http", "arrays", index), f"there is no array {show(name)}", right)


def _check_retired(draft: Draft, report: Report) -> None:
    """The referral listens where nothing else does."""
    taken = {address: f"the array {array.name}" for _, array in draft.arrays for address in array.addresses}
    taken |= {address: f"the server {server.name}" for _, server in draft.servers for address in server.addresses}
    for path, one in draft.retired:
        for index, address in enumerate(one.addresses):
            if address in taken:
                what = f"{address} is the address of {taken[address]}"
                report.wrong((*path, "addresses", index), what, "give the retired name an address of its own")
    ports = (draft.referral.mapper_port, draft.referral.book_port, draft.referral.mailbox_port)
    if len(set(ports)) != len(ports):
        path = ("referral", "mapper_port")
        report.wrong(path, "two of its services have the same port", "choose three ports: mapper, book and mailbox")


def _check_names(kind: str, named: Iterable[tuple[Path, str]], report: Report, key: str = "name") -> None:
    """Names are unique, also for those who do not tell capital letters from small ones."""
    seen: dict[str, Path] = {}
    for path, name in named:
        folded = nft.names_taken(name) if kind == "array" else frozenset({name.casefold()})
        if others := sorted(folded & seen.keys()):
            what = f"{show(name)} is already the {'name of a' if key == 'name' else 'name of an'} {kind}"
            if kind == "array":
                what = f"{show(name)} is already the name of an array, or too close to one"
            report.wrong((*path, key), f"{what} ({key_text(seen[others[0]])})", f"choose another {key}")
        else:
            seen |= dict.fromkeys(folded, path)


def key_text(path: Path) -> str:
    """``("array", 0, "addresses", 1)`` -> ``array[0].addresses[1]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]{1,64}", part) is not None
            text += ("." if text else "") + (part if bare else show(part))
    return text


def _check_subnets(sites: list[tuple[Path, Site]], report: Report) -> None:
    owners: dict[object, Site] = {}
    for path, site in sites:
        for index, subnet in enumerate(site.subnets):
            owner = owners.setdefault(subnet, site)
            if owner is not site:
                what = f"{subnet} belongs to the site {show(owner.name)} already"
                report.wrong(
                    (*path, "subnets", index), what, "a subnet belongs to one site: take it out of one of them"
                )


def _check_addresses(draft: Draft, report: Report) -> None:
    """An address is one thing."""
    owners: dict[Address, str] = {}
    for path, array in draft.arrays:
        for index, address in enumerate(array.addresses):
            _own(owners, address, f"the array {show(array.name)}", (*path, "addresses", index), report)
    for path, server in draft.servers:
        for address in server.addresses:
            _own(owners, address, f"the server {show(server.name)}", (*path, "address"), report)
        families = [address.version for address in server.addresses]
        if len(families) != len(set(families)):
            what = f"two addresses are IPv{families[0]}"
            report.wrong((*path, "address"), what, "write one address, or one of each family")
    for index, address in enumerate(draft.gateway.source_addresses):
        _own(owners, address, "the gateway's source addresses", ("gateway", "source_addresses", index), report)


def _own(owners: dict[Address, str], address: Address, owner: str, path: Path, report: Report) -> None:
    other = owners.setdefault(address, owner)
    if other is not owner:
        report.wrong(path, f"{address} belongs to {other} already", "write an address that nothing else has")


def _check_site(path: Path, site: str, known: frozenset[str], report: Report) -> None:
    if site in known:
        return
    close = nearest(site, known)
    if close:
        right = f"did you mean {show(close)}?"
    elif known:
        right = f"write one of {', '.join(show(name) for name in sorted(known)[:8])}, or add it as [[site]]"
    else:
        right = f"add [[site]] with name = {show(site)}"
    report.wrong((*path, "site"), f"there is no site {show(site)}", right)


def _check_one_array_per_site(arrays: list[tuple[Path, Array]], report: Report) -> None:
    first: dict[str, tuple[Path, Array]] = {}
    for path, array in arrays:
        place, other = first.setdefault(array.site, (path, array))
        if other is not array:
            what = f"the site {show(array.site)} has the array {show(other.name)} ({key_text(place)}) already"
            report.wrong((*path, "site"), what, "a site has one array: write another site, or make one array of both")


def _check_members(path: Path, array: Array, servers: list[tuple[Path, Server]], report: Report) -> None:
    members = [(p, s) for p, s in servers if s.site == array.site and "client-access" in s.roles]
    if len(members) > MAX_MEMBER_ID:
        what = f"the array would have {len(members)} members, and at most {MAX_MEMBER_ID} can be"
        report.wrong((*path, "site"), what, "spread the servers over more sites")
    for place, server in members:
        for version in (4, 6):
            vip = next((a for a in array.addresses if a.version == version), None)
            if vip is not None and all(a.version != version for a in server.addresses):
                what = f"{show(server.name)} has no IPv{version} address, and its array {show(array.name)} has {vip}"
                report.wrong((*place, "address"), what, f"add the server's IPv{version} address: a list holds both")


def advise(config: Config) -> tuple[str, ...]:
    """What is allowed and probably not meant; one sentence each."""
    notes = []
    if not config.directory.is_file:
        store = " ".join(config.directory.store)
        notes.append(f"the gateway serves what the directory {store} holds; arrays of this file are for casarray apply")
    if not config.arrays and config.directory.is_file:
        notes.append("there is no array: the gateway will forward nothing until one is added as [[array]]")
    subnets = {site.name: site.subnets for site in config.sites}
    for array in config.arrays:
        members = config.members(array)
        if not members:
            notes.append(f"array {array.name} has no servers: add [[server]] with site = {show(array.site)}")
        elif len(members) == 1:
            notes.append(f"array {array.name} has one server only: when it is down, nobody serves")
        site = subnets[array.site]
        notes.extend(
            f"array {array.name}: {address} is in no subnet of the site {array.site}, so clients may think it elsewhere"
            for address in array.addresses
            if site and not any(address in subnet for subnet in site)
        )
        watched = {
            service.group for service in array.services if service.required and service.probe is not ProbeKind.NONE
        }
        notes.extend(
            f"array {array.name}: no required service of the group {group} is probed, so its servers always count as up"
            for group in sorted({service.group for service in array.services} - watched)
        )
        if array.health.timeout > array.health.interval:
            notes.append(f"array {array.name}: health.timeout is longer than health.interval; verdicts come later")
    sites = {array.site for array in config.arrays}
    notes.extend(
        f"server {server.name} is in no array: its site {server.site} has none"
        for server in config.servers
        if server.site not in sites and "client-access" in server.roles
    )
    return tuple(notes)
