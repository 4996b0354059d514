"""The systemd units that roll a password by the clock.

The timer runs every day, and the command it starts rolls only a password that is older than was wanted. So a day on
which a member was missing is made up for on the next one, a machine that was off misses nothing, and nothing happens
at the moment when the timer is made.
"""

import re
from collections.abc import Sequence

from casarray.core.config_values import duration_text, seconds_of
from casarray.core.errors import Conflict

MARK = "# Written by casarray (account roll --schedule); what is changed here is lost when that is run again."
EVERY = "3w"
_WEEK = 7 * 86_400.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.-]{0,99}")
_SERVICE = """\
{mark}
[Unit]
Description=Roll the password of the shared account {account} when it is older than {age}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={command}
SyslogIdentifier=casarray
NoNewPrivileges=yes
PrivateTmp=yes
ProtectHome=yes
"""
_TIMER = """\
{mark}
[Unit]
Description=Look every day whether the password of the shared account {account} is to be rolled

[Timer]
OnCalendar=daily
RandomizedDelaySec=1h
Persistent=yes

[Install]
WantedBy=timers.target
"""


def seconds_between(text: str, lifetime: float) -> float:
    """``3w`` or ``30d`` in seconds. `Conflict` for anything else, and for less than a ticket lives."""
    found = re.fullmatch(r"(\d{1,3})w", text)
    seconds = int(found[1]) * _WEEK if found else seconds_of(text)
    if seconds is None:
        raise Conflict(f'"{text}" is no time between two rolls: write one like 3w or 30d')
    if seconds < max(2 * lifetime, 86_400.0):
        raise Conflict(
            f"every {text} is too often: tickets live up to {duration_text(lifetime)}, and it looks once a day"
        )
    return seconds


def units(name: str, account: str, age: float, command: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The files: name, text. `Conflict` if a unit cannot be called so."""
    if not _NAME.fullmatch(name) or name.endswith((".timer", ".service")):
        raise Conflict(
            f'"{name[:100]}" cannot be the name of a unit: write letters, digits and dashes, like casarray-roll'
        )
    words = {"mark": MARK, "account": account.replace("%", "%%"), "age": duration_text(age)}
    service = _SERVICE.format(command=" ".join(map(_quoted, command)), **words)
    return (f"{name}.service", service), (f"{name}.timer", _TIMER.format(**words))


def _quoted(word: str) -> str:
    """A word of ExecStart=, in which ``$`` and ``%`` mean something to systemd ([systemd.service] COMMAND LINES)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$").replace("%", "%%")
    return escaped if re.fullmatch(r"[\w@+=:,./$%-]+", escaped) else f'"{escaped}"'
