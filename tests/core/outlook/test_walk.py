"""The walk to the mailbox stops at the right step, with the right words."""

from string import Formatter

import pytest
from tests.core.outlook.sites import (
    ARRAY_DN,
    DN,
    NAME,
    NOBODY,
    REFUSED,
    VIP,
    Balancer,
    Server,
    Site,
    address,
    last,
    one_server,
    outcome,
    plan,
    settings,
    to_array,
)

from casarray.core.autodiscover.response import Refusal
from casarray.core.dcerpc.interfaces.emsmdb_rops import LogonRedirect, RopFailure
from casarray.core.outlook.asking import Certificate, Resolved, Way, Went
from casarray.core.outlook.journey import Mailbox
from casarray.core.outlook.verdicts import WARNINGS, WORDS, Result, Scenario, Step, Trouble, troubled
from casarray.core.outlook.walk import principal_matches

ALL_WELL = [
    ("Name resolution (inside)", "Success"),
    ("Endpoint mapper", "Success"),
    ("RFR", "Success"),
    ("NSPI", "Success"),
    ("EMSMDB connect", "Success"),
    ("EMSMDB logon", "Success"),
    ("Affinity", "Success"),
]


def test_where_all_is_well_every_step_succeeds_and_says_how_the_logon_was_taken() -> None:
    steps = one_server().walk(plan())
    assert outcome(steps) == ALL_WELL
    assert [step.mechanism for step in steps] == ["", "", "Kerberos", "Kerberos", "Kerberos", "", ""]
    assert {step.latency_ms for step in steps} == {7.0}
    assert steps[1].text == "EMSMDB on 5001, RFR on 5000, NSPI on 5000"


def test_tickets_are_asked_for_in_the_arrays_name_and_the_service_of_each_port() -> None:
    site = one_server()
    site.walk(plan())
    targets = {one.target for one in site.opened}
    assert targets == {"", f"exchangeRFR/{NAME}", f"exchangeAB/{NAME}", f"exchangeMDB/{NAME}"}
    assert all(not one.target for one in site.opened if one.port == 135)


def test_a_self_test_binds_and_logs_nobody_on() -> None:
    site = one_server()
    steps = site.walk(plan(to_array(deep=False)))
    assert outcome(steps) == [pair for pair in ALL_WELL if pair[0] != "EMSMDB logon"]
    assert {one.target for one in site.opened} == {""}


# Names.


def test_a_name_that_nobody_knows_stops_at_once() -> None:
    site = one_server()
    site.inside = {}
    assert last(site.walk(plan()))[:2] == ("Name resolution (inside)", "name-unknown")


def test_an_alias_and_an_address_that_is_not_the_arrays_are_warned_of() -> None:
    site = one_server()
    site.inside = {NAME: Resolved((VIP,), "gw1.domain.tld")}
    assert outcome(site.walk(plan()))[0] == ("Name resolution (inside)", "alias")
    site = one_server()
    site.inside = {NAME: address("10.9.9.9")}
    assert outcome(site.walk(plan()))[0] == ("Name resolution (inside)", "name-elsewhere")


def test_an_arrays_name_that_is_known_outside_and_unreachable_there_is_a_failure_of_the_outside_alone() -> None:
    site = one_server()
    site.outside = {NAME: address("192.0.2.7")}
    steps = site.walk(plan(outside=True))
    assert outcome(steps)[1] == ("Name resolution (outside)", "public-name-unreachable")
    assert outcome(steps)[2:] == ALL_WELL[1:]
    assert "192.0.2.7" in steps[1].text
    assert "public DNS" in steps[1].next


def test_an_arrays_name_that_is_known_outside_and_answers_is_warned_of() -> None:
    site = one_server()
    site.outside = {NAME: Resolved((VIP,))}
    assert outcome(site.walk(plan(outside=True)))[1] == ("Name resolution (outside)", "public-name")


def test_nobody_outside_knows_the_name_as_it_should_be_and_a_silent_name_server_is_told() -> None:
    assert outcome(one_server().walk(plan(outside=True)))[1] == ("Name resolution (outside)", "Success")
    site = one_server()
    site.outside = {NAME: Went(Way.SILENT, "no answer in 3 s")}
    assert outcome(site.walk(plan(outside=True)))[1:3] == [
        ("Name resolution (outside)", "dns-silent"),
        ("Endpoint mapper", "Success"),
    ]


# What clients are told.


def test_autodiscover_that_tells_the_array_is_a_step_like_others() -> None:
    site = one_server()
    site.told = settings()
    steps = site.walk(plan(discover=True))
    assert outcome(steps)[1:3] == [("Autodiscover", "Success"), ("Certificate", "Success")]
    assert steps[1].text == f"tells EXCH {NAME}, EXPR mail.domain.tld"


def test_without_autodiscover_old_profiles_go_on_with_what_they_know() -> None:
    steps = one_server().walk(plan(discover=True))
    assert outcome(steps)[1:3] == [("Autodiscover", "no-autodiscover"), ("Endpoint mapper", "Success")]
    assert steps[1].result is Result.FAILURE


def test_autodiscover_that_knows_no_settings_stops() -> None:
    site = one_server()
    site.told = Refusal(500, "The email address can't be found.")
    assert last(site.walk(plan(discover=True)))[:2] == ("Autodiscover", "autodiscover-refuses")


def test_a_database_that_names_a_dead_server_stops_by_what_autodiscover_tells() -> None:
    site = one_server()
    site.told = settings("old.domain.tld")
    step, trouble, text = last(site.walk(plan(discover=True, database="DB1")))
    assert (step, trouble) == ("Autodiscover", "database-names-dead-server")
    assert "DB1 are told old.domain.tld, and nobody knows that name" in text
    site = one_server()
    site.told, site.inside["old.domain.tld"] = settings("old.domain.tld"), address("10.12.0.9")
    assert "that server cannot be reached" in last(site.walk(plan(discover=True)))[2]


def test_a_database_that_names_a_dead_server_stops_by_what_the_directory_says() -> None:
    wanted = plan(told="old.domain.tld", told_known=False, database="DB1")
    assert last(one_server().walk(wanted))[:2] == ("Directory", "database-names-dead-server")


def test_a_database_that_names_a_living_server_beside_the_array_is_another_trouble() -> None:
    wanted = plan(told="cas1.domain.tld", database="DB1")
    step, trouble, text = last(one_server().walk(wanted))
    assert (step, trouble) == ("Directory", "told-another-name")
    assert "clients are told cas1.domain.tld, not the array's name" in text


def test_a_published_name_that_is_the_arrays_is_warned_of() -> None:
    site = one_server()
    site.told = settings(published=NAME)
    assert outcome(site.walk(plan(discover=True)))[1] == ("Autodiscover", "published-is-array")


def test_a_certificate_principal_that_is_not_in_the_certificate_is_a_failure_and_the_way_over_tcp_goes_on() -> None:
    site = one_server()
    site.told = settings(principal="msstd:cas.domain.tld")
    site.shown = Certificate("mail.domain.tld", ("mail.domain.tld", "autodiscover.domain.tld"))
    steps = site.walk(plan(discover=True))
    assert outcome(steps)[2:4] == [("Certificate", "certificate-principal"), ("Endpoint mapper", "Success")]
    assert "expect a certificate for cas.domain.tld" in steps[2].text
    assert "shows one for mail.domain.tld, autodiscover.domain.tld" in steps[2].text


def test_over_tcp_a_proxy_that_nobody_reaches_matters_only_where_its_principal_is_told() -> None:
    site = one_server()
    site.told, site.shown = settings(), NOBODY
    assert outcome(site.walk(plan(discover=True)))[2] == ("Endpoint mapper", "Success")
    site = one_server()
    site.told, site.shown = settings(principal="msstd:mail.domain.tld"), NOBODY
    assert outcome(site.walk(plan(discover=True)))[2] == ("Certificate", "proxy-down")


def test_over_http_a_wrong_certificate_principal_stops() -> None:
    site = one_server()
    site.told = settings(principal="msstd:cas.domain.tld")
    assert last(site.walk(plan(discover=True, http=True)))[:2] == ("Certificate", "certificate-principal")


@pytest.mark.parametrize(
    ("principal", "subject", "names", "right"),
    [
        ("msstd:mail.domain.tld", "mail.domain.tld", (), True),
        ("msstd:MAIL.domain.tld", "x", ("mail.DOMAIN.tld",), True),
        ("msstd:mail.domain.tld", "*.domain.tld", (), True),
        ("msstd:*.domain.tld", "*.domain.tld", (), True),
        ("msstd:*.domain.tld", "mail.domain.tld", (), False),
        ("msstd:a.mail.domain.tld", "*.domain.tld", (), False),
        ("msstd:mail.domain.tld", "domain.tld", (), False),
        ("msstd:mail.domain.tld", "", (), False),
    ],
)
def test_a_principal_is_compared_with_every_name(
    principal: str, subject: str, names: tuple[str, ...], right: bool
) -> None:
    assert principal_matches(principal, Certificate(subject, names)) is right


# Servers.


def test_nobody_on_135_stops_there() -> None:
    assert last(Site().walk(plan()))[:2] == ("Endpoint mapper", "mapper-down")


def test_a_member_that_is_half_dead_stops_where_its_half_is_missing() -> None:
    step, trouble, text = last(one_server(ports={"RFR": 5000, "NSPI": 5000}).walk(plan()))
    assert (step, trouble) == ("Endpoint mapper", "not-registered")
    assert "does not know EMSMDB" in text
    step, trouble, text = last(one_server(dead={5001: REFUSED}).walk(plan()))
    assert (step, trouble) == ("EMSMDB connect", "half-dead")
    assert "EMSMDB is on 5001, and that port refuses connections" in text


def test_a_tower_with_another_address_is_warned_of_and_zero_is_none() -> None:
    steps = one_server(tower="10.12.0.21").walk(plan())
    assert outcome(steps)[1] == ("Endpoint mapper", "tower-address")
    assert "at 10.11.0.100 answers with the address 10.12.0.21" in steps[1].text
    assert outcome(steps)[2:] == ALL_WELL[2:]
    assert outcome(one_server(tower=str(VIP)).walk(plan())) == ALL_WELL


def test_rfr_that_names_a_member_stops() -> None:
    step, trouble, text = last(one_server(rfr="cas1.domain.tld").walk(plan()))
    assert (step, trouble) == ("RFR", "rfr-name")
    assert text == f"RFR names cas1.domain.tld as the address book's server, not {NAME}"


def test_a_name_that_the_address_book_does_not_know_or_knows_twice_stops() -> None:
    assert last(one_server(found=(0,)).walk(plan()))[:2] == ("NSPI", "not-in-address-book")
    assert "several" in last(one_server(found=(1,)).walk(plan()))[2]


def test_a_session_that_is_refused_says_why() -> None:
    step, trouble, text = last(one_server(connect=0x970).walk(plan()))
    assert (step, trouble) == ("EMSMDB connect", "refused")
    assert "it wants calls to be encrypted" in text


def test_a_logon_that_is_sent_elsewhere_names_the_right_server() -> None:
    step, trouble, text = last(one_server(logon=LogonRedirect(ARRAY_DN.replace(NAME, "ber.domain.tld"))).walk(plan()))
    assert (step, trouble) == ("EMSMDB logon", "wrong-server")
    assert "ber.domain.tld is the right one" in text


def test_a_logon_that_fails_says_why() -> None:
    step, trouble, text = last(one_server(logon=RopFailure(0x80040111)).walk(plan()))
    assert (step, trouble) == ("EMSMDB logon", "refused")
    assert "its database may be dismounted" in text


# Logons.


def test_ntlm_under_negotiate_is_warned_of_with_the_reason() -> None:
    steps = one_server(mechanism="NTLM", why="the KDC knows no exchangeMDB/cas.domain.tld").walk(plan())
    assert [(step.mechanism, step.trouble) for step in steps[2:5]] == [("NTLM", "ntlm")] * 3
    assert "not by Kerberos (the KDC knows no exchangeMDB/cas.domain.tld)" in steps[4].text
    assert not any(step.result is Result.FAILURE for step in steps)


def test_ntlm_that_was_asked_for_is_no_trouble() -> None:
    assert outcome(one_server(mechanism="NTLM").walk(plan(to_array(logon="ntlm")))) == ALL_WELL


def test_kerberos_that_was_asked_for_and_fails_stops() -> None:
    denied = Went(Way.DENIED, "the KDC knows no exchangeRFR/cas.domain.tld")
    step, trouble, text = last(one_server(denied=denied).walk(plan(to_array(logon="kerberos"))))
    assert (step, trouble) == ("RFR", "no-kerberos")
    assert "exchangeRFR/cas.domain.tld" in text


def test_a_wrong_clock_is_a_trouble_of_its_own() -> None:
    site = one_server(denied=Went(Way.CLOCK, "the server's clock is 10 minutes ahead"))
    assert last(site.walk(plan()))[:2] == ("RFR", "clock")


def test_a_logon_that_is_denied_otherwise_says_so() -> None:
    site = one_server(denied=Went(Way.DENIED, "wrong password"))
    assert last(site.walk(plan(to_array(logon="ntlm"))))[:2] == ("RFR", "logon-denied")


def test_a_proxy_that_denies_the_logon_is_not_taken_for_the_server_behind_it() -> None:
    site = one_server(denied=Went(Way.PROXY_DENIED, "it offers Basic"))
    site.hosts = {NAME: site.hosts[str(VIP)]}
    journey = to_array(logon="kerberos")
    step, trouble, text = last(site.walk(plan(journey, http=True, proxy="mail.domain.tld")))
    assert (step, trouble) == ("RFR", "logon-denied")
    assert text == "the RPC proxy refuses the logon: it offers Basic"


# Affinity.


def two_servers(*, affinity: bool, **ports: int) -> Site:
    first, second = Server("cas1"), Server("cas2")
    second.ports |= ports
    return Site({str(VIP): Balancer([first, second], affinity)})


def test_with_affinity_two_members_are_as_one() -> None:
    assert outcome(two_servers(affinity=True, EMSMDB=6001).walk(plan())) == ALL_WELL


def test_a_balancer_without_affinity_is_found_though_every_step_succeeds() -> None:
    site = two_servers(affinity=False)
    steps = site.walk(plan())
    assert outcome(steps)[:-1] == ALL_WELL[:-1]
    step, trouble, text = last(steps)
    assert (step, trouble) == ("Affinity", "affinity")
    assert "the address book was that of" in text


def test_a_session_that_is_unknown_on_the_second_connection_is_broken_affinity() -> None:
    site = two_servers(affinity=False)
    site.hosts[str(VIP)].servers[1].name = "cas1"  # one address book, so that the mailbox alone tells
    step, trouble, text = last(site.walk(plan()))
    assert (step, trouble) == ("Affinity", "affinity")
    assert "not known on a second connection to 5001" in text


def test_dynamic_ports_of_another_member_are_broken_affinity_between_135_and_the_port() -> None:
    site = two_servers(affinity=False, EMSMDB=6007, RFR=6006, NSPI=6006)
    site.hosts[str(VIP)].turns[5000] = 0  # the second member is next on it, which does not have that port
    step, trouble, text = last(site.walk(plan()))
    assert (step, trouble) == ("RFR", "affinity")
    assert "135 said EMSMDB on 5001, RFR on 5000, NSPI on 5000, then EMSMDB on 6007" in text


def test_a_balancer_that_is_sticky_for_each_port_by_itself_is_found_by_what_members_say_of_themselves() -> None:
    """Nothing shows on the way: 135 always leads to cas1, the other ports always to cas2."""

    class PortByPort(Balancer):
        def server(self, port: int) -> Server:
            return self.servers[0 if port == 135 else 1]

    servers = Server("cas1", tower="10.12.0.21"), Server("cas2", tower="10.12.0.22")
    known = (("10.12.0.21", "cas1"), ("10.12.0.22", "cas2"))
    hosts = {address: Balancer([server]) for (address, _), server in zip(known, servers, strict=True)}
    site = Site(hosts | {str(VIP): PortByPort(servers)})
    each = tuple(to_array(server=name, host=host, own_addresses=(host,), through_array=False) for host, name in known)
    step, trouble, text = last(site.walk(plan(members=each, known=known)))
    assert (step, trouble) == ("Affinity", "affinity")
    assert "135 was answered by cas1, the address book by cas2" in text


# Members.


def members(*servers: Server) -> tuple[Site, list[Step]]:
    hosts = {f"10.12.0.{21 + i}": Balancer([server]) for i, server in enumerate(servers)}
    site = Site(hosts | {str(VIP): Balancer(servers)})
    journeys = tuple(
        to_array(server=server.name, host=host, own_addresses=(host,), through_array=False)
        for host, server in zip(hosts, servers, strict=True)
    )
    return site, site.walk(plan(members=journeys))


def test_the_member_that_differs_is_named() -> None:
    _, steps = members(Server("cas1"), Server("cas2", dead={5001: REFUSED}), Server("cas3"))
    odd = [step for step in steps if step.trouble is Trouble.DIFFERS]
    assert [step.server for step in odd] == ["cas2"]
    assert "EMSMDB is on 5001, and that port refuses connections; at cas1: opens a session" in odd[0].text


def test_of_two_members_the_one_that_fails_is_the_one_that_differs() -> None:
    _, steps = members(Server("cas1", connect=0x3EB), Server("cas2"))
    assert [step.server for step in steps if step.trouble is Trouble.DIFFERS] == ["cas1"]


def test_a_member_that_takes_ntlm_alone_differs() -> None:
    _, steps = members(Server("cas1"), Server("cas2", mechanism="NTLM"), Server("cas3"))
    assert [step.server for step in steps if step.trouble is Trouble.DIFFERS] == ["cas2"]


def test_members_that_are_alike_are_not_compared_aloud_and_are_walked_though_the_array_fails() -> None:
    site, steps = members(Server("cas1"), Server("cas2"))
    assert not [step for step in steps if step.scenario is Scenario.COMPARISON]
    del site.hosts[str(VIP)]
    site.steps.clear()
    assert {step.server for step in site.walk(plan(members=(to_array(server="cas1", host="10.12.0.21"),)))} == {
        "CAS",
        "cas1",
    }


# HTTP.


def test_over_http_the_fixed_ports_are_taken_by_way_of_the_proxy_that_clients_are_told() -> None:
    site = one_server()
    site.told, site.hosts = settings(), {NAME: site.hosts[str(VIP)]}  # a proxy is told the name
    steps = site.walk(plan(discover=True, http=True))
    assert outcome(steps)[-1] == ("Affinity", "Success")
    assert {(one.port, one.proxy) for one in site.opened} == {
        (6002, "mail.domain.tld"),
        (6004, "mail.domain.tld"),
        (6001, "mail.domain.tld"),
    }


def test_over_http_somebody_has_to_say_which_proxy() -> None:
    assert last(one_server().walk(plan(http=True, members=(to_array(),))))[:2] == ("RPC proxy", "no-proxy")


# Words.


@pytest.mark.parametrize("trouble", Trouble)
def test_every_trouble_has_words_that_can_be_said(trouble: Trouble) -> None:
    words = WORDS[trouble]
    wanted = {
        name for text in (words.says, words.sees, words.next) for _, name, _, _ in Formatter().parse(text) if name
    }
    facts = dict.fromkeys(wanted - {"server", "endpoint"}, "X")
    step = troubled(Step("CAS", "cas:135", Scenario.MAPPER, Result.SUCCESS), trouble, **facts)
    assert step.text
    assert step.sees
    assert step.next
    assert (step.result is Result.WARNING) == (trouble in WARNINGS)


def test_the_dn_of_autodiscover_is_taken_where_the_directory_knows_none() -> None:
    site = one_server()
    site.told = settings()
    site.walk(plan(to_array(mailbox=Mailbox("alice@domain.tld")), discover=True))
    assert site.hosts[str(VIP)].servers[0].asked_for == DN
