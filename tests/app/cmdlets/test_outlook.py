"""Test-OutlookConnectivity as administrators type it."""

from collections.abc import Callable
from ipaddress import ip_address

import pytest

from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.app.cmdlets.outlook import outlook_cmdlets
from casarray.app.connectivity import Network, Walker
from casarray.app.directory import DirectoryService
from casarray.app.shell import Session
from casarray.core.directory.model import Account, Array, Copy, Database, Directory, Server, Site
from casarray.core.errors import Unavailable
from casarray.core.outlook.verdicts import Result, Scenario, Step, Trouble, troubled
from casarray.core.outlook.wish import Means, Wish
from casarray.core.shell.cmdlet import Record, Value
from casarray.core.shell.registry import Registry

PASSWORD = "not to be shown"
FINE = Step("CAS", "cas.domain.tld:135", Scenario.MAPPER, Result.SUCCESS, 3.0, "", "EMSMDB on 5001")
WRONG = troubled(
    Step("CAS", "cas.domain.tld:5000", Scenario.REFERRAL, Result.SUCCESS, 4.5),
    Trouble.RFR_NAME,
    told="cas1.domain.tld",
    name="cas.domain.tld",
)


def directory() -> Directory:
    return Directory().put(
        Site("Paderborn"),
        Server("cas1", "cas1.domain.tld", "Paderborn", addresses=(ip_address("10.12.0.21"),)),
        Array("CAS", "cas.domain.tld", "Paderborn", (ip_address("10.11.0.100"),)),
        Database("DB1", "cas1", (Copy("cas1"),), "cas.domain.tld"),
        Account("administrator", "DB1", "administrator@domain.tld"),
    )


class FakeWalker(Walker):
    """Remembers what was wished, and answers the same steps each time."""

    def __init__(self, *steps: Step) -> None:
        def nowhere(_: Means) -> Network:
            raise Unavailable("no network here")

        super().__init__(nowhere, lambda: 0.0)
        self.steps = steps
        self.asked: list[tuple[Wish, Means, float | None]] = []

    def test(
        self,
        directory: Directory,
        wish: Wish,
        means: Means,
        tell: Callable[[Step], None],
        most_seconds: float | None = None,
    ) -> tuple[Step, ...]:
        assert directory.arrays
        self.asked.append((wish, means, most_seconds))
        for step in self.steps:
            tell(step)
        return self.steps


class Screen:
    """A person who answers."""

    interactive = True
    width = 120

    def __init__(self) -> None:
        self.out: list[str] = []
        self.err: list[str] = []

    def write(self, text: str) -> None:
        self.out.append(text)

    def tell(self, text: str) -> None:
        self.err.append(text)

    def ask(self, question: str) -> str:
        assert question == "User: "
        return "DOMAIN\\administrator"

    def ask_password(self, question: str) -> str:  # noqa: ARG002 - as all screens
        return PASSWORD

    def progress(self, text: str) -> None:
        pass

    def clear(self) -> None:
        pass


def typed(walker: Walker, *lines: str, keep: list[Value] | None = None) -> Screen:
    service = DirectoryService(MemoryDirectory(directory()), "test")
    screen = Screen()
    session = Session(Registry(outlook_cmdlets(service, lambda: walker)), screen, keep=keep)
    for line in lines:
        session.run(line)
    return screen


def test_the_two_lines_of_an_exchange_administrator_work_as_they_are() -> None:
    walker = FakeWalker(FINE, WRONG)
    screen = typed(
        walker,
        "$c = Get-Credential",
        "Test-OutlookConnectivity -Identity administrator -MailboxCredential $c -Protocol tcp",
    )
    ((wish, means, seconds),) = walker.asked
    assert (wish.user, wish.http, wish.logon, wish.deep, seconds) == ("administrator", False, "negotiate", True, 120.0)
    assert (means.log_on.user, means.log_on.password) == ("DOMAIN\\administrator", PASSWORD)
    table = "\n".join(screen.out)
    assert table.split("\n")[0].split() == ["ClientAccessServer", "ServiceEndpoint", "Scenario", "Result", "Latency"]
    assert [line.split() for line in table.split("\n")[2:]] == [
        ["CAS", "cas.domain.tld:135", "Endpoint", "mapper", "Success", "3"],
        ["CAS", "cas.domain.tld:5000", "RFR", "Failure", "4.5"],
    ]
    assert any("RFR names cas1.domain.tld" in line and "Next: look at" in line for line in screen.err)
    assert PASSWORD not in table + "".join(screen.err) + repr(means)


def test_objects_go_on_through_the_pipeline() -> None:
    kept: list[Value] = []
    typed(FakeWalker(FINE, WRONG), "Test-OutlookConnectivity | Where-Object { $_.Result -eq 'Failure' }", keep=kept)
    (record,) = kept
    assert isinstance(record, Record)
    assert (record.get("Error"), record.get("Scenario"), record.get("Latency")) == ("rfr-name", "RFR", 4.5)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("", Wish(depth=None)),
        ("-Protocol HTTP -RpcProxyServer mail.domain.tld", Wish(http=True, proxy="mail.domain.tld")),
        ("-RpcAuthenticationType kerberos", Wish(logon="kerberos")),
        ("-RpcTestType Server -RpcClientAccessServer cas1", Wish(server="cas1", by_server=True)),
        ("-RpcClientAccessServer cas1.domain.tld", Wish(server="cas1.domain.tld", by_server=True)),
        ("-RpcClientAccessServer CAS", Wish(array="CAS")),
        ("-GetDefaultsFromAutodiscover $false", Wish(discover=False)),
    ],
)
def test_parameters_say_what_is_tested(line: str, wanted: Wish) -> None:
    walker = FakeWalker(FINE)
    typed(walker, f"Test-OutlookConnectivity {line}")
    wish = walker.asked[0][0]
    same = ("array", "server", "by_server", "http", "proxy", "logon", "discover", "deep")
    assert [getattr(wish, name) for name in same] == [getattr(wanted, name) for name in same]


def test_further_parameters_reach_the_test() -> None:
    walker = FakeWalker(FINE)
    typed(
        walker,
        "Test-OutlookConnectivity -TrustAnySslCert -TotalTimeoutInMinutes 5 -RpcProxyAuthenticationType Basic -Archive",
    )
    (_, means, seconds) = walker.asked[0]
    assert (means.trust_any_certificate, means.proxy_authentication, seconds) == (True, "basic", 300.0)


def test_somebody_unknown_is_warned_of_and_nothing_for_a_time_is_refused() -> None:
    walker = FakeWalker(FINE)
    assert any("does not know bob" in line for line in typed(walker, "Test-OutlookConnectivity -Identity bob").err)
    assert any(
        "write 1 to 60" in line for line in typed(walker, "Test-OutlookConnectivity -TotalTimeoutInMinutes 0").err
    )


def test_each_step_is_told_as_it_happens_to_whoever_wants_to_know() -> None:
    screen = typed(FakeWalker(FINE), "Test-OutlookConnectivity -Verbose")
    assert "VERBOSE: CAS cas.domain.tld:135 Endpoint mapper: Success, 3 ms" in screen.err
