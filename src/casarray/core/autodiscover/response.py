"""What a client is told: the answer as values, as it travels, and back. [MS-OXDSCLI] 2.2.4.

An answer is one of four: settings, another address to ask for, another URL to ask at, or an error. The elements of a
Protocol stand in the order in which the specification lists them. What a reader does not know it passes over.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from casarray.core.autodiscover.elements import Element, read_xml, write_xml
from casarray.core.errors import WireError

LONGEST = 256 * 1024  # octets of an answer that is read

RESPONSE = "http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"
OUTLOOK = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"

EXCH, EXPR, WEB, MAPI_HTTP = "EXCH", "EXPR", "WEB", "mapiHttp"


class ErrorCode(IntEnum):
    """[MS-OXDSCLI], ErrorCode. Servers may say others: these are what is answered here."""

    UNKNOWN_ADDRESS = 500
    NO_OPTIONS = 501  # the address is known, and there is nothing to configure
    INVALID_REQUEST = 600
    NO_PROVIDER = 601  # none for the schema that was asked for
    MISCONFIGURED = 602
    INTERNAL = 603


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error. ``time`` (of the day, hh:mm:ss) and ``instance`` (a number of the server) are the caller's to add."""

    code: int
    message: str
    debug: str = ""
    time: str = ""
    instance: str = ""


@dataclass(frozen=True, slots=True)
class RedirectAddress:
    """Begin again, with this address."""

    address: str


@dataclass(frozen=True, slots=True)
class RedirectUrl:
    """Ask the same at this URL."""

    url: str


@dataclass(frozen=True, slots=True)
class User:
    """Whose settings these are. ``deployment_id`` is a GUID of the whole organisation."""

    display_name: str = ""
    legacy_dn: str = ""
    address: str = ""
    deployment_id: str = ""


@dataclass(frozen=True, slots=True)
class OwaUrl:
    """Where the browser goes, and how users prove there who they are: ``Basic, Fba``."""

    url: str
    authentication: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """Internal or External of the WEB section; ``protocol`` says EXCH or EXPR, for the URL of its availability."""

    owa: tuple[OwaUrl, ...] = ()
    protocol: str = ""
    as_url: str = ""


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to the mailbox. ``kind`` is EXCH, EXPR, WEB, mapiHttp or one that is not known here."""

    kind: str
    internal: Side | None = None
    external: Side | None = None
    server: str = ""
    server_dn: str = ""
    server_version: str = ""
    mdb_dn: str = ""
    public_folder_server: str = ""
    as_url: str = ""
    ews_url: str = ""
    oof_url: str = ""
    oab_url: str = ""
    auth_package: str = ""
    cert_principal_name: str = ""
    ssl: str = ""
    server_exclusive_connect: str = ""
    mail_store: tuple[str, str] = ("", "")  # internal and external URL
    address_book: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Settings:
    """All ways to one mailbox, the best first."""

    user: User
    protocols: tuple[Protocol, ...] = ()

    def protocol(self, kind: str) -> Protocol | None:
        """The first section of that kind."""
        return next((protocol for protocol in self.protocols if protocol.kind == kind), None)


Response = Settings | RedirectAddress | RedirectUrl | Refusal

_USER: Mapping[str, str] = {
    "display_name": "DisplayName",
    "legacy_dn": "LegacyDN",
    "address": "AutoDiscoverSMTPAddress",
    "deployment_id": "DeploymentId",
}
_PROTOCOL: Mapping[str, str] = {
    "server": "Server",
    "server_dn": "ServerDN",
    "server_version": "ServerVersion",
    "mdb_dn": "MdbDN",
    "public_folder_server": "PublicFolderServer",
    "as_url": "ASUrl",
    "ews_url": "EwsUrl",
    "oof_url": "OOFUrl",
    "oab_url": "OABUrl",
    "auth_package": "AuthPackage",
    "cert_principal_name": "CertPrincipalName",
    "ssl": "SSL",
    "server_exclusive_connect": "ServerExclusiveConnect",
}


def write_response(response: Response) -> bytes:
    """The body of the answer. An error too is answered with HTTP status 200."""
    match response:
        case Refusal():
            # No provider may have been chosen yet: an error stands in the namespace of the envelope.
            inner = Element(RESPONSE, "Response", (_written_refusal(response),))
        case RedirectAddress(address):
            inner = _account((_leaf("Action", "redirectAddr"), _leaf("RedirectAddr", address)))
        case RedirectUrl(url):
            inner = _account((_leaf("Action", "redirectUrl"), _leaf("RedirectUrl", url)))
        case Settings():
            head = (_leaf("AccountType", "email"), _leaf("Action", "settings"))
            inner = _account((*head, *map(_written_protocol, response.protocols)), response.user)
    return write_xml(Element(RESPONSE, "Autodiscover", (inner,)))


def read_response(data: bytes) -> Response:
    """What a server answered. `WireError` of what is no such answer."""
    root = read_xml(data, LONGEST)
    inner = next((child for child in root.children if child.name == "Response"), None)
    if root.name != "Autodiscover" or root.namespace != RESPONSE or inner is None:
        raise WireError("malformed", "there is no Response in an Autodiscover element")
    if inner.namespace not in (RESPONSE, OUTLOOK):
        raise WireError("malformed", f"an Autodiscover answer in the namespace {inner.namespace[:100]}")
    account = inner.child("Account")
    # Servers differ: the error stands in the Response, or in its Account.
    error = inner.child("Error") or (account.child("Error") if account else None)
    if error is not None:
        return _read_refusal(error)
    if account is None:
        raise WireError("malformed", "an Autodiscover answer with neither Account nor Error")
    match account.text_of("Action"):
        case "settings":
            user = inner.child("User")
            named = {field: user.text_of(name) for field, name in _USER.items()} if user else {}
            return Settings(User(**named), tuple(map(_read_protocol, account.all("Protocol"))))
        case "redirectAddr" if address := account.text_of("RedirectAddr"):
            return RedirectAddress(address)
        case "redirectUrl" if url := account.text_of("RedirectUrl"):
            return RedirectUrl(url)
        case action:
            raise WireError("malformed", f"an Autodiscover answer whose action {action[:40]!r} says nothing")


def _leaf(name: str, text: str, *attributes: tuple[str, str]) -> Element:
    return Element(OUTLOOK, name, text=text, attributes=attributes)


def _account(children: tuple[Element, ...], user: User | None = None) -> Element:
    parts = [Element(OUTLOOK, "Account", children)]
    if user is not None:
        parts.insert(0, Element(OUTLOOK, "User", tuple(_leaves(user, _USER))))
    return Element(OUTLOOK, "Response", tuple(parts))


def _leaves(value: User | Protocol, names: Mapping[str, str]) -> Iterator[Element]:
    for field, name in names.items():
        if text := getattr(value, field):
            yield _leaf(name, text)


def _written_protocol(protocol: Protocol) -> Element:
    mapi_http = protocol.kind == MAPI_HTTP  # this one says its type in an attribute
    children = [] if mapi_http else [_leaf("Type", protocol.kind)]
    for name, side in (("Internal", protocol.internal), ("External", protocol.external)):
        if side is not None:
            children.append(Element(OUTLOOK, name, tuple(_written_side(side))))
    children += _leaves(protocol, _PROTOCOL)
    for name, urls in (("MailStore", protocol.mail_store), ("AddressBook", protocol.address_book)):
        both = zip(("InternalUrl", "ExternalUrl"), urls, strict=True)
        if leaves := tuple(_leaf(which, url) for which, url in both if url):
            children.append(Element(OUTLOOK, name, leaves))
    attributes = (("Type", MAPI_HTTP), ("Version", "1")) if mapi_http else ()
    return Element(OUTLOOK, "Protocol", tuple(children), attributes=attributes)


def _written_side(side: Side) -> Iterator[Element]:
    for owa in side.owa:
        yield _leaf("OWAUrl", owa.url, ("AuthenticationMethod", owa.authentication))
    inner = (("Type", side.protocol), ("ASUrl", side.as_url))
    if leaves := tuple(_leaf(name, text) for name, text in inner if text):
        yield Element(OUTLOOK, "Protocol", leaves)


def _written_refusal(refusal: Refusal) -> Element:
    parts = (("ErrorCode", str(int(refusal.code))), ("Message", refusal.message), ("DebugData", refusal.debug))
    children = tuple(Element(RESPONSE, name, text=text) for name, text in parts)
    return Element(RESPONSE, "Error", children, attributes=(("Time", refusal.time), ("Id", refusal.instance)))


def _read_protocol(element: Element) -> Protocol:
    texts = {field: element.text_of(name) for field, name in _PROTOCOL.items()}
    return Protocol(
        element.attribute("Type") or element.text_of("Type"),
        _read_side(element.child("Internal")),
        _read_side(element.child("External")),
        mail_store=_read_urls(element.child("MailStore")),
        address_book=_read_urls(element.child("AddressBook")),
        **texts,
    )


def _read_urls(element: Element | None) -> tuple[str, str]:
    return (element.text_of("InternalUrl"), element.text_of("ExternalUrl")) if element else ("", "")


def _read_side(element: Element | None) -> Side | None:
    if element is None:
        return None
    owa = tuple(OwaUrl(url.text, url.attribute("AuthenticationMethod")) for url in element.all("OWAUrl"))
    inner = element.child("Protocol")
    return Side(owa, inner.text_of("Type"), inner.text_of("ASUrl")) if inner else Side(owa)


def _read_refusal(error: Element) -> Refusal:
    code = error.text_of("ErrorCode")
    if not (code.isascii() and code.isdigit() and len(code) < 10):
        raise WireError("malformed", f"an Autodiscover error without a number: {code[:40]!r}")
    return Refusal(
        int(code),
        error.text_of("Message"),
        error.text_of("DebugData"),
        error.attribute("Time"),
        error.attribute("Id"),
    )
