"""Fixed ports as use cases: set in a file and in a directory, exported, asked for."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.app.virtual_time import VirtualLoop, in_virtual_time
from tests.core.fixed_ports.examples import AB, BOTH, MBX1, RPC, directory, says, subject

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app import fixed_ports as use
from casarray.app.directory import DirectoryService
from casarray.core.config import Config
from casarray.core.config_file import load_config
from casarray.core.directory import edits
from casarray.core.directory.model import Kind
from casarray.core.errors import ConfigError, Conflict, NotFound
from casarray.core.fixed_ports.asking import Answers
from casarray.core.fixed_ports.ports import FixedPorts
from casarray.core.fixed_ports.registry_file import Setting, read_export
from casarray.core.fixed_ports.rules import Known
from casarray.core.fixed_ports.service_config import FILE_NAME, read_service_config
from casarray.core.fixed_ports.subject import Target
from casarray.core.fixed_ports.text import Encoding

FILE = """\
[[site]]
name = "Paderborn"
[[array]]
name = "CAS"
fqdn = "cas.domain.tld"
site = "Paderborn"
addresses = ["10.11.0.100"]
profile = "exchange-2010"

[[server]]   # the only one
name = "cas1"
site = "Paderborn"
address = "10.12.0.21"
"""


class Disk:
    """A configuration file in memory."""

    def __init__(self, text: str = FILE) -> None:
        self.text = text
        self.writes = 0

    def place(self) -> use.PortsInFile:
        return use.PortsInFile("f.toml", self.text, self.load, self.write)

    def load(self, text: str, file: str) -> Config:
        return load_config(text, file)

    def write(self, _file: str, text: str) -> None:
        self.text = text
        self.writes += 1


def service(settings: dict[str, object] | None = None) -> DirectoryService:
    """An administrator at the example's directory."""
    return DirectoryService(MemoryDirectory(directory(settings)), "root")


# Setting, in a file.


def test_the_default_ports_are_those_of_the_profile_so_nothing_is_written() -> None:
    disk = Disk()
    outcome = use.set_ports(disk.place(), None, None, None)
    assert (outcome.after, outcome.changed, disk.writes) == (FixedPorts(5001, 5000), False, 0)


def test_ports_in_a_file_are_written_below_their_array_and_read_again() -> None:
    disk = Disk()
    outcome = use.set_ports(disk.place(), "CAS", 5002, None)
    assert (outcome.before, outcome.after, outcome.changed) == (FixedPorts(5001, 5000), FixedPorts(5002, 5000), True)
    assert disk.text == FILE.replace('2010"\n', '2010"\n\n[[array.service]]\nname = "rpc"\nport = 5002\n')
    assert disk.place().subjects()[0].ports == FixedPorts(5002, 5000)


def test_what_was_set_stays_when_the_other_one_is_set() -> None:
    disk = Disk()
    use.set_ports(disk.place(), "CAS", 5002, None)
    assert use.set_ports(disk.place(), "CAS", None, 5003).after == FixedPorts(5002, 5003)


def test_without_ports_both_go_back_to_the_default() -> None:
    disk = Disk()
    use.set_ports(disk.place(), "CAS", 5002, 5003)
    assert use.set_ports(disk.place(), "CAS", None, None).after == FixedPorts(5001, 5000)


def test_a_dry_run_writes_nothing() -> None:
    disk = Disk()
    assert use.set_ports(disk.place(), "CAS", 5002, None, dry_run=True).changed
    assert disk.writes == 0


@pytest.mark.parametrize(("rpc", "ab"), [(5000, None), (1023, None), (None, 65536), (443, None)])
def test_ports_that_cannot_be_are_refused_and_nothing_is_written(rpc: int | None, ab: int | None) -> None:
    disk = Disk()
    with pytest.raises(Conflict):
        use.set_ports(disk.place(), "CAS", rpc, ab)
    assert disk.writes == 0


def test_a_port_of_another_service_of_the_array_is_refused() -> None:
    disk = Disk(FILE.replace("[[server]]", '[[array.service]]\nname = "app"\nport = 8081\n[[server]]'))
    with pytest.raises(Conflict, match="has app on port 8081"):
        use.set_ports(disk.place(), "CAS", 8081, None)


def test_a_file_that_would_be_wrong_with_them_is_not_written() -> None:
    disk = Disk()

    def suspicious(text: str, file: str) -> Config:
        if "5002" in text:
            raise ConfigError("it would be wrong")
        return load_config(text, file)

    place = use.PortsInFile("f.toml", disk.text, suspicious, disk.write)
    with pytest.raises(ConfigError, match="would be wrong"):
        use.set_ports(place, "CAS", 5002, None)
    assert disk.writes == 0


def test_warnings_come_with_the_outcome() -> None:
    outcome = use.set_ports(Disk().place(), "CAS", 59531, 1433)
    assert [f.code for f in outcome.findings] == ["port-of-another", "in-dynamic-range"]
    assert outcome.servers == ("cas1",)


# Setting, in a directory.


def test_ports_in_a_directory_are_written_into_the_settings_with_the_command_in_the_trail() -> None:
    mine = service()
    outcome = use.set_ports(use.PortsInDirectory(mine), "cas.domain.tld", 5002, None)
    assert outcome.changed
    assert mine.directory().arrays["cas"].settings == {
        "profile": "exchange-2010",
        "service": [{"name": "rpc", "port": 5002}],
    }
    assert [(entry.note.who, entry.note.what) for entry in mine.history()] == [
        ("root", "ports set CAS --rpc 5002 --ab 5000")
    ]


def test_ports_that_are_in_the_directory_already_are_no_change() -> None:
    mine = service()
    assert not use.set_ports(use.PortsInDirectory(mine), "CAS", 5001, 5000).changed
    assert mine.history() == []


def test_a_dry_run_leaves_the_directory_alone() -> None:
    mine = service()
    assert use.set_ports(use.PortsInDirectory(mine), "CAS", 5002, None, dry_run=True).changed
    assert mine.directory().arrays["cas"].settings == {}


def test_ports_that_cannot_be_are_refused_and_the_directory_is_as_it_was() -> None:
    mine = service()
    with pytest.raises(Conflict, match="both services cannot have port"):
        use.set_ports(use.PortsInDirectory(mine), "CAS", 5000, None)
    assert mine.history() == []


def test_a_change_of_somebody_else_meanwhile_is_kept() -> None:
    store = MemoryDirectory(directory())
    mine, other = DirectoryService(store, "root"), DirectoryService(store, "eve")
    place = use.PortsInDirectory(mine)
    place.subjects()
    settings = {"profile": "exchange-2010", "affinity_timeout": "1h"}
    other.change(lambda d: edits.change(d, Kind.ARRAY, "CAS", settings=settings), "Set-...")
    use.set_ports(place, "CAS", 5002, None)
    assert mine.directory().arrays["cas"].settings == settings | {"service": [{"name": "rpc", "port": 5002}]}


# Choosing.


def test_an_array_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(NotFound, match='there is no array with RPC services "CASS"; did you mean "CAS"'):
        use.choose([subject()], "CASS")


def test_no_array_at_all_is_told() -> None:
    with pytest.raises(NotFound, match="there is no array with RPC services"):
        use.choose([], None)


def test_of_several_arrays_one_has_to_be_named() -> None:
    both = [subject(), replace(subject(), array="B")]
    assert len(use.choose(both, None)) == 2
    with pytest.raises(Conflict, match="name one of CAS, B"):
        use.choose_one(both, None)


def test_files_of_a_server_that_needs_no_ports_are_refused() -> None:
    use.check_names([subject()], ["CAS1", "mbx1"])
    with pytest.raises(NotFound, match='there is no server with fixed ports "cas3"'):
        use.check_names([subject()], ["cas3"])


# Exporting.


def test_both_files_are_for_the_members_and_one_for_the_mailbox_server() -> None:
    rpc, ab = use.export(subject())
    assert (rpc.name, rpc.servers) == ("CAS-MSExchangeRPC.reg", ("cas1", "cas2", "mbx1"))
    assert (ab.name, ab.servers) == ("CAS-MSExchangeAB.reg", ("cas1", "cas2"))
    assert read_export(rpc.data, rpc.name).settings == {RPC: Setting(5001)}
    assert read_export(ab.data, ab.name).settings == {AB: Setting(5000)}


def test_the_encoding_is_that_of_regedit_unless_another_is_wanted() -> None:
    assert all(file.data.startswith(b"\xff\xfe") for file in use.export(subject()))
    assert all(file.data.startswith(b"Windows") for file in use.export(subject(), Encoding.UTF_8))


def test_before_sp1_the_address_book_has_its_configuration_file() -> None:
    rpc, ab = use.export(subject(), before_sp1=True)
    assert (rpc.name, ab.name) == ("CAS-MSExchangeRPC.reg", FILE_NAME)
    assert read_service_config(ab.data, ab.name) == Setting(5000)
    assert (rpc.is_registry, ab.is_registry) == (True, False)


def test_an_existing_configuration_file_is_carried_over() -> None:
    existing = b'<configuration><appSettings><add key="Other" value="1"/></appSettings></configuration>'
    _, ab = use.export(subject(), before_sp1=True, existing=existing)
    assert b'key="Other" value="1"' in ab.data


def test_dynamic_ports_cannot_be_exported() -> None:
    with pytest.raises(Conflict, match="casarray ports set first"):
        use.export(subject(None, None))


# Reporting.


def test_a_report_has_a_line_for_each_service_of_each_server() -> None:
    known = {
        "cas1": Known({RPC: Setting(5001), AB: Setting(None, "x; y")}, exported=True, answers=says("cas1")),
        "cas2": Known(answers=Answers("cas2", reason="cas2 is silent")),
    }
    found = use.report(subject(), known)
    assert [(line.server, line.service, line.registry, line.answered, line.right) for line in found.lines] == [
        ("cas1", RPC, Setting(5001), True, True),
        ("cas1", AB, Setting(None, "x; y"), True, True),
        ("cas2", RPC, None, False, None),
        ("cas2", AB, None, False, None),
        ("mbx1", RPC, None, None, None),
    ]
    assert found.differs


def test_half_a_service_on_the_right_port_is_not_right() -> None:
    found = use.report(subject(), {"cas1": Known(answers=says("cas1", rfr=6123))})
    assert [line.right for line in found.lines[:2]] == [True, False]
    assert found.lines[1].mapper == {"NSPI": (5000,), "RFR": (6123,)}


def test_answers_are_put_beside_what_was_known() -> None:
    known = use.with_answers({"cas1": Known(exported=True)}, [says("cas1"), says("cas2")])
    assert (known["cas1"].exported, known["cas1"].answers) == (True, says("cas1"))
    assert known["cas2"].answers == says("cas2")


# Asking.


class Slow:
    """`PortAsker` that takes this long for each server, and notes how many it is asked for at once."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.at_once = self.most = 0
        self.asked: list[tuple[str, int, float]] = []

    async def ask(self, target: Target, mapper_port: int, seconds: float) -> Answers:
        self.asked.append((target.server, mapper_port, seconds))
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(self.seconds.get(target.server, 0.1))
        self.at_once -= 1
        return says(target.server)


def asked(asker: Slow, targets: tuple[Target, ...]) -> tuple[Sequence[Answers], list[use.Progress], float]:
    """What comes of asking, what was told meanwhile, and how long it took."""
    told: list[use.Progress] = []

    async def run(loop: VirtualLoop) -> tuple[Sequence[Answers], float]:
        began = loop.time()
        found = await use.ask_all(asker, [subject(targets=targets)], 5.0, told.append)
        return found, loop.time() - began

    found, took = in_virtual_time(run)
    return found, told, took


def test_all_servers_are_asked_at_once_and_answer_in_their_order() -> None:
    targets = tuple(Target(f"cas{n}", ("10.12.0.21",), BOTH) for n in range(30))
    asker = Slow(cas0=1.5)
    found, told, took = asked(asker, targets)
    assert [answers.server for answers in found] == [target.server for target in targets]
    assert (asker.most, told) == (30, [])
    assert took == pytest.approx(1.5)
    assert asker.asked[0] == ("cas0", 135, 5.0)


def test_never_more_are_asked_at_once_than_is_decent() -> None:
    targets = tuple(Target(f"cas{n}", ("10.12.0.21",), BOTH) for n in range(500))
    asker = Slow()
    assert len(asked(asker, targets)[0]) == 500
    assert asker.most == use.AT_ONCE


def test_after_two_seconds_it_is_told_who_is_waited_for() -> None:
    targets = (Target("cas1", ("10.12.0.21",), BOTH), Target("cas2", ("10.12.0.22",), BOTH), MBX1)
    _, told, _ = asked(Slow(cas1=3.5, cas2=2.5), targets)
    assert told == [use.Progress(1, 3, ("cas1", "cas2")), use.Progress(2, 3, ("cas1",))]
