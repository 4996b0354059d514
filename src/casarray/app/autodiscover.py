"""Tells clients where their mailbox is: from the directory as it is known now, with a note for whoever has to know.

service = Autodiscover(lambda: feed.directory, settings, "exchange-2010", clock, "gw1")
reply = service.answer(body, capability, by="alice@DOMAIN.TLD")
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zlib import crc32

from casarray.app.ports import Clock
from casarray.core.autodiscover.decide import Decision, Rules, decide
from casarray.core.autodiscover.request import Request, read_request
from casarray.core.autodiscover.response import (
    ErrorCode,
    RedirectAddress,
    RedirectUrl,
    Refusal,
    Response,
    Settings,
    write_response,
)
from casarray.core.config import AutodiscoverSettings
from casarray.core.config_autodiscover import redirect_of
from casarray.core.directory.model import Directory, key

log = logging.getLogger(__name__)

MOST_NOTED = 1000  # different notes that are remembered, so that each is logged once in a while
NOTE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back to the client."""

    body: bytes
    response: Response


def rules_of(settings: AutodiscoverSettings, profile: str) -> Rules:
    """The rules that the configuration makes; ``profile`` of arrays that name none."""
    pairs = [found for text in settings.redirects if (found := redirect_of(text)) is not None]
    return Rules(
        profile=profile,
        redirects={key(address): _redirect(goal) for address, goal in pairs},
        deployment_id=settings.deployment_id,
        anywhere_authentication=settings.anywhere_authentication,
        owa_authentication=settings.owa_authentication,
    )


def _redirect(goal: str) -> RedirectAddress | RedirectUrl:
    return RedirectUrl(goal) if goal.casefold().startswith("https://") else RedirectAddress(goal)


class Autodiscover:
    """One server's answers."""

    def __init__(
        self,
        directory: Callable[[], Directory],
        settings: AutodiscoverSettings,
        profile: str,
        clock: Clock,
        name: str,
    ) -> None:
        """``directory`` is asked anew for each answer; ``name`` of this server stands as a number in its errors."""
        self._directory = directory
        self._rules = rules_of(settings, profile)
        self._clock = clock
        self._instance = str(crc32(name.encode()))
        self._noted: dict[str, float] = {}
        self._counts: Counter[str] = Counter()

    def renew(self, settings: AutodiscoverSettings, profile: str) -> None:
        """Answer by these from now on."""
        self._rules = rules_of(settings, profile)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many were answered, by kind: settings, redirect-address, redirect-url, error-500 and so on."""
        return dict(self._counts)

    def answer(self, body: bytes, capability: str = "", by: str = "") -> Reply:
        """The answer to the body of a request; ``capability`` is its header X-MapiHttpCapability, ``by`` who asks."""
        asked = read_request(body, capability)
        if isinstance(asked, Refusal):
            return self._reply(asked)
        decision = self.decide(asked)
        for note in decision.notes:
            self._note(note)
        whose = asked.address or asked.legacy_dn
        log.debug("%s asks for %s and is answered %s", by or "somebody", whose, kind_of(decision.response))
        return self._reply(decision.response)

    def decide(self, request: Request) -> Decision:
        """What the client would be told, and the notes; nothing is logged or counted."""
        return decide(self._directory(), request, self._rules)

    def fail(self) -> Reply:
        """What is answered when something went wrong here."""
        return self._reply(Refusal(ErrorCode.INTERNAL, "Internal Error"))

    def _reply(self, response: Response) -> Reply:
        self._counts[kind_of(response)] += 1
        if isinstance(response, Refusal):
            now = datetime.fromtimestamp(self._clock.wall(), UTC)
            response = replace(response, time=now.strftime("%H:%M:%S"), instance=self._instance)
        return Reply(write_response(response), response)

    def _note(self, note: str) -> None:
        """A thousand clients that meet one mistake make one line an hour."""
        now = self._clock.monotonic()
        if now - self._noted.get(note, -NOTE_SECONDS) < NOTE_SECONDS:
            return
        if len(self._noted) >= MOST_NOTED:
            self._noted.clear()
        self._noted[note] = now
        log.warning("autodiscover: %s", note)


def kind_of(response: Response) -> str:
    """The kind of an answer, as it is counted."""
    match response:
        case Settings():
            return "settings"
        case RedirectAddress():
            return "redirect-address"
        case RedirectUrl():
            return "redirect-url"
        case Refusal(code=code):
            return f"error-{int(code)}"
