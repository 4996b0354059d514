"""Whom a client is told, rule by rule."""

from dataclasses import replace
from uuid import UUID

import pytest
from tests.core.directory.example import ORGANISATION

from casarray.core.autodiscover.decide import (
    VERSIONS,
    Decision,
    Rules,
    decide,
    published_name,
    server_version,
)
from casarray.core.autodiscover.request import Request
from casarray.core.autodiscover.response import (
    EXCH,
    EXPR,
    MAPI_HTTP,
    WEB,
    OwaUrl,
    Protocol,
    RedirectAddress,
    RedirectUrl,
    Refusal,
    Settings,
    Side,
    read_response,
    write_response,
)
from casarray.core.directory.legacy_dn import of_account
from casarray.core.directory.model import Account, Array, Database, Directory, Server

ALICE = Request("alice@domain.tld")
CAS, BER = ORGANISATION.arrays["cas"], ORGANISATION.arrays["ber"]
GROUP = "/o=Contoso/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)"
SERVERS = f"{GROUP}/cn=Configuration/cn=Servers/cn="
GUID = "416c6368-656d-794a-6f45-57615272456e"


def with_settings(array: Array, **settings: object) -> Directory:
    return ORGANISATION.put(replace(array, settings=dict(array.settings) | settings))


PUBLISHED = with_settings(CAS, published=["mail.domain.tld"])
MODERN = with_settings(CAS, published=["mail.domain.tld"], profile="exchange-2013").put(
    replace(ORGANISATION.accounts["alice"], guid=GUID)
)


def told(directory: Directory, request: Request = ALICE, rules: Rules | None = None) -> Settings:
    decision = decide(directory, request, rules or Rules())
    assert isinstance(decision.response, Settings), decision
    assert read_response(write_response(decision.response)) == decision.response
    return decision.response


def kinds(settings: Settings) -> list[str]:
    return [protocol.kind for protocol in settings.protocols]


def section(settings: Settings, kind: str) -> Protocol:
    found = settings.protocol(kind)
    assert found is not None
    return found


def refused(decision: Decision) -> int:
    assert isinstance(decision.response, Refusal)
    return decision.response.code


# Exchange 2010: EXCH, EXPR, WEB.


def test_inside_the_array_is_told_and_its_name_ends_every_dn() -> None:
    exch = section(told(PUBLISHED), EXCH)
    assert exch.server == "cas.domain.tld"
    assert exch.server_dn == f"{SERVERS}cas.domain.tld"
    assert exch.mdb_dn == f"{SERVERS}cas.domain.tld/cn=Microsoft Private MDB"
    assert exch.server_version == VERSIONS["exchange-2010"]
    assert exch.ews_url == exch.as_url == "https://mail.domain.tld/EWS/Exchange.asmx"


def test_outside_the_published_name_is_told_and_the_certificate_is_its() -> None:
    decision = decide(PUBLISHED, ALICE, Rules())
    assert decision.notes == ()
    settings = told(PUBLISHED)
    assert kinds(settings) == [EXCH, EXPR, WEB]
    expr = section(settings, EXPR)
    assert (expr.server, expr.ssl, expr.cert_principal_name) == ("mail.domain.tld", "On", "msstd:mail.domain.tld")
    assert (expr.auth_package, expr.server_dn) == ("Ntlm", "")


def test_the_browser_is_told_both_sides() -> None:
    owa, ews = OwaUrl("https://mail.domain.tld/owa/", "Basic, Fba"), "https://mail.domain.tld/EWS/Exchange.asmx"
    web = section(told(PUBLISHED), WEB)
    assert (web.internal, web.external) == (Side((owa,), EXCH, ews), Side((owa,), EXPR, ews))


@pytest.mark.parametrize("published", [[], ["cas.domain.tld"], ["CAS.Domain.TLD"]])
def test_without_a_published_name_of_its_own_nothing_is_told_of_outside(published: list[str]) -> None:
    directory = with_settings(CAS, published=published)
    settings, decision = told(directory), decide(directory, ALICE, Rules())
    assert kinds(settings) == [EXCH, WEB]
    web = section(settings, WEB)
    assert web.external is None
    assert web.internal is not None
    assert web.internal.owa[0].url == "https://cas.domain.tld/owa/"
    assert decision.notes == (
        "clients of the array CAS are not told of RPC over HTTP: it has no published name that differs from "
        "cas.domain.tld; set one (casarray array set CAS --published NAME)",
    )


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        (["cas.domain.tld", "mail.domain.tld", "web.domain.tld"], "mail.domain.tld"),
        (["autodiscover.domain.tld", "mail.domain.tld"], "mail.domain.tld"),
        (["autodiscover.domain.tld"], "autodiscover.domain.tld"),
    ],
)
def test_of_several_published_names_the_first_that_fits_is_told(published: list[str], expected: str) -> None:
    assert published_name(replace(CAS, settings={"published": published})) == expected


def test_the_name_of_no_array_is_ever_told_outside() -> None:
    for array in (CAS, BER):
        directory = with_settings(array, published=[array.fqdn, "mail.domain.tld"])
        for protocol in told(directory).protocols:
            assert protocol.kind != EXPR or protocol.server != array.fqdn


def test_what_the_caller_sets_is_told() -> None:
    settings = told(PUBLISHED, rules=Rules(anywhere_authentication="Negotiate", owa_authentication="Fba"))
    web = section(settings, WEB)
    assert web.internal is not None
    assert (section(settings, EXPR).auth_package, web.internal.owa[0].authentication) == ("Negotiate", "Fba")


def test_the_version_packs_as_the_specification_says() -> None:
    # The examples of ServerVersion: 14.1.218, 15.0.516.
    assert server_version(14, 1, 218) == "738180DA"
    assert server_version(15, 0, 516) == "73C08204"


# The user.


def test_the_user_is_named_in_every_way() -> None:
    user = told(PUBLISHED).user
    assert (user.display_name, user.address) == ("Alice", "alice@domain.tld")
    assert user.legacy_dn == f"{GROUP}/cn=Recipients/cn=alice"
    assert UUID(user.deployment_id)


def test_without_a_display_name_the_account_s_own_serves() -> None:
    nameless = PUBLISHED.put(replace(PUBLISHED.accounts["alice"], display_name=""))
    assert told(nameless).user.display_name == "alice"


def test_the_deployment_is_the_organisation_s_alone_unless_it_is_given() -> None:
    first = told(PUBLISHED).user.deployment_id
    assert told(ORGANISATION).user.deployment_id == first
    assert told(replace(PUBLISHED, organization="Other")).user.deployment_id != first
    assert told(PUBLISHED, rules=Rules(deployment_id=GUID)).user.deployment_id == GUID


def test_capital_letters_of_an_address_do_not_matter() -> None:
    assert told(PUBLISHED, Request("ALICE@Domain.TLD")) == told(PUBLISHED)


def test_a_legacy_dn_finds_the_same_account() -> None:
    name = of_account(PUBLISHED, PUBLISHED.accounts["alice"])
    assert told(PUBLISHED, Request(legacy_dn=name.upper())) == told(PUBLISHED)


@pytest.mark.parametrize(
    "request_",
    [
        Request("bob@domain.tld"),
        Request("alice"),
        Request(legacy_dn=f"{GROUP}/cn=Recipients/cn=bob"),
        Request(legacy_dn="/o=Other/ou=Group/cn=Recipients/cn=alice"),
        Request(legacy_dn=f"{SERVERS}alice"),
        Request("bob@domain.tld", f"{GROUP}/cn=Recipients/cn=alice"),  # the address goes before
        Request(),
    ],
)
def test_whom_nobody_knows_is_500(request_: Request) -> None:
    assert refused(decide(PUBLISHED, request_, Rules())) == 500


def test_an_account_without_an_address_is_not_found_by_none() -> None:
    directory = PUBLISHED.put(Account("carol", "DB1"))
    assert refused(decide(directory, Request(), Rules())) == 500
    assert refused(decide(directory, Request(""), Rules(redirects={"": RedirectUrl("https://x/")}))) == 500


def test_an_account_without_a_mailbox_has_no_options() -> None:
    decision = decide(PUBLISHED.put(Account("bob", "", "bob@domain.tld")), Request("bob@domain.tld"), Rules())
    assert refused(decision) == 501
    assert "bob" in decision.notes[0]


# What contradicts itself.


@pytest.mark.parametrize(
    ("directory", "word"),
    [
        (PUBLISHED.put(Account("alice", "DB9", "alice@domain.tld")), "DB9"),
        (PUBLISHED.put(Account("alias", "DB1", "Alice@domain.tld")), "alice, alias"),
        (PUBLISHED.without(CAS, BER), "cas.domain.tld, which is neither an array nor a server"),
        (with_settings(CAS, profile="mail"), "profile mail"),
        (with_settings(CAS, profile="exchange-2013"), "GUID"),
    ],
)
def test_what_is_misconfigured_is_602_and_the_log_says_what(directory: Directory, word: str) -> None:
    decision = decide(directory, ALICE, Rules())
    assert refused(decision) == 602
    assert len(decision.notes) == 1
    assert word in decision.notes[0]
    assert "domain.tld" not in str(decision.response)  # a client is told nothing of the inside


def test_an_array_with_services_of_its_own_alone_has_no_profile() -> None:
    bare = ORGANISATION.put(replace(CAS, settings={"service": [{"name": "https", "port": 443}]}))
    assert "the profile none" in decide(bare, ALICE, Rules()).notes[0]


def test_an_array_that_names_no_profile_has_the_usual_one() -> None:
    bare = MODERN.put(replace(CAS, settings={"published": ["mail.domain.tld"]}))
    assert section(told(bare), EXCH).server_version == VERSIONS["exchange-2010"]
    assert section(told(bare, rules=Rules("exchange-2013")), EXCH).server_version == VERSIONS["exchange-2013"]


def named(directory: Directory, fqdn: str) -> Directory:
    return directory.put(replace(directory.databases["db1"], rpc_client_access_server=fqdn))


def test_a_database_that_names_a_single_server_is_obeyed_and_noted() -> None:
    directory = named(PUBLISHED, "cas1.domain.tld")
    exch = section(told(directory), EXCH)
    assert (exch.server, exch.server_dn) == ("cas1.domain.tld", f"{SERVERS}cas1")  # a server's DN has its short name
    assert kinds(told(directory)) == [EXCH, EXPR, WEB]
    assert "not the array cas.domain.tld" in decide(directory, ALICE, Rules()).notes[0]


def test_without_an_array_in_the_site_the_server_is_told_and_nothing_else() -> None:
    ulm = replace(ORGANISATION.databases["db2"], name="DB3", active_server="ulm1", copies=())
    ulm = replace(ulm, rpc_client_access_server="ulm2.domain.tld")
    directory = ORGANISATION.put(ulm, Account("alice", "DB3", "alice@domain.tld"))
    assert [(p.kind, p.server) for p in told(directory).protocols] == [(EXCH, "ulm2.domain.tld")]
    assert "has no array" in decide(directory, ALICE, Rules()).notes[0]


# Across sites.


def switched_over(directory: Directory, *, across: bool = False) -> Directory:
    """DB1 is active in Berlin now."""
    group = replace(directory.groups["dag1"], allow_cross_site_rpc_client_access=across)
    return directory.put(replace(directory.databases["db1"], active_server="ber1"), group)


def test_after_a_switchover_the_other_site_s_array_is_told_in_every_field() -> None:
    directory = switched_over(PUBLISHED).put(replace(BER, settings={"published": ["mail.berlin.domain.tld"]}))
    settings = told(directory)
    exch = section(settings, EXCH)
    assert exch.server == BER.fqdn
    assert (exch.server_dn, exch.mdb_dn) == (f"{SERVERS}{BER.fqdn}", f"{SERVERS}{BER.fqdn}/cn=Microsoft Private MDB")
    assert section(settings, EXPR).server == "mail.berlin.domain.tld"
    assert b"cas.domain.tld" not in write_response(settings)


def test_where_access_across_sites_is_allowed_the_preferred_copy_s_array_stays() -> None:
    assert section(told(switched_over(PUBLISHED, across=True)), EXCH).server == "cas.domain.tld"


def test_a_site_without_an_array_changes_nothing() -> None:
    moved: Database = replace(PUBLISHED.databases["db1"], active_server="leer1")
    assert section(told(PUBLISHED.put(moved)), EXCH).server == "cas.domain.tld"


# Exchange 2013 and later.


def test_since_2013_the_mailbox_names_its_server() -> None:
    settings = told(MODERN)
    exch = section(settings, EXCH)
    assert kinds(settings) == [EXCH, EXPR, WEB]
    assert exch.server == f"{GUID}@domain.tld"
    assert exch.mdb_dn == f"{SERVERS}{GUID}@domain.tld/cn=Microsoft Private MDB"


def test_who_can_speak_mapi_over_http_is_told_that_instead() -> None:
    settings = told(MODERN, replace(ALICE, mapi_http=True))
    assert kinds(settings) == [MAPI_HTTP, WEB]
    mapi = section(settings, MAPI_HTTP)
    url = f"https://mail.domain.tld/mapi/{{}}/?MailboxId={GUID}@domain.tld"
    assert mapi.mail_store == (url.format("emsmdb"),) * 2
    assert mapi.address_book == (url.format("nspi"),) * 2


def test_without_a_published_name_mapi_over_http_is_told_inside_alone() -> None:
    directory = MODERN.put(replace(CAS, settings={"profile": "exchange-2013"}))
    mapi = section(told(directory, replace(ALICE, mapi_http=True)), MAPI_HTTP)
    assert mapi.mail_store == (f"https://cas.domain.tld/mapi/emsmdb/?MailboxId={GUID}@domain.tld", "")


def test_2010_has_no_mapi_over_http_whoever_asks() -> None:
    assert told(PUBLISHED, replace(ALICE, mapi_http=True)) == told(PUBLISHED)


def test_the_mailbox_s_own_guid_goes_before_the_account_s() -> None:
    other = "00000000-0000-4000-8000-000000000001"
    assert section(told(MODERN, rules=Rules(mailbox_guids={"alice": other})), EXCH).server == f"{other}@domain.tld"


# Redirects.


@pytest.mark.parametrize("redirect", [RedirectAddress("alice@new.tld"), RedirectUrl("https://new.tld/autodiscover/")])
def test_an_address_that_has_moved_is_sent_on(redirect: RedirectAddress | RedirectUrl) -> None:
    rules = Rules(redirects={"alice@domain.tld": redirect, "gone@domain.tld": redirect})
    for request in (
        Request("Alice@Domain.tld"),
        Request(legacy_dn=f"{GROUP}/cn=Recipients/cn=alice"),
        Request("gone@domain.tld"),  # its account may not exist here any more
    ):
        assert decide(PUBLISHED, request, rules) == Decision(redirect)
    assert refused(decide(PUBLISHED, Request("bob@domain.tld"), rules)) == 500


def test_a_redirect_of_an_address_to_itself_is_a_mistake_and_no_circle() -> None:
    decision = decide(PUBLISHED, ALICE, Rules(redirects={"alice@domain.tld": RedirectAddress("Alice@domain.tld")}))
    assert refused(decision) == 602
    assert "redirected to itself" in decision.notes[0]


def test_a_server_is_never_told_where_an_array_answers() -> None:
    directory = PUBLISHED.put(Server("cas", "cas.other.tld", "Paderborn"))
    assert section(told(directory), EXCH).server_dn == f"{SERVERS}cas.domain.tld"
