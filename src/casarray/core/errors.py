"""Every error the project raises, on one screen.

A class exists only where somebody would catch it and do something different; the message carries the rest.
"""


class CasarrayError(Exception):
    """The root of all of them: its text is a sentence an administrator can act on."""


class WireError(CasarrayError):
    """Bytes that cannot be right; the connection they came on is closed and the kind is counted."""

    def __init__(self, kind: str, detail: str = "") -> None:
        """``kind`` is a short stable word for the counters (``truncated``, ``oversize``), ``detail`` is for people."""
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


class OutOfTurn(CasarrayError):
    """Right bytes at the wrong moment; the connection they came on is closed."""


class ConfigError(CasarrayError):
    """A configuration that cannot be right: names the file, the line, the key and what would be right."""


class NotFound(CasarrayError):
    """There is no such thing."""


class Conflict(CasarrayError):
    """It would contradict something that is already there."""


class MovedOn(Conflict):
    """Somebody else changed it since it was looked at: look again, and decide again."""


class Unavailable(CasarrayError):
    """Not now; trying again may help."""


class Denied(CasarrayError):
    """The right to do it is missing; the text says which right and how to get it."""
