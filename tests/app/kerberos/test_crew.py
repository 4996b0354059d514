"""Members worked with side by side: how many at once, and what becomes of lost lines."""

import threading
from dataclasses import replace

import pytest
from tests.app.kerberos.fake_agents import FakeAgents, FakeMember
from tests.core.directory.example import ORGANISATION

from casarray.app.kerberos.crew import AT_ONCE, Crew
from casarray.app.kerberos.ports import Agent, AgentState
from casarray.core.directory.model import Server
from casarray.core.errors import CasarrayError, Denied, Unavailable

ONE = ORGANISATION.servers["cas1"]


def servers(count: int) -> list[Server]:
    return [replace(ONE, name=f"cas{number}", fqdn=f"cas{number}.domain.tld") for number in range(count)]


def crew_of(count: int) -> tuple[Crew, FakeAgents]:
    agents, members = FakeAgents(), servers(count)
    for server in members:
        agents.add(server.fqdn)
    return Crew(agents, members), agents


def state(_: str, agent: Agent) -> AgentState:
    return agent.state()


def test_many_are_worked_with_at_once_and_not_too_many() -> None:
    crew, _ = crew_of(3 * AT_ONCE)
    busy, most = 0, 0
    counting, full = threading.Lock(), threading.Barrier(AT_ONCE)

    def work(name: str, _agent: Agent) -> str:
        nonlocal busy, most
        with counting:
            busy += 1
            most = max(most, busy)
        full.wait(20)  # goes on when sixteen are here
        with counting:
            busy -= 1
        return name

    with crew:
        found = crew.each(crew.names, work)
    assert most == AT_ONCE
    assert list(found) == list(found.values()) == list(crew.names)


def test_each_is_reached_once_and_let_go_at_the_end() -> None:
    crew, agents = crew_of(2)
    with crew:
        crew.each(crew.names, state)
        crew.each(crew.names, state)
    assert sorted(agents.reached) == ["cas0.domain.tld", "cas1.domain.tld"]
    assert [member.closed for member in agents.members.values()] == [1, 1]
    crew.close()


def test_a_lost_line_is_dialled_again_once_and_a_refusal_is_one() -> None:
    crew, agents = crew_of(3)
    members: list[FakeMember] = list(agents.members.values())
    heard: dict[str, str] = {}
    with crew:
        crew.each(crew.names, state)
        members[0].fail("state", Unavailable("lost"))
        members[1].fail("state", Unavailable("lost"), times=2)
        members[2].fail("state", Denied("no"))
        found = crew.each(crew.names, state, heard.__setitem__)
    assert isinstance(found["cas0"], AgentState)
    assert [str(found[name]) for name in ("cas1", "cas2")] == ["lost", "no"]
    assert heard == {"cas0": "", "cas1": "lost", "cas2": "no"}
    assert agents.reached.count("cas2.domain.tld") == 1


def test_one_alone_raises_what_it_raises() -> None:
    crew, agents = crew_of(1)
    agents.denying.add("cas0.domain.tld")
    with crew, pytest.raises(Denied):
        crew.one("cas0", lambda agent: agent.state())


def test_a_fault_of_ours_is_no_answer() -> None:
    crew, _ = crew_of(2)

    def work(_name: str, _agent: Agent) -> None:
        raise ZeroDivisionError

    with crew, pytest.raises(ZeroDivisionError):
        crew.each(crew.names, work)
    assert not issubclass(ZeroDivisionError, CasarrayError)
