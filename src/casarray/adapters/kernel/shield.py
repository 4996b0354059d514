"""Keeps connections whole while somebody else has flushed our table: see `casarray.core.forwarding.nft.shield`.

A table with an owner goes when its owner's netlink socket closes. The owner is an nft program of ours that waits for
more commands: it ends when its input does, which is when we end, however that comes about.
"""

import logging
import subprocess
import time
from contextlib import suppress

from casarray.adapters.kernel.nfnetlink import Channel, Interrupted, Kind, Message, Refused, attributes, text
from casarray.core.errors import CasarrayError
from casarray.core.forwarding import nft
from casarray.core.forwarding.table import Table

log = logging.getLogger(__name__)

_SECONDS = 2.0
_AGAIN_SECONDS = 0.3
_PAUSE_SECONDS = 0.005
_TABLE_OWNER = 7


class Shield:
    """At most one shield of one array. For one thread at a time."""

    def __init__(self, table_name: str, program: str = "nft") -> None:
        """``table_name``: of the table that is shielded."""
        self._table_name = table_name
        self._program = program
        self._owner: subprocess.Popen[bytes] | None = None
        self._name = ""
        self._text = ""
        self._possible = True

    def put_up(self, table: Table) -> None:
        """Shield this table. Blocks for some milliseconds.

        Without a shield (a kernel before 5.12) all is well but through a flush, so a failure is logged and not raised.
        """
        if not self._possible:
            return
        if self._owner and self._owner.poll() is None and self._text == nft.shield(table, self._name):
            return
        # Two names in turn: the new shield stands before the old one goes.
        before, names = self._owner, nft.shield_names(self._table_name)
        name = names[self._name == names[0]]
        text_ = nft.shield(table, name)
        try:
            owner = subprocess.Popen(
                [self._program, "-i"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us, and we may take our time
            )
        except OSError as error:
            log.warning("connections will not survive a foreign flush of nftables: %s", error)
            return
        try:
            told = self._told(owner, text_, name)
        except BaseException as error:
            _end(owner)
            if not isinstance(error, CasarrayError):
                raise
            log.warning("connections will not survive a foreign flush of nftables: %s", error)
            return
        if told:
            self._owner, self._name, self._text = owner, name, text_
            _end(before)
        else:
            log.warning("connections will not survive a foreign flush of nftables: this kernel gives tables no owner")
            self._possible = False
            _end(owner)

    def take_down(self) -> None:
        """None there is no error."""
        _end(self._owner)
        self._owner, self._name, self._text = None, "", ""

    @staticmethod
    def _told(owner: subprocess.Popen[bytes], text_: str, name: str) -> bool:
        """Have it done; whether it was."""
        rules = sum(line.startswith("add rule") for line in text_.splitlines())
        now = time.monotonic()
        until, again = now + _SECONDS, now
        with Channel() as channel:
            while now < until and owner.poll() is None:
                ours = _owned_by(channel, name) == owner.pid
                if ours and _rules(channel, name) == rules:
                    return True
                if not ours and now >= again:
                    # The first time, or it belongs to one that was killed a moment ago and is about to go.
                    _say(owner, text_)
                    again = now + _AGAIN_SECONDS
                time.sleep(_PAUSE_SECONDS)
                now = time.monotonic()
        return False


def _owned_by(channel: Channel, name: str) -> int | None:
    """Whose table this is: a port id, for a program its process id; 0 for nobody. Nothing if there is no table."""
    try:
        (answer,) = channel.get(Message(Kind.GETTABLE, text(1, name)))
    except Refused:
        return None
    return int.from_bytes(dict(attributes(answer)).get(_TABLE_OWNER, b""), "big")


def _rules(channel: Channel, name: str) -> int:
    try:
        return sum(1 for _ in channel.dump(Message(Kind.GETRULE, text(1, name))))
    except (Refused, Interrupted):
        return 0


def _say(owner: subprocess.Popen[bytes], text_: str) -> None:
    assert owner.stdin is not None
    with suppress(OSError):  # it has ended: that is noticed elsewhere
        owner.stdin.write(text_.encode())
        owner.stdin.flush()


def _end(owner: subprocess.Popen[bytes] | None) -> None:
    if owner is None:
        return
    assert owner.stdin is not None
    with suppress(OSError):
        owner.stdin.close()
    try:
        owner.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        owner.kill()
        owner.wait()
