"""Lets this machine roll a password by the clock. Nothing is rolled now."""

from dataclasses import dataclass

from casarray.app.kerberos.desk import Desk
from casarray.app.kerberos.order import Order, chosen
from casarray.core.config_values import duration_text
from casarray.core.errors import Conflict
from casarray.core.kerberos.timer_units import EVERY, seconds_between, units


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What was written."""

    paths: tuple[str, ...]
    account: str
    every: str
    enable: str  # the command that switches it on
    text: str  # a sentence


def schedule(desk: Desk, order: Order, name: str, every: str = "", folder: str | None = None) -> Scheduled:
    """Write a timer and its service, which rolls unattended, as the keytab of the configuration.

    `Conflict` when there is none: nobody is there to give a password, and a ticket cache ends with its tickets.
    """
    settings = desk.settings
    if not settings.keytab:
        raise Conflict(
            "nobody is there to log on when a schedule runs: set keytab (and principal) under [kerberos] in the "
            "configuration to an account that may reset the password and that the members' agents know"
        )
    if order.copy_from:
        raise Conflict("copying is done once and is not scheduled: run it now, without --schedule")
    share = desk.share_of(order.account)
    chosen(share, order.scope)  # what is wrong is said now, not at night
    age = seconds_between(every or EVERY, settings.lifetime)
    timers = desk.timers()
    words = [*timers.program, *_words(order, share.account, age)]
    paths = tuple(timers.write(units(name, share.account, age, words), folder))
    enable = f"systemctl daemon-reload && systemctl enable --now {name}.timer"
    text = (
        f"{name}.timer will look every day whether the password of {share.account} is older than {duration_text(age)}, "
        f"and roll it then, unattended. Nothing was rolled now. Switch it on with: {enable}"
    )
    return Scheduled(paths, share.account, duration_text(age), enable, text)


def _words(order: Order, account: str, age: float) -> list[str]:
    scope = [word for name in order.scope.arrays for word in ("--array", name)]
    scope += [word for name in order.scope.servers for word in ("--server", name)]
    left_out = [word for name in order.left_out for word in ("--except", name)]
    when = ["--unattended", "--older-than", duration_text(age)]
    return ["account", "roll", account, *(scope or ["--all"]), *left_out, *when]
