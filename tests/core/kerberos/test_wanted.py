"""Which names an array needs."""

from collections.abc import Mapping

import pytest

from casarray.core.config import KerberosSettings
from casarray.core.directory.model import Array
from casarray.core.errors import Conflict
from casarray.core.kerberos.principal import parse
from casarray.core.kerberos.shares import Share
from casarray.core.kerberos.wanted import could_be_ours, hosts_of, wanted_names

MAIL, AUTODISCOVER = "mail.domain.tld", "autodiscover.domain.tld"
PLAIN = KerberosSettings()
SHORT = KerberosSettings(short_names=True)


def share(*settings: Mapping[str, object]) -> Share:
    """One array for each: CAS, CAS1 ..."""
    arrays = [
        Array(f"CAS{n or ''}", f"cas{n or ''}.domain.tld", f"Site{n}", settings=one) for n, one in enumerate(settings)
    ]
    return Share("asa$", tuple(arrays), ())


def names(*settings: Mapping[str, object], short: bool = False, profile: str = "exchange-2010") -> list[str]:
    return [str(one.name) for one in wanted_names(share(*settings), SHORT if short else PLAIN, profile)]


EXCHANGE = ["exchangeMDB/cas.domain.tld", "exchangeRFR/cas.domain.tld", "exchangeAB/cas.domain.tld"]


def test_exchange_2010_has_its_three_classes_on_the_own_name_and_http_on_what_is_published() -> None:
    published = {"profile": "exchange-2010", "published": [MAIL, AUTODISCOVER]}
    assert names(published) == [*EXCHANGE, f"http/{MAIL}", f"http/{AUTODISCOVER}"]


def test_an_array_without_published_names_has_its_web_services_under_its_own() -> None:
    assert names({"profile": "exchange-2010"}) == [*EXCHANGE, "http/cas.domain.tld"]


def test_the_short_name_comes_only_when_it_is_wanted() -> None:
    found = names({"published": [MAIL]}, short=True)
    assert [name for name in found if name.endswith("/cas")] == ["exchangeMDB/cas", "exchangeRFR/cas", "exchangeAB/cas"]
    assert f"http/{MAIL}" in found
    assert "http/mail" not in found


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"profile": "exchange-2013"}, {"http"}),
        ({"profile": "web"}, {"http"}),
        ({"profile": "mail"}, {"imap", "pop", "smtp"}),
        ({"profile": "mail", "without": ["pop3", "pop3s"]}, {"imap", "smtp"}),
        ({"profile": "msrpc"}, {"host"}),
        ({"profile": "exchange-2010", "without": ["https"]}, {"exchangeMDB", "exchangeRFR", "exchangeAB"}),
        ({"profile": "exchange-2010", "without": ["ab"]}, {"exchangeMDB", "http"}),
        ({"profile": "exchange-2013", "service": [{"name": "imap"}]}, {"http", "imap"}),
        ({"profile": "msrpc", "service": [{"name": "submission"}, {"name": "pop3"}]}, {"host", "smtp", "pop"}),
        ({"service": [{"name": "https"}]}, {"http"}),
        ({"service": [{"name": "app", "port": 8081}]}, set()),
    ],
)
def test_classes_follow_from_what_is_offered(settings: Mapping[str, object], wanted: set[str]) -> None:
    assert {name.partition("/")[0] for name in names(settings)} == wanted


def test_mail_and_web_are_under_the_own_and_the_published_names() -> None:
    assert names({"profile": "mail", "published": [MAIL]})[:2] == ["imap/cas.domain.tld", f"imap/{MAIL}"]
    assert names({"profile": "exchange-2013", "published": [MAIL]}) == ["http/cas.domain.tld", f"http/{MAIL}"]


def test_arrays_that_say_nothing_have_the_usual_profile() -> None:
    assert names({}, profile="web") == ["http/cas.domain.tld"]


def test_a_name_that_two_arrays_publish_is_wanted_once() -> None:
    found = names({"published": [MAIL]}, {"published": [MAIL.upper()]})
    assert [name for name in found if "mail" in name.lower()] == [f"http/{MAIL}"]


def test_each_says_why_it_is_there() -> None:
    reasons = [one.reason for one in wanted_names(share({"published": [MAIL]}), SHORT, "exchange-2010")]
    assert reasons[:2] == ["RPC client access on the own name of CAS", "RPC client access on the short name of CAS"]
    assert reasons[-1] == "web services on a published name of CAS"


@pytest.mark.parametrize("settings", [{"published": ["mail domain.tld"]}, {"profile": "nonsense"}])
def test_settings_that_cannot_be_right_are_refused(settings: Mapping[str, object]) -> None:
    with pytest.raises(Conflict, match="CAS"):
        names(settings)


def test_what_could_be_ours_are_all_classes_on_all_names_of_the_arrays() -> None:
    ours = could_be_ours(share({"published": [MAIL]}))
    assert {parse(text) for text in (*EXCHANGE, f"http/{MAIL}", f"imap/{MAIL}", "host/cas", "http/cas")} <= ours
    assert parse(f"exchangeMDB/{MAIL}") not in ours
    assert parse("http/other.domain.tld") not in ours
    assert hosts_of(share({"published": [MAIL]})) == ("cas.domain.tld", MAIL)
