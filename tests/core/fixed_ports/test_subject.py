"""Which servers need fixed ports, and what an array's settings say of them."""

from collections.abc import Mapping

import pytest
from tests.core.fixed_ports.examples import AB, BOTH, RPC, directory

from casarray.core.config_file import load_config
from casarray.core.directory.model import Array
from casarray.core.errors import Conflict
from casarray.core.fixed_ports.ports import FixedPorts
from casarray.core.fixed_ports.subject import Subject, Why, check_set, effective, of_config, of_directory, with_ports

CONFIG = """\
[[site]]
name = "Paderborn"
[[array]]
name = "CAS"
fqdn = "cas.domain.tld"
site = "Paderborn"
addresses = ["10.11.0.100"]
profile = "exchange-2010"
[[array.service]]
name = "rpc"
port = 5005
[[array.service]]
name = "app"
port = 8081
[[server]]
name = "cas1"
site = "Paderborn"
address = ["10.12.0.21", "2001:db8::21"]
[[server]]
name = "both"
site = "Paderborn"
address = "10.12.0.22"
roles = ["client-access", "mailbox"]
[[server]]
name = "mbx"
site = "Paderborn"
address = "10.12.0.23"
roles = ["mailbox"]
"""


def one(settings: Mapping[str, object] | None = None) -> Subject:
    """The array of the example's directory, with these settings."""
    (found,) = of_directory(directory(settings))
    return found


def test_of_a_directory_members_and_servers_with_public_folders_need_ports() -> None:
    found = one()
    assert [(t.server, t.services, t.why) for t in found.targets] == [
        ("cas1", BOTH, Why.MEMBER),
        ("cas2", BOTH, Why.MEMBER),
        ("mbx1", (RPC,), Why.PUBLIC_FOLDERS),
    ]
    assert found.unmarked == ("mbx2",)
    assert found.targets[0].hosts == ("cas1.domain.tld",)


def test_an_array_that_says_nothing_has_the_default_profile_and_its_ports() -> None:
    assert (one().ports, one().mapper_port) == (FixedPorts(5001, 5000), 135)


def test_what_an_array_says_counts() -> None:
    settings = {"profile": "exchange-2010", "service": [{"name": "ab", "port": 5555}, {"name": "epm", "port": 1135}]}
    found = one(settings)
    assert (found.ports, found.mapper_port) == (FixedPorts(5001, 5555), 1135)


def test_a_service_that_is_left_out_needs_no_port() -> None:
    found = one({"profile": "exchange-2010", "without": ["ab"]})
    assert (found.ports.ab, found.names) == (None, {RPC: "rpc"})
    assert {t.services for t in found.targets} == {(RPC,)}


@pytest.mark.parametrize("profile", ["exchange-2013", "mail", "web", "msrpc"])
def test_an_array_without_rpc_services_is_none_of_ours(profile: str) -> None:
    assert of_directory(directory({"profile": profile})) == ()


def test_an_array_with_wrong_settings_is_named() -> None:
    with pytest.raises(Conflict, match="array CAS: profile: there is no profile"):
        of_directory(directory({"profile": "exchange-2011"}))


def test_of_a_configuration_the_members_need_ports_and_mailbox_servers_are_asked_about() -> None:
    (found,) = of_config(load_config(CONFIG))
    assert found.ports == FixedPorts(5005, 5000)
    assert [(t.server, t.hosts) for t in found.targets] == [
        ("cas1", ("10.12.0.21", "2001:db8::21")),
        ("both", ("10.12.0.22",)),
    ]
    assert found.unmarked == ("mbx",)


# Setting.


def test_ports_go_into_the_settings_with_the_profile_they_stand_on() -> None:
    settings = with_ports({}, one(), FixedPorts(5002, 5003), "exchange-2010")
    assert settings == {
        "profile": "exchange-2010",
        "service": [{"name": "rpc", "port": 5002}, {"name": "ab", "port": 5003}],
    }
    assert one(settings).ports == FixedPorts(5002, 5003)


def test_a_table_that_is_there_is_changed_and_everything_else_stays() -> None:
    before = {
        "affinity_timeout": "1h",
        "profile": "exchange-2010",
        "service": [{"name": "app", "port": 8081}, {"name": "rpc", "port": 5009, "required": False}],
    }
    after = with_ports(before, one(before), FixedPorts(5002, 5000), "exchange-2010")
    assert after == before | {
        "service": [{"name": "app", "port": 8081}, {"name": "rpc", "port": 5002, "required": False}]
    }
    assert before["service"][1]["port"] == 5009  # type: ignore[index]  # the value of before is as it was


def test_ports_that_are_so_already_are_not_written() -> None:
    assert "service" not in with_ports({}, one(), FixedPorts(5001, 5000), "exchange-2010")


def test_a_port_of_another_service_of_the_array_is_refused() -> None:
    array = effective(Array("CAS", "cas.domain.tld", "Paderborn", settings={"profile": "exchange-2010"}))
    check_set(one(), FixedPorts(5001, 5000), array)
    array = effective(
        Array(
            "CAS",
            "cas.domain.tld",
            "Paderborn",
            settings={"profile": "exchange-2010", "service": [{"name": "app", "port": 8081}]},
        )
    )
    with pytest.raises(Conflict, match="has app on port 8081 already"):
        check_set(one(), FixedPorts(8081, 5000), array)


def test_the_ports_of_the_two_may_be_exchanged() -> None:
    array = effective(Array("CAS", "cas.domain.tld", "Paderborn", settings={"profile": "exchange-2010"}))
    check_set(one(), FixedPorts(5000, 5001), array)


def test_a_service_that_the_array_has_not_cannot_be_fixed() -> None:
    without = one({"profile": "exchange-2010", "without": ["ab"]})
    with pytest.raises(Conflict, match="does not offer MSExchangeAB"):
        check_set(without, FixedPorts(5001, 5000))
    check_set(without, FixedPorts(5001, None))
    assert AB not in without.names
