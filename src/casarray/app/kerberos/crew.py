"""The members of a share, worked with side by side: one agent each, kept connected for the length of a use case."""

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from types import TracebackType
from typing import Self, TypeVar

from casarray.app.kerberos.ports import Agent, Agents
from casarray.core.directory.model import Server
from casarray.core.errors import CasarrayError, Unavailable

T = TypeVar("T")

AT_ONCE = 16  # members worked with at the same time

Work = Callable[[Agent], T]
Tell = Callable[[str, str], None]
"""A member's name, and why it failed (empty: it did not): heard as each is done, in the thread of whoever asked."""


def unheard(_name: str, _why: str) -> None:
    """Nobody listens."""


class Crew:
    """Agents by their members' names."""

    def __init__(self, agents: Agents, servers: Iterable[Server]) -> None:
        """Nobody is reached before there is something to do."""
        self._agents = agents
        self._hosts = {server.name: server.fqdn for server in servers}
        self._connected: dict[str, Agent] = {}
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="member")

    def __enter__(self) -> Self:
        """For the length of a use case."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up everywhere."""
        self.close()

    @property
    def names(self) -> Sequence[str]:
        """All members."""
        return tuple(self._hosts)

    def each(
        self, names: Collection[str], work: Callable[[str, Agent], T], tell: Tell = unheard
    ) -> dict[str, T | CasarrayError]:
        """Do it with each of these; what came of it, or why not."""
        running: dict[Future[T], str] = {self._threads.submit(self._one, name, work): name for name in names}
        found: dict[str, T | CasarrayError] = {}
        try:
            for done in as_completed(running):
                name = running[done]
                try:
                    found[name] = done.result()
                except CasarrayError as error:
                    found[name] = error
                tell(name, str(found[name]) if isinstance(found[name], CasarrayError) else "")
        finally:
            for waiting in running:
                waiting.cancel()
        return {name: found[name] for name in names}

    def one(self, name: str, work: Work[T]) -> T:
        """Do it with this one. Raises what it raises."""
        found = self.each((name,), lambda _, agent: work(agent))[name]
        if isinstance(found, CasarrayError):
            raise found
        return found

    def close(self) -> None:
        """Hang up. Twice is once."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while self._connected:
            self._connected.popitem()[1].close()

    def _one(self, name: str, work: Callable[[str, Agent], T]) -> T:
        """Every call may be made twice: it says what should be so, not what to add. So a lost line is dialled again."""
        known = self._connected.get(name)
        if known is not None:
            try:
                return work(name, known)
            except Unavailable:
                del self._connected[name]
                known.close()
        agent = self._agents.reach(self._hosts[name])
        self._connected[name] = agent
        return work(name, agent)
