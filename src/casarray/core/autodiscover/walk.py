"""The way of a client to its settings: whom it asks, in which order, and where it is sent on. No I/O.

`walk` is a generator: it yields a `Visit` or a `LookUp`, is sent back what `Came` or the SRV records that were found,
and ends in what was `Walked`. Order and rules are those of [MS-OXDISCO] 3.1.5 and [MS-OXDSCLI] 3.1.5: given URLs (a
service connection point's) first, then the domain itself, ``autodiscover.`` before it, the unauthenticated redirect on
port 80, and the SRV record. Every hop is bounded, a circle is noticed, and a request with somebody's settings in it
only goes to HTTPS.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from urllib.parse import urljoin, urlsplit

from casarray.core.autodiscover.request import MAPI_HTTP, Request, write_request
from casarray.core.autodiscover.response import (
    RedirectAddress,
    RedirectUrl,
    Refusal,
    Response,
    Settings,
    read_response,
)
from casarray.core.errors import WireError
from casarray.core.profiles import AUTODISCOVER_PATH

PATH = AUTODISCOVER_PATH
MOST_HOPS = 10  # redirects of any kind; [MS-OXDSCLI] 3.1.5 has ten
REDIRECTS = (301, 302, 303, 307, 308)
LONGEST_URL = 2048


class Problem(StrEnum):
    """Why a visit came to nothing before there was a status."""

    NAME = "name"  # nothing says what address the host has
    CONNECT = "connect"  # no connection
    TIME = "time"  # no answer in time
    TLS = "tls"  # no TLS with it
    CERTIFICATE = "certificate"  # its certificate is not one for this name, has run out, or nobody vouches for it
    HTTP = "http"  # what it says is no HTTP, or too much


@dataclass(frozen=True, slots=True)
class Visit:
    """Send this. Over plain HTTP there is neither a body nor a logon."""

    method: str
    url: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    #: Whether a password may be sent: not to a host outside of the address' domain that only a redirect named.
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask DNS for the SRV records of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Came:
    """What came of a visit: a status, or the problem and its words."""

    status: int = 0
    location: str = ""
    body: bytes = b""
    problem: Problem | None = None
    detail: str = ""
    seconds: float = 0.0
    address: str = ""  # that was connected to
    scheme: str = ""  # by which the logon was done: Basic, Kerberos, NTLM; empty: none
    offered: tuple[str, ...] = ()  # the schemes that a 401 offered
    certificate_names: tuple[str, ...] = ()  # of the server's certificate


@dataclass(frozen=True, slots=True)
class Found:
    """SRV records, the best first: host and port. None when there are none, or DNS does not answer."""

    targets: tuple[tuple[str, int], ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Hop:
    """One stop of the way: what was done, what came, and what that means."""

    step: Visit | LookUp
    came: Came | Found
    words: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Walked:
    """The whole way. ``response`` is None when nobody answered; ``url`` is where it came from."""

    response: Response | None
    hops: tuple[Hop, ...]
    url: str = ""
    address: str = ""  # that was asked for in the end

    @property
    def settings(self) -> Settings | None:
        """The settings, if there are any."""
        return self.response if isinstance(self.response, Settings) else None


Walk = Generator[Visit | LookUp, Came | Found, Walked]


def candidates(domain: str) -> tuple[str, ...]:
    """The URLs that a client derives from the domain of an address, in their order. [MS-OXDISCO] 3.1.5.2."""
    return (f"https://{domain}{PATH}", f"https://autodiscover.{domain}{PATH}", f"http://autodiscover.{domain}{PATH}")


def _nobody(_hop: Hop) -> None:
    pass


def walk(
    request: Request,
    urls: Sequence[str] = (),
    *,
    only: bool = False,
    most_hops: int = MOST_HOPS,
    tell: Callable[[Hop], None] = _nobody,
) -> Walk:
    """The way from an SMTP address to its settings.

    ``urls`` come first: of a service connection point, or what somebody wants to test; with ``only`` nothing is derived
    from the address. ``tell`` hears of each hop as soon as it is over. A certificate's name is checked by whoever
    carries this out.
    """
    return _Walker(request, most_hops, tell).walk(tuple(urls), only)


class _Walker:
    def __init__(self, request: Request, most_hops: int, tell: Callable[[Hop], None]) -> None:
        self._tell = tell
        self._request = request
        self._left = most_hops
        self._hops: list[Hop] = []
        self._addresses = {request.address.casefold()}
        self._visited: set[str] = set()
        self._refusal: tuple[Refusal, str] | None = None

    def walk(self, urls: tuple[str, ...], only: bool) -> Walk:
        while True:
            found = yield from self._one_address(urls, only)
            if not isinstance(found, RedirectAddress):
                break
            self._request = replace(self._request, address=found.address, legacy_dn="")
            self._visited.clear()
            # What was given was given for the first address' domain; a test of one URL asks it again.
            urls = urls if only else ()
        response, url = found if found is not None else (None, "")
        return Walked(response, tuple(self._hops), url, self._request.address)

    def _one_address(
        self, urls: tuple[str, ...], only: bool
    ) -> Generator[Visit | LookUp, Came | Found, RedirectAddress | tuple[Response, str] | None]:
        domain = self._domain()
        places = [(url, True) for url in urls]
        if not only and domain:
            places += [(url, True) for url in candidates(domain)]
        for url, trusted in places:
            found = yield from self._place(url, trusted)
            if found is not None:
                return found
        if not only and domain:
            for host, port in (yield from self._look_up(domain)):
                where = host if port == 443 else f"{host}:{port}"
                found = yield from self._place(f"https://{where}{PATH}", self._is_near(host))
                if found is not None:
                    return found
        return self._refusal

    def _domain(self) -> str:
        return self._request.address.rpartition("@")[2]

    def _is_near(self, host: str) -> bool:
        domain = self._domain().casefold()
        return bool(domain) and (host.casefold() == domain or host.casefold().endswith("." + domain))

    def _place(
        self, url: str, trusted: bool
    ) -> Generator[Visit | LookUp, Came | Found, RedirectAddress | tuple[Response, str] | None]:
        """Ask there, and wherever one is sent from there; None: go on with the next place."""
        plain = url.casefold().startswith("http://")
        while True:
            if url.casefold() in self._visited:
                return None
            self._visited.add(url.casefold())
            visit = Visit("GET", url) if plain else self._post(url, trusted)
            came = yield visit
            assert isinstance(came, Came)
            if came.problem is None and came.status in REDIRECTS:
                url, plain = self._sent_on(visit, came), False
            elif came.problem is not None or came.status != 200 or plain:
                self._told(visit, came, _failure(came, plain), ok=False)
                return None
            else:
                found = self._answer(visit, came)
                if not isinstance(found, RedirectUrl):
                    return found
                url = found.url
            if not url:
                return None
            trusted = self._is_near(urlsplit(url).hostname or "")

    def _post(self, url: str, trusted: bool) -> Visit:
        headers = [("Content-Type", "text/xml; charset=utf-8")]
        if self._request.mapi_http:
            headers.append((MAPI_HTTP, "1"))
        return Visit("POST", url, write_request(self._request), tuple(headers), trusted)

    def _told(self, step: Visit | LookUp, came: Came | Found, words: str, *, ok: bool) -> None:
        hop = Hop(step, came, words, ok)
        self._hops.append(hop)
        self._tell(hop)

    def _sent_on(self, visit: Visit, came: Came) -> str:
        """Where a redirect of HTTP leads; empty when nobody should go there."""
        goal = _joined(visit.url, came.location)
        if why := self._refused_goal(goal):
            self._told(visit, came, f"redirects ({came.status}) to {goal[:200] or 'nowhere'}: {why}", ok=False)
            return ""
        self._told(visit, came, f"redirects ({came.status}) to {goal}", ok=True)
        return goal

    def _refused_goal(self, goal: str) -> str:
        """Why one does not go there; empty: one may. Counts the redirect."""
        try:
            parts = urlsplit(goal)
            usable = parts.scheme == "https" and bool(parts.hostname) and (parts.port or 443) > 0
        except ValueError:
            usable = False
        if not usable or len(goal) > LONGEST_URL or not goal.isprintable():
            return "a redirect has to lead to an https:// URL"
        if goal.casefold() in self._visited:
            return "that was asked before, so it goes round in a circle"
        if self._left <= 0:
            return "too many redirects"
        self._left -= 1
        return ""

    def _answer(self, visit: Visit, came: Came) -> RedirectAddress | RedirectUrl | tuple[Response, str] | None:
        try:
            response = read_response(came.body)
        except WireError as error:
            self._told(visit, came, f"answers something else than Autodiscover ({error})", ok=False)
            return None
        match response:
            case RedirectUrl(url):
                why = self._refused_goal(url)
                words = f"redirects to the URL {url[:200]}"
                self._told(visit, came, f"{words}: {why}" if why else words, ok=not why)
                return None if why else response
            case RedirectAddress(address):
                why = self._refused_address(address)
                words = f"redirects to the address {address[:200]}"
                self._told(visit, came, f"{words}: {why}" if why else words, ok=not why)
                return None if why else response
            case Refusal():
                words = f"answers error {response.code} ({response.message})"
                self._told(visit, came, words + (f": {response.debug}" if response.debug else ""), ok=False)
                self._refusal = self._refusal or (response, visit.url)
                return None
            case Settings():
                self._told(visit, came, "answers the settings", ok=True)
                return (response, visit.url)

    def _refused_address(self, address: str) -> str:
        if "@" not in address or len(address) > LONGEST_URL or not address.isprintable():
            return "this is no SMTP address"
        if address.casefold() in self._addresses:
            return "that was asked for before, so it goes round in a circle"
        if self._left <= 0:
            return "too many redirects"
        self._left -= 1
        self._addresses.add(address.casefold())
        return ""

    def _look_up(self, domain: str) -> Generator[Visit | LookUp, Came | Found, tuple[tuple[str, int], ...]]:
        step = LookUp(f"_autodiscover._tcp.{domain}")
        found = yield step
        assert isinstance(found, Found)
        hosts = ", ".join(f"{host}:{port}" for host, port in found.targets)
        self._told(step, found, f"names {hosts}" if hosts else "there is no such record", ok=bool(hosts))
        return found.targets[: self._left]


def _joined(url: str, location: str) -> str:
    """Where a Location leads from there; as it came, when that is no URL at all."""
    try:
        return urljoin(url, location) if location else ""
    except ValueError:
        return location


def _failure(came: Came, plain: bool) -> str:
    """What a visit that led nowhere says, with what to do where that is known."""
    if came.problem is not None:
        return came.detail or f"failed: {came.problem}"
    if came.status == 401:
        offered = ", ".join(came.offered) or "nothing"
        return f"wants a logon (401, offering {offered})" + (f"; {came.scheme} was refused" if came.scheme else "")
    if plain:
        return f"answers {came.status} where only a redirect is expected"
    return f"answers with status {came.status}"
