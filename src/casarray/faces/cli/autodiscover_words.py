"""What `casarray autodiscover` shows: answers, stops of a way, steps in Active Directory."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from casarray.core.autodiscover.response import Protocol, RedirectAddress, RedirectUrl, Refusal, Response, Side
from casarray.core.autodiscover.walk import Hop, LookUp
from casarray.core.directory.active_directory import first_value
from casarray.core.directory.ad_steps import Add, Delete, Modify, Step

_FIELDS = (
    ("server", "Server"),
    ("server_dn", "ServerDN"),
    ("server_version", "ServerVersion"),
    ("mdb_dn", "MdbDN"),
    ("ews_url", "EwsUrl"),
    ("auth_package", "AuthPackage"),
    ("cert_principal_name", "CertPrincipalName"),
    ("ssl", "SSL"),
)


def plain(response: Response) -> dict[str, Any]:
    """As JSON, under the names of the fields; what is empty is left out."""
    found = _bare(asdict(response))
    assert isinstance(found, dict)
    return found


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: bare for name, inner in value.items() if (bare := _bare(inner)) not in ("", None, [], {})}
    if isinstance(value, list | tuple):
        found = [_bare(inner) for inner in value]
        return found if any(found) else []
    return value


def answer_lines(response: Response) -> Iterator[str]:
    """For people."""
    match response:
        case Refusal(code=code, message=message, debug=debug):
            yield f"error {int(code)}: {message}" + (f" ({debug})" if debug else "")
        case RedirectAddress(address=address):
            yield f"sent on to the address {address}"
        case RedirectUrl(url=url):
            yield f"sent on to {url}"
        case _:
            user = response.user
            yield f"{user.display_name} <{user.address}>  {user.legacy_dn}"
            for protocol in response.protocols:
                yield from _protocol_lines(protocol)


def _protocol_lines(protocol: Protocol) -> Iterator[str]:
    yield protocol.kind
    for field, name in _FIELDS:
        if text := getattr(protocol, field):
            yield f"  {name:<18} {text}"
    for name, side in (("Internal", protocol.internal), ("External", protocol.external)):
        if side is not None:
            yield f"  {name:<18} {_owa(side)}"
    for name, urls in (("MailStore", protocol.mail_store), ("AddressBook", protocol.address_book)):
        if any(urls):
            yield f"  {name:<18} {'; outside '.join(url for url in urls if url)}"


def _owa(side: Side) -> str:
    return ", ".join(f"{owa.url} ({owa.authentication})" for owa in side.owa)


def stop(hop: Hop) -> str:
    """What a stop of the way was."""
    return f"SRV {hop.step.name}" if isinstance(hop.step, LookUp) else f"{hop.step.method} {hop.step.url}"


def hop_line(hop: Hop) -> str:
    """One stop, as it is over."""
    return f"{'ok  ' if hop.ok else 'no  '}{stop(hop)}: {hop.words} ({hop.came.seconds * 1000:.0f} ms)"


def step_line(step: Step) -> str:
    """A step in Active Directory."""
    match step:
        case Add(dn=dn, values=values):
            told = ", ".join(value for values_ in values.values() for value in values_)
            return f"+ {first_value(dn)}" + (f": {told}" if told else " (a container)")
        case Modify(dn=dn, edits=edits):
            changed = "; ".join(f"{', '.join(e.gone) or 'nothing'} -> {', '.join(e.come)}" for e in edits)
            return f"~ {first_value(dn)}: {changed}"
        case Delete(dn=dn):
            return f"- {first_value(dn)}"
        case _:
            return str(step)
