"""Ends the connections of a member and tells their clients, idle ones too.

A TCP connection can be reset only by somebody who knows its sequence numbers, and the kernel that forwarded it keeps
them to itself. So the client is asked: a bare SYN from the array's address and port makes its TCP answer with a
challenge ACK ([RFC 5961] 4.2), which carries the right number, and a table of our own (`rules`) answers that with a
reset. It does not matter what living members make of a segment they know nothing of: Windows' firewall, for one,
swallows it. Clients that send by themselves are reset by the same rule.

The order of things: the connections are listed, their tuples put into the set `closing`, the connection table flushed,
the SYNs sent. From the flush on, whatever comes from such a client is `ct state new` or `invalid` without a SYN, and
refused. A client that connects again from the same port sends a SYN first, and is let through.

The SYNs themselves are not tracked: the connection table would take them for the beginning of a connection the other
way round, and (seen on Linux 6.18) give them another source port, as theirs is in use. They are known by their
priority (SO_PRIORITY), not by a mark, since marks choose routes.

The second round reaches those whose SYN, challenge or reset got lost. It comes after more than 500 ms, because Linux
sends no more than one challenge ACK per connection in that time (net.ipv4.tcp_invalid_ratelimit). A client host with
Linux before 5.19 sends about 1,000 a second in all (net.ipv4.tcp_challenge_ack_limit, no limit since), so there are
more rounds when one address has more connections than that. A SYN to a client that is already reset costs one RST.

Not reached: clients that drop what their own firewall or one on the way calls invalid. Those learn it when they send.
"""

import errno
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from casarray.adapters.kernel import nft_program
from casarray.adapters.kernel.conntrack import Conntrack, Half
from casarray.adapters.kernel.packets import bare_syn
from casarray.core.errors import CasarrayError, Denied, Unavailable

TABLE = "casarray_resets"
PRIORITY = 0xCA5A0001  # ca5a:1 in nft's words; above 6, so it takes CAP_NET_ADMIN to set it

_CHUNK = 500  # SYNs between two looks at the clock
_PRIMED = 10_000  # elements in one nft transaction, about 100 ms
_ROUND_SECONDS = 0.55
_CHALLENGES_PER_SECOND = 1000  # of a client host with Linux before 5.19, give or take half
_MOST_ROUNDS = 10

#: What firewalls, routes (prohibit, blackhole, unreachable), links and queues say of one packet.
_OF_ONE_CLIENT = {
    errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN,
    errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN,
}  # fmt: skip


def rules() -> str:
    """The nft text of the table, whole and repeatable: what is in its sets stays there.

    The chains run after the connection table was asked and before any address is translated.
    """
    refused = "ct state new,invalid tcp flags & (syn | rst) == 0"
    match4 = f"{refused} ip saddr . tcp sport . ip daddr . tcp dport @closing4 reject with tcp reset"
    match6 = f"{refused} ip6 saddr . tcp sport . ip6 daddr . tcp dport @closing6 reject with tcp reset"
    lines = [f"add table inet {TABLE}"]
    for name, kind in (("closing4", "ipv4_addr"), ("closing6", "ipv6_addr")):
        key = f"{kind} . inet_service . {kind} . inet_service"
        lines.append(f"add set inet {TABLE} {name} {{ type {key}; flags timeout; size 1048576; }}")
    for chain, hook, priority, content in (
        ("own_syns", "output", "raw", (f"meta priority {PRIORITY >> 16:x}:{PRIORITY & 0xFFFF:x} notrack",)),
        ("from_clients", "prerouting", "mangle", (match4, match6)),
        ("from_this_host", "output", "mangle", (match4, match6)),
    ):
        lines.append(f"add chain inet {TABLE} {chain} {{ type filter hook {hook} priority {priority}; }}")
        lines.append(f"flush chain inet {TABLE} {chain}")
        lines += [f"add rule inet {TABLE} {chain} {rule}" for rule in content]
    return "\n".join(lines) + "\n"


def elements(halves: Sequence[Half], seconds: int) -> str:
    """The nft text that puts these tuples into the sets for so long."""
    text = ""
    for name, family, length in (("closing4", socket.AF_INET, 12), ("closing6", socket.AF_INET6, 36)):
        keys = [_key(half, family) for half in halves if len(half) == length]
        if keys:
            listed = ", ".join(f"{key} timeout {seconds}s" for key in keys)
            text += f"add element inet {TABLE} {name} {{ {listed} }}\n"
    return text


def _key(half: Half, family: socket.AddressFamily) -> str:
    size = (len(half) - 4) // 2
    source, destination = socket.inet_ntop(family, half[:size]), socket.inet_ntop(family, half[size : 2 * size])
    from_port, to_port = struct.unpack_from("!HH", half, 2 * size)
    return f"{source} . {from_port} . {destination} . {to_port}"


class Resets:
    """Resets connections by their mark. Blocks for half a second or more: from a coroutine, use a thread."""

    def __init__(
        self,
        conntrack: Conntrack | None = None,
        *,
        nft: str = "nft",
        per_second: int = 20_000,
        sleep: Callable[[float], None] = time.sleep,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """``per_second`` bounds the SYNs that leave; ``around`` encloses each flush of the connection table."""
        self._conntrack = conntrack or Conntrack()
        self._nft = nft
        self._per_second = per_second
        self._sleep = sleep
        self._around = around
        self._transaction = threading.Lock()

    def prepare(self) -> None:
        """Put the table in place. Not needed before `reset`, which does it too."""
        self._run(rules())

    def remove(self) -> None:
        """Take the table away; none there is no error."""
        self._run(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")

    def reset(self, mark: int, mask: int, *, member_too: bool = False) -> int:
        """End every TCP connection with that mark within the mask; how many there were.

        The member must already be out of the map that steers. ``member_too`` also resets the member's end, for a
        member that lives (drained past its deadline, half dead). Whatever goes wrong on the way, the flush is done;
        then `Unavailable` or `Denied` is raised.
        """
        halves: list[Half] = []
        members: list[Half] = []
        for client, member in self._conntrack.halves(mark, mask):
            halves.append(client)
            if member_too:
                members.append(member)
        if not halves:
            self._flush(mark, mask)
            return 0
        count, rounds = len(halves), _rounds(halves)
        halves += members
        seconds = 5 + int(rounds * max(_ROUND_SECONDS, len(halves) / self._per_second))
        trouble = self._prime(halves[:_PRIMED], seconds, rules())
        self._flush(mark, mask)
        began = time.monotonic()
        self._send(halves[:_PRIMED])
        for first in range(_PRIMED, len(halves), _PRIMED):
            some = halves[first : first + _PRIMED]
            trouble = self._prime(some, seconds) or trouble
            self._send(some)
        for _ in range(rounds - 1):
            self._sleep(max(0.0, began + _ROUND_SECONDS - time.monotonic()))
            began = time.monotonic()
            # A client that has begun anew from the same port is waiting for its SYN-ACK, and must not see our SYN.
            self._send([half for half, anew in zip(halves, self._conntrack.known(halves), strict=True) if not anew])
        if trouble:
            raise trouble
        return count

    def _flush(self, mark: int, mask: int) -> None:
        with self._around():
            self._conntrack.flush(mark, mask)

    def _prime(self, halves: Sequence[Half], seconds: int, before: str = "") -> CasarrayError | None:
        """What went wrong is no reason to stop: then the living members' TCP may do the resetting."""
        try:
            self._run(before + elements(halves, seconds))
        except (Denied, Unavailable) as error:
            return error
        return None

    def _send(self, halves: Sequence[Half]) -> None:
        for family, length in ((socket.AF_INET, 12), (socket.AF_INET6, 36)):
            same = [half for half in halves if len(half) == length]
            if not same:  # a kernel may have been started without IPv6
                continue
            with _raw_socket(family) as link:
                due = time.monotonic()
                for first in range(0, len(same), _CHUNK):
                    chunk = same[first : first + _CHUNK]
                    self._sleep(max(0.0, due - time.monotonic()))
                    due += len(chunk) / self._per_second
                    for half in chunk:
                        _send_one(link, bare_syn(half), socket.inet_ntop(family, half[: (length - 4) // 2]))

    def _run(self, text: str) -> None:
        with self._transaction:
            nft_program.run(text, program=self._nft)


def _rounds(halves: Sequence[Half]) -> int:
    """How often to ask, so that the busiest client can have answered for each of its connections."""
    busiest = max(Counter(half[: (len(half) - 4) // 2] for half in halves).values())
    if busiest <= _CHALLENGES_PER_SECOND:
        return 2
    return min(_MOST_ROUNDS, 2 + 2 * busiest // _CHALLENGES_PER_SECOND)


def _raw_socket(family: socket.AddressFamily) -> socket.socket:
    """A socket that sends whole IP packets and receives none."""
    try:
        link = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
        try:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, PRIORITY - (1 << 32))  # a signed int to Python
        except OSError:
            link.close()
            raise
    except PermissionError as error:
        raise Denied("telling clients of a dead member needs CAP_NET_RAW and CAP_NET_ADMIN") from error
    except OSError as error:
        raise Unavailable(f"no raw socket: {error}") from error
    return link


def _send_one(link: socket.socket, packet: bytes, to: str) -> None:
    try:
        link.sendto(packet, (to, 0))
    except OSError as error:
        # One client that cannot be reached must not keep the others from hearing of it.
        if error.errno in _OF_ONE_CLIENT:
            return
        raise Unavailable(f"a reset could not be sent: {error}") from error
