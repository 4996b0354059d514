"""What clients are told, as it travels and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.autodiscover.response import (
    EXCH,
    EXPR,
    LONGEST,
    MAPI_HTTP,
    OUTLOOK,
    RESPONSE,
    WEB,
    ErrorCode,
    OwaUrl,
    Protocol,
    RedirectAddress,
    RedirectUrl,
    Refusal,
    Response,
    Settings,
    Side,
    User,
    read_response,
    write_response,
)
from casarray.core.errors import WireError

GUID = "644560b8-a1ce-429c-8ace-23395843f701"
SERVER_DN = "/o=Contoso/ou=Group/cn=Configuration/cn=Servers/cn=cas.domain.tld"

FULL = Settings(
    User("Alice", "/o=Contoso/ou=Group/cn=Recipients/cn=alice", "alice@domain.tld", GUID),
    (
        Protocol(
            EXCH,
            server="cas.domain.tld",
            server_dn=SERVER_DN,
            server_version="7383807B",
            mdb_dn=f"{SERVER_DN}/cn=Microsoft Private MDB",
            as_url="https://mail.domain.tld/EWS/Exchange.asmx",
        ),
        Protocol(EXPR, server="mail.domain.tld", auth_package="Ntlm", cert_principal_name="msstd:mail", ssl="On"),
        Protocol(WEB, Side((OwaUrl("https://mail.domain.tld/owa/", "Basic, Fba"),), EXCH, "https://a/"), Side()),
        Protocol(MAPI_HTTP, mail_store=("https://a/mapi/emsmdb/?a=1&b=2", "https://b"), address_book=("https://c", "")),
    ),
)

#: The envelope has one namespace, what Outlook's provider says another; the order is the specification's.
WRITTEN = f"""\
<?xml version="1.0" encoding="utf-8"?>
<Autodiscover xmlns="{RESPONSE}">
  <Response xmlns="{OUTLOOK}">
    <User>
      <DisplayName>Alice</DisplayName>
      <LegacyDN>/o=Contoso/ou=Group/cn=Recipients/cn=alice</LegacyDN>
      <AutoDiscoverSMTPAddress>alice@domain.tld</AutoDiscoverSMTPAddress>
      <DeploymentId>{GUID}</DeploymentId>
    </User>
    <Account>
      <AccountType>email</AccountType>
      <Action>settings</Action>
      <Protocol>
        <Type>EXCH</Type>
        <Server>cas.domain.tld</Server>
        <ServerDN>{SERVER_DN}</ServerDN>
        <ServerVersion>7383807B</ServerVersion>
        <MdbDN>{SERVER_DN}/cn=Microsoft Private MDB</MdbDN>
        <ASUrl>https://mail.domain.tld/EWS/Exchange.asmx</ASUrl>
      </Protocol>
      <Protocol>
        <Type>EXPR</Type>
        <Server>mail.domain.tld</Server>
        <AuthPackage>Ntlm</AuthPackage>
        <CertPrincipalName>msstd:mail</CertPrincipalName>
        <SSL>On</SSL>
      </Protocol>
      <Protocol>
        <Type>WEB</Type>
        <Internal>
          <OWAUrl AuthenticationMethod="Basic, Fba">https://mail.domain.tld/owa/</OWAUrl>
          <Protocol>
            <Type>EXCH</Type>
            <ASUrl>https://a/</ASUrl>
          </Protocol>
        </Internal>
        <External />
      </Protocol>
      <Protocol Type="mapiHttp" Version="1">
        <MailStore>
          <InternalUrl>https://a/mapi/emsmdb/?a=1&amp;b=2</InternalUrl>
          <ExternalUrl>https://b</ExternalUrl>
        </MailStore>
        <AddressBook>
          <InternalUrl>https://c</InternalUrl>
        </AddressBook>
      </Protocol>
    </Account>
  </Response>
</Autodiscover>
"""


def test_settings_are_written_to_the_letter() -> None:
    assert write_response(FULL).decode() == WRITTEN
    assert read_response(WRITTEN.encode()) == FULL


def test_a_redirect_says_its_action_and_where_to() -> None:
    assert write_response(RedirectAddress("a@b.tld")).decode().splitlines()[2:-2] == [
        f'  <Response xmlns="{OUTLOOK}">',
        "    <Account>",
        "      <Action>redirectAddr</Action>",
        "      <RedirectAddr>a@b.tld</RedirectAddr>",
        "    </Account>",
    ]
    assert b"<Action>redirectUrl</Action>\n      <RedirectUrl>https://a/</RedirectUrl>" in write_response(
        RedirectUrl("https://a/")
    )


def test_an_error_has_its_time_and_number() -> None:
    refusal = Refusal(ErrorCode.INVALID_REQUEST, "Invalid Request", "", "16:56:32", "1054084152")
    assert write_response(refusal).decode().splitlines()[1:] == [
        f'<Autodiscover xmlns="{RESPONSE}">',
        "  <Response>",
        '    <Error Time="16:56:32" Id="1054084152">',
        "      <ErrorCode>600</ErrorCode>",
        "      <Message>Invalid Request</Message>",
        "      <DebugData />",
        "    </Error>",
        "  </Response>",
        "</Autodiscover>",
    ]


@pytest.mark.parametrize(
    "where", ["<Error>{}</Error>", "<Account><Action>settings</Action><Error>{}</Error></Account>"]
)
def test_errors_are_found_where_servers_put_them(where: str) -> None:
    inner = where.format("<ErrorCode>500</ErrorCode><Message>Not found</Message>")
    text = f'<Autodiscover xmlns="{RESPONSE}"><Response xmlns="{OUTLOOK}">{inner}</Response></Autodiscover>'
    assert read_response(text.encode()) == Refusal(500, "Not found")


def test_what_is_not_known_is_passed_over() -> None:
    text = WRITTEN.replace("<Server>mail", "<Port>0</Port><EcpUrl-um>?</EcpUrl-um><Server>mail")
    assert read_response(text.encode()) == FULL
    assert FULL.protocol(EXPR) is FULL.protocols[1]
    assert FULL.protocol("EXHTTP") is None


@pytest.mark.parametrize(
    "inner",
    [
        "",
        "<Account />",
        "<Account><Action>redirectAddr</Action></Account>",
        "<Account><Action>redirectUrl</Action><RedirectUrl> </RedirectUrl></Account>",
        "<Account><Action>dance</Action></Account>",
        "<Error />",
        "<Error><ErrorCode>-1</ErrorCode></Error>",
        "<Error><ErrorCode>1234567890123</ErrorCode></Error>",
    ],
)
def test_an_answer_that_says_nothing_is_none(inner: str) -> None:
    text = f'<Autodiscover xmlns="{RESPONSE}"><Response xmlns="{OUTLOOK}">{inner}</Response></Autodiscover>'
    with pytest.raises(WireError, match="malformed"):
        read_response(text.encode())


@pytest.mark.parametrize("old", [RESPONSE, OUTLOOK, "Response", "Autodiscover"])
def test_an_answer_of_another_kind_is_none(old: str) -> None:
    with pytest.raises(WireError):
        read_response(WRITTEN.replace(old, "Other").encode())


def test_an_answer_too_long_is_not_read() -> None:
    with pytest.raises(WireError, match="oversize"):
        read_response(WRITTEN.encode() + b" " * LONGEST)


words = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), max_size=30).map(lambda text: text.strip())
some = st.text("abc/:&<>\"'\r\n\t é€😀", min_size=1, max_size=12).map(lambda text: text.strip() or "x")
sides = st.builds(Side, st.lists(st.builds(OwaUrl, words, some), max_size=3).map(tuple), words, words)
pairs = st.tuples(words, words)
plain = dict.fromkeys(
    ("server", "server_dn", "server_version", "mdb_dn", "as_url", "auth_package", "ssl", "oab_url"), words
)
protocols = st.builds(
    Protocol,
    st.sampled_from([EXCH, EXPR, WEB, "EXHTTP", MAPI_HTTP]),
    st.none() | sides,
    st.none() | sides,
    mail_store=pairs,
    address_book=pairs,
    **plain,
)
responses = st.one_of(
    st.builds(Settings, st.builds(User, words, words, some, words), st.lists(protocols, max_size=4).map(tuple)),
    st.builds(RedirectAddress, some),
    st.builds(RedirectUrl, some),
    st.builds(Refusal, st.integers(0, 999), words, some, some, some),
)


@given(responses)
def test_what_is_written_is_read_again(response: Response) -> None:
    assert read_response(write_response(response)) == response
