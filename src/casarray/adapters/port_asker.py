"""Asks servers' endpoint mappers for the ports of their services, over real connections."""

import asyncio
from collections.abc import Callable, Sequence

from casarray.adapters.net.dial import failure_of
from casarray.app.fixed_ports import Progress, ask_all
from casarray.core.fixed_ports.asking import Answers, Ports, answers, asking
from casarray.core.fixed_ports.subject import Subject, Target
from casarray.core.health.conversation import Answer, Ask, Dial, Failure, Talk

CHUNK = 16 * 1024


def ask_ports(subjects: Sequence[Subject], seconds: float, tell: Callable[[Progress], None]) -> Sequence[Answers]:
    """What the mapper of every server says, each within so many seconds; on a loop of its own."""
    return asyncio.run(ask_all(StreamPortAsker(), subjects, seconds, tell))


class StreamPortAsker:
    """`casarray.app.fixed_ports.PortAsker` over TCP."""

    async def ask(self, target: Target, mapper_port: int, seconds: float) -> Answers:
        """On the first of its addresses that can be reached. See the port."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        interfaces = [interface for service in target.services for interface in service.interfaces]
        end, found = Answer(False, f"{target.server} has no address"), Ports()
        for at, host in enumerate(target.hosts):
            found = Ports()
            talk = Talk(target.server, asking(mapper_port, interfaces, found))
            share = (deadline - loop.time()) / (len(target.hosts) - at)
            end = await _perform(talk, host, loop.time() + share)
            if end.up:
                break
        return answers(target.server, found, end)


async def _perform(talk: Talk, host: str, deadline: float) -> Answer:
    """Carry a conversation to its end."""
    writer: asyncio.StreamWriter | None = None
    reader: asyncio.StreamReader | None = None
    step = talk.begin()
    try:
        async with asyncio.timeout_at(deadline):
            while not isinstance(step, Answer):
                try:
                    if isinstance(step, Dial):
                        reader, writer = await asyncio.open_connection(host, step.port)
                        step = talk.go_on(b"")
                    else:
                        assert isinstance(step, Ask)  # the conversation dials once, and asks
                        assert reader is not None
                        assert writer is not None
                        writer.write(step.data)
                        heard = await reader.read(CHUNK)
                        step = talk.go_on(heard) if heard else talk.fail(Failure.CLOSED)
                except OSError as error:
                    step = talk.fail(*failure_of(error))
    except TimeoutError:
        return talk.fail(Failure.TIMEOUT)
    finally:
        if writer is not None:
            writer.transport.abort()
    return step
