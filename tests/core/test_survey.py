"""What follows from what servers offer."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.config_file import load_config
from casarray.core.profiles import EMSMDB, NSPI, PROFILES, WELL_KNOWN
from casarray.core.survey import CANDIDATES, Found, Interface, Offer, Wanted, conclude, write_config

NAMES = tuple(service.name for service in CANDIDATES)


def offer(server: str, up: str, rpc: int = 0, ab: int = 0) -> Offer:
    """A server on which these services answer."""
    found = tuple(Found(name, name in up.split(), "") for name in NAMES)
    interfaces = tuple(Interface(i, port) for i, port in ((EMSMDB, rpc), (NSPI, ab)) if port)
    return Offer(server, ip_address("10.12.0.21"), found, interfaces)


@pytest.mark.parametrize(
    ("up", "rpc", "profile"),
    [
        ("epm https healthcheck", 5001, "exchange-2010"),
        ("epm", 0, "msrpc"),
        ("epm https", 0, "msrpc"),
        ("https healthcheck smtp", 0, "exchange-2013"),
        ("epm https healthcheck", 0, "exchange-2013"),
        ("http https", 0, "web"),
        ("imap imaps pop3 pop3s smtp submission", 0, "mail"),
        ("imap http", 0, ""),
        ("", 0, "exchange-2010"),
    ],
)
def test_what_answers_decides_the_profile(up: str, rpc: int, profile: str) -> None:
    assert conclude([offer("a", up, rpc), offer("b", up, rpc)]).profile == profile


def test_a_given_profile_is_kept() -> None:
    assert conclude([offer("a", "http https")], "mail").profile == "mail"


def test_a_server_that_is_off_does_not_change_the_profile_and_is_named() -> None:
    conclusion = conclude([offer("a", "epm https", 5001), offer("b", "")])
    assert conclusion.profile == "exchange-2010"
    assert conclusion.remarks[0] == "b (10.12.0.21) answers on no port that was tried"


def test_what_some_server_lacks_is_not_offered() -> None:
    conclusion = conclude([offer("a", "epm https", 5001), offer("b", "epm", 5001)])
    assert conclusion.without == ("https",)


def test_what_all_have_beyond_the_profile_is_suggested() -> None:
    assert conclude([offer("a", "epm imaps http"), offer("b", "epm imaps")]).also == ("imaps",)


def test_a_port_that_all_servers_agree_on_is_taken_over() -> None:
    conclusion = conclude([offer("a", "epm", 59531, 5000), offer("b", "epm", 59531, 5000)])
    assert conclusion.ports == {"rpc": 59531}


def test_dynamic_ports_are_left_to_the_mapper() -> None:
    conclusion = conclude([offer("a", "epm", 6005, 5000), offer("b", "epm", 6006, 5000)])
    assert conclusion.ports == {}
    assert "rpc has a port of its own on each server (6005, 6006)" in conclusion.remarks[-1]


UPS = st.lists(st.sampled_from(NAMES), unique=True).map(" ".join)
PORTS = st.sampled_from([0, 5000, 5001, 6005, 59531])
OFFERS = st.lists(st.builds(offer, st.just("cas1"), UPS, PORTS, PORTS), max_size=3)


@given(OFFERS, st.sampled_from([None, *PROFILES]))
def test_whatever_is_seen_the_file_is_right_and_says_what_was_concluded(
    offers: list[Offer], profile: str | None
) -> None:
    conclusion = conclude(offers, profile)
    if not conclusion.profile and not conclusion.services:
        return
    if conclusion.profile and set(conclusion.without) >= {s.name for s in PROFILES[conclusion.profile].services}:
        return  # nothing of a profile that somebody insisted on is there; that the file is refused says so
    address = ip_address("10.12.0.21")
    wanted = Wanted("gw1", "CAS", "cas.d.e", "P", (ip_address("10.0.0.1"),), (("cas1", (address,)),))
    config = load_config(write_config(wanted, conclusion))
    assert config.arrays[0].profile == conclusion.profile
    assert set(conclusion.services) <= {service.name for service in config.arrays[0].services}
    assert all(name in WELL_KNOWN for name in conclusion.also)
