"""Service principal names in a real forest: Samba's domain controller, its directory and its KDC."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.app.kerberos.fake_agents import FakeAgents
from tests.conftest import Domain, LabNames
from tests.faces.test_nouns import nobody
from typer.testing import CliRunner

from casarray.adapters import dns
from casarray.adapters.kerberos.ad_realm import ActiveDirectoryRealm
from casarray.adapters.stores.memory_directory import MemoryDirectory
from casarray.core.config import DirectorySettings, KerberosSettings
from casarray.core.directory.model import Array, Directory, Server, Site
from casarray.core.kerberos.account import AccountKind
from casarray.core.kerberos.encryption import AES
from casarray.core.kerberos.keys import Generation, Holding
from casarray.faces.cli.app import cli
from casarray.faces.cli.world import World
from casarray.lab import netns, samba_ad
from casarray.lab.samba_ad import ADMINISTRATOR

REASON = netns.missing() or samba_ad.missing()
pytestmark = [
    pytest.mark.root,
    pytest.mark.samba,
    pytest.mark.timeout(180),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

MAIL, HTTP = "mail.lab.example", "http/mail.lab.example"
WANTED = [f"exchange{part}/cas.lab.example" for part in ("AB", "MDB", "RFR")] + [HTTP]
DIRECTORY = Directory().put(
    Site("Paderborn"),
    Server("cas1", "cas1.lab.example", "Paderborn"),
    Server("cas2", "cas2.lab.example", "Paderborn"),
    Array("CAS", "cas.lab.example", "Paderborn", settings={"published": [MAIL]}),
)


class Forest:
    """A shared account in the lab's domain, two members that hold its key, and the command line over all of it."""

    def __init__(self, domain: Domain) -> None:
        self.dc = domain.dc
        ticket = self.dc.ticket(ADMINISTRATOR, self.dc.password)
        self.settings = KerberosSettings(account="asa$", ccache=ticket)
        self.names = LabNames(domain.controllers)
        self.agents = FakeAgents()
        self.store = MemoryDirectory(DIRECTORY)
        self.opened: list[ActiveDirectoryRealm] = []
        self.realm = self.open()
        self.account = self.realm.create("asa", AccountKind.COMPUTER, AES)
        held = Holding("asa$", "LAB.EXAMPLE", (), (Generation(self.account.number, (), 0.0),))
        for name in ("cas1", "cas2"):
            self.agents.add(f"{name}.lab.example", held)

    def open(self) -> ActiveDirectoryRealm:
        url = f"ldap://{self.dc.fqdn}"
        self.opened.append(ActiveDirectoryRealm([url], self.settings, DirectorySettings(timeout=5.0), self.names))
        return self.opened[-1]

    def close(self) -> None:
        while self.opened:
            self.opened.pop().close()

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run one command: what it printed."""
        around = World(
            connect=nobody,
            run=nobody,
            remove=nobody,
            survey=nobody,
            environment={},
            open_store=lambda _: self.store,
            kerberos=lambda: self.settings,
            open_realm=self.open,
            agents=lambda: self.agents,
            canonical=lambda names: dns.canonical(names, [self.dc.address]),
        )
        environment = {"COLUMNS": "240", "TERM": "dumb", "NO_COLOR": "1"}
        result = CliRunner().invoke(cli, list(arguments), obj=around, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.output

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))

    def user(self, name: str, *names: str) -> str:
        """A user with these names, made behind everybody's back; where it is."""
        self.dc.add_user(name)
        where = f"CN={name},CN=Users,{self.dc.base}"
        for each in names:
            self.behind(where, each)
        return where

    def behind(self, where: str, name: str) -> None:
        """Give an account a name as replication does, which nobody checks: below everything that would."""
        database = self.dc.folder / f"private/sam.ldb.d/{self.dc.base.upper()}.ldb"
        change = f"dn: {where}\nchangetype: modify\nadd: servicePrincipalName\nservicePrincipalName: {name}\n-\n"
        self.dc.host.run("ldbmodify", "-H", str(database), input=change, env=self.dc.environment())

    @contextmanager
    def dns(self, *record: str) -> Iterator[None]:
        """For a while the domain's DNS has this record."""
        env = self.dc.environment() | {"KRB5CCNAME": self.dc.ticket(ADMINISTRATOR, self.dc.password)}
        options = ("--use-kerberos=required", f"--configfile={self.dc.folder / 'smb.conf'}")
        place = (self.dc.fqdn, self.dc.domain, *record, *options)
        self.dc.host.run("samba-tool", "dns", "add", *place, env=env)
        try:
            yield
        finally:
            self.dc.host.run("samba-tool", "dns", "delete", *place, env=env)

    def ticket(self, name: str) -> str:
        """Ask the KDC for a ticket, as the administrator: what it said, empty if it gave one."""
        cache = self.dc.ticket(ADMINISTRATOR, self.dc.password)
        env = self.dc.environment() | {"KRB5CCNAME": cache}
        done = self.dc.host.run("kvno", name, env=env, check=False)
        return "" if done.returncode == 0 else done.stderr


@pytest.fixture
def forest(domain: Domain) -> Iterator[Forest]:
    found = Forest(domain)
    try:
        yield found
    finally:
        found.close()


def test_names_are_set_and_the_kdc_makes_tickets_for_them(forest: Forest) -> None:
    assert "not found in Kerberos database" in forest.ticket(HTTP)
    assert "4 changes would be made" in forest("spn", "plan")
    assert "4 changes made, and read back" in forest("spn", "apply", "--yes")
    assert sorted(forest.realm.account("asa").names) == WANTED
    assert [forest.ticket(name) for name in (HTTP, "exchangeMDB/cas.lab.example")] == ["", ""]
    assert "nothing is wrong" in forest("spn", "audit")
    assert "nothing to change" in forest("spn", "apply", "--yes")
    assert {one["name"] for one in forest.json("spn", "list")["names"]} == set(WANTED)
    (one,) = forest.json("spn", "find", HTTP.upper())["owners"]
    assert (one["account"], one["dn"]) == ("asa$", forest.account.where)


def test_a_duplicate_made_behind_everybodys_back_is_found_and_taken_away(forest: Forest) -> None:
    forest("spn", "apply", "--yes")
    where = forest.user("old")
    assert forest.ticket(HTTP) == ""
    forest.behind(where, "HTTP/mail.lab.example")
    assert "not found in Kerberos database" in forest.ticket(HTTP)  # the KDC cannot choose
    (one,) = forest.json("spn", "audit", code=1)["findings"]
    assert (one["kind"], one["name"].casefold(), set(one["accounts"])) == (
        "duplicate", HTTP, {where, forest.account.where},
    )  # fmt: skip
    assert f"owned by old ({where})" in forest("spn", "apply", "--yes", code=1)
    assert "< http/mail.lab.example: away from old" in forest("spn", "apply", "--yes", "--move", "--now")
    assert forest.ticket(HTTP) == ""
    assert "nothing is wrong" in forest("spn", "audit")


def test_a_name_is_moved_from_another_account(forest: Forest) -> None:
    where = forest.user("old", HTTP, "http/else.lab.example")
    assert forest.ticket(HTTP) == ""  # with a key that no member has
    assert forest.json("spn", "audit", code=1)["findings"][0]["kind"] == "other-owner"
    (plan,) = forest.json("spn", "plan", "--move")["accounts"]
    assert "tickets made with the key of old live up to 10h" in plan["blocks"][0]
    forest("spn", "apply", "--yes", "--move", "--now")
    found = forest.json("spn", "find", "*.lab.example")["owners"]
    owners = {one["name"]: one["dn"] for one in found if one["dn"] in (where, forest.account.where)}
    assert owners == dict.fromkeys(WANTED, forest.account.where) | {"http/else.lab.example": where}
    assert forest.ticket(HTTP) == ""


def test_names_are_withdrawn_and_there_are_no_more_tickets(forest: Forest) -> None:
    forest("spn", "apply", "--yes")
    assert forest.ticket(HTTP) == ""
    forest("spn", "apply", "--withdraw", "--yes")
    assert forest.realm.account("asa").names == ()
    assert "not found in Kerberos database" in forest.ticket(HTTP)


def test_the_lines_of_the_issue_in_the_shell(forest: Forest) -> None:
    where = forest.user("dienstkonto")
    lines = "Setspn -S http/autodiscover.contoso.com dienstkonto\nSetspn -S exchangeMDB/mail.contoso.com dienstkonto"
    assert forest("shell", "-c", lines).count(where) == 2
    names = ["exchangeMDB/mail.contoso.com", "http/autodiscover.contoso.com"]
    assert sorted(forest.realm.account("dienstkonto").names) == names
    assert [row["Name"] for row in json.loads(forest("shell", "--json", "-c", "setspn -L LAB\\dienstkonto"))] == names
    refused = forest("shell", "-c", "setspn -F -S HTTP/autodiscover.contoso.com asa$", code=1)
    assert f"belongs to dienstkonto ({where}) already" in refused
    assert where in forest("shell", "-c", "setspn -F -Q */mail.contoso.com")
    assert "Nobody in the domain contoso" in forest("shell", "-c", "setspn -T contoso -Q */mail.contoso.com")
    forest.behind(forest.account.where, "http/autodiscover.contoso.com")
    found = forest("shell", "-c", "setspn -X -F")
    assert (where in found, forest.account.where in found) == (True, True)
    forest("shell", "-c", "setspn -D http/autodiscover.contoso.com dienstkonto")
    assert forest("shell", "-c", "setspn -X").startswith("No name in the forest of LAB.EXAMPLE")
    assert list(forest.realm.account("dienstkonto").names) == names[:1]


def test_an_alias_in_dns_is_noticed(forest: Forest) -> None:
    array = DIRECTORY.arrays["cas"]
    forest.store = MemoryDirectory(DIRECTORY.put(replace(array, settings={"published": ["front.lab.example"]})))
    forest("spn", "apply", "--yes")
    assert "nothing is wrong" in forest("spn", "audit")
    with forest.dns("front", "CNAME", "cas1.lab.example"):
        (one,) = forest.json("spn", "audit", code=1)["findings"]
    assert (one["kind"], one["name"]) == ("cname", "front.lab.example")
    assert "ask for a ticket for http/cas1.lab.example instead" in one["sees"]


def test_whoever_may_not_write_names_is_told_which_right_is_missing(forest: Forest) -> None:
    password = forest.dc.add_user("mallory")
    forest.settings = replace(forest.settings, ccache=forest.dc.ticket("mallory", password))
    assert f'"Write servicePrincipalName" on {forest.account.where}' in forest("spn", "apply", "--yes", code=1)
    assert forest.realm.account("asa").names == ()
