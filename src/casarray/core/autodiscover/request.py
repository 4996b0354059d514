"""What a client asks: the request as it travels, and what the specification has for a wrong one. [MS-OXDSCLI] 2.2.3."""

from dataclasses import dataclass

from casarray.core.autodiscover.elements import Element, read_xml, write_xml
from casarray.core.autodiscover.response import OUTLOOK, ErrorCode, Refusal
from casarray.core.errors import WireError

LONGEST = 64 * 1024  # octets of a request; a right one has some hundreds
LONGEST_NAME = 1024  # characters of an address or a legacyExchangeDN

REQUEST = "http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"
MAPI_HTTP = "X-MapiHttpCapability"


@dataclass(frozen=True, slots=True)
class Request:
    """Whose settings are asked for, by SMTP address or by legacyExchangeDN; the address goes before."""

    address: str = ""
    legacy_dn: str = ""
    mapi_http: bool = False  # the client can speak MAPI over HTTP, and asks for that


def read_request(data: bytes, mapi_http: str = "") -> Request | Refusal:
    """The question in a body, and in the header X-MapiHttpCapability; or what is to be answered to a wrong one.

    601 is for clients that want an answer of another kind, as ActiveSync devices do; every other fault is 600.
    """
    try:
        return _read(read_xml(data, LONGEST), _capable(mapi_http))
    except WireError as error:
        return Refusal(ErrorCode.INVALID_REQUEST, "Invalid Request", str(error))


def _read(root: Element, mapi_http: bool) -> Request | Refusal:
    asked = root.child("Request")
    if root.name != "Autodiscover" or asked is None:
        raise WireError("malformed", "there is no Request in an Autodiscover element")
    schema = asked.text_of("AcceptableResponseSchema")
    if not schema:
        raise WireError("malformed", "there is no AcceptableResponseSchema")
    if schema != OUTLOOK:
        return Refusal(ErrorCode.NO_PROVIDER, "Provider is not available", f"only {OUTLOOK} is answered")
    if root.namespace != REQUEST:
        raise WireError("malformed", f"the namespace is not {REQUEST}")
    for name in ("EMailAddress", "LegacyDN"):
        found = list(asked.all(name))
        if len(found) > 1 or any(len(element.text) > LONGEST_NAME for element in found):
            raise WireError("malformed", f"{name} is there twice, or has more than {LONGEST_NAME} characters")
    request = Request(asked.text_of("EMailAddress"), asked.text_of("LegacyDN"), mapi_http)
    if not (request.address or request.legacy_dn):
        raise WireError("malformed", "there is neither EMailAddress nor LegacyDN")
    return request


def write_request(request: Request) -> bytes:
    """The body; what belongs into its header is ``request.mapi_http``."""
    named = (("EMailAddress", request.address), ("LegacyDN", request.legacy_dn), ("AcceptableResponseSchema", OUTLOOK))
    children = tuple(Element(REQUEST, name, text=text) for name, text in named if text)
    return write_xml(Element(REQUEST, "Autodiscover", (Element(REQUEST, "Request", children),)))


def _capable(header: str) -> bool:
    """[MS-OXDSCLI] 2.2.2.1: the version of MAPI over HTTP that the client knows. What is no number asks for nothing."""
    text = header.strip()
    return text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0
