"""When to hold a tripwire again after it broke.

A tripwire is an idle connection to a service; that it breaks is a reason to look, not a failure: servers close idle
connections politely. One that does so again and again is left alone for longer each time.
"""

from dataclasses import dataclass

SHORT_LIFE = 60.0  # a tripwire that held for so long broke for reasons of its own
LONGEST_WAIT = 300.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How one tripwire has fared. Times are seconds of a clock that never jumps."""

    short_lives: int = 0  # in a row
    not_before: float = float("-inf")

    def after_break(self, held_since: float, now: float) -> "Patience":
        """It broke. The first time it is held again at once: most often the server was just restarted."""
        if now - held_since >= SHORT_LIFE:
            return Patience()
        wait = min(LONGEST_WAIT, 2.0 ** min(self.short_lives - 1, 10)) if self.short_lives else 0.0
        return Patience(self.short_lives + 1, now + wait)
