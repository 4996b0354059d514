"""What clients ask: right requests, wrong ones, and XML that means harm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.autodiscover.elements import MOST_DEPTH, MOST_ELEMENTS, read_xml
from casarray.core.autodiscover.request import LONGEST, LONGEST_NAME, REQUEST, Request, read_request, write_request
from casarray.core.autodiscover.response import OUTLOOK, ErrorCode, Refusal
from casarray.core.errors import WireError

DN = "/o=Contoso/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Recipients/cn=alice"
SCHEMA = f"<AcceptableResponseSchema>{OUTLOOK}</AcceptableResponseSchema>"
ALICE = "<EMailAddress>alice@domain.tld</EMailAddress>"


def body(inner: str, namespace: str = REQUEST, before: str = "") -> bytes:
    return f'{before}<Autodiscover xmlns="{namespace}"><Request>{inner}</Request></Autodiscover>'.encode()


RIGHT = body(ALICE + SCHEMA)


def refused(data: bytes) -> Refusal:
    answer = read_request(data)
    assert isinstance(answer, Refusal)
    return answer


def test_an_address_is_read_whatever_stands_around_it() -> None:
    assert read_request(RIGHT) == Request("alice@domain.tld")
    spaced = body(f"\r\n  <Future/><EMailAddress>\r\n alice@domain.tld </EMailAddress>\n<!-- here -->{SCHEMA}")
    assert read_request(spaced) == Request("alice@domain.tld")


def test_a_prefix_says_the_same_as_a_default_namespace() -> None:
    text = (
        f'<a:Autodiscover xmlns:a="{REQUEST}"><a:Request><a:EMailAddress>alice@domain.tld</a:EMailAddress>'
        f"<a:AcceptableResponseSchema>{OUTLOOK}</a:AcceptableResponseSchema></a:Request></a:Autodiscover>"
    )
    assert read_request(text.encode()) == Request("alice@domain.tld")


def test_an_element_of_another_namespace_is_another_element() -> None:
    foreign = '<EMailAddress xmlns="urn:other">mallory@domain.tld</EMailAddress>'
    assert read_request(body(foreign + ALICE + SCHEMA)) == Request("alice@domain.tld")
    assert refused(body(foreign + SCHEMA)).code == ErrorCode.INVALID_REQUEST


def test_a_legacy_dn_serves_as_well() -> None:
    assert read_request(body(f"<LegacyDN>{DN}</LegacyDN>{SCHEMA}")) == Request(legacy_dn=DN)


@pytest.mark.parametrize(
    ("header", "capable"),
    [
        ("", False),
        ("1", True),
        (" 2 ", True),
        ("0", False),
        ("-1", False),
        ("yes", False),
        ("²", False),
        ("9" * 99, False),
    ],
)
def test_the_header_asks_for_mapi_over_http(header: str, capable: bool) -> None:
    assert read_request(RIGHT, header) == Request("alice@domain.tld", mapi_http=capable)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "us-ascii"])
def test_encodings_that_xml_readers_know(encoding: str) -> None:
    name = encoding.removesuffix("-sig")
    text = body(ALICE + SCHEMA, before=f'<?xml version="1.0" encoding="{name}"?>').decode()
    assert read_request(text.encode(encoding)) == Request("alice@domain.tld")


@pytest.mark.parametrize(
    "encoding", ["utf-7", "unicode_escape", "rot13", "hex", "shift_jis", "no-such-thing", "x" * 999]
)
def test_other_encodings_are_refused(encoding: str) -> None:
    assert refused(body(ALICE + SCHEMA, before=f'<?xml version="1.0" encoding="{encoding}"?>')).code == 600


def test_octets_that_are_not_of_their_encoding_are_refused() -> None:
    assert refused(RIGHT.replace(b"alice", b"al\xffce")).code == ErrorCode.INVALID_REQUEST
    assert refused(b'<?xml version="1.0" encoding="utf-16"?>' + RIGHT).code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<",
        b"GET / HTTP/1.1\r\n\r\n",
        RIGHT[:-1],
        RIGHT + RIGHT,
        RIGHT.replace(b"<Request>", b"<Requests>").replace(b"</Request>", b"</Requests>"),
        RIGHT.replace(b"Autodiscover", b"Discover"),
        body(ALICE),
        body(SCHEMA),
        body(f"<EMailAddress> </EMailAddress>{SCHEMA}"),
        body(ALICE + ALICE + SCHEMA),
        body(f"<EMailAddress>{'a' * LONGEST_NAME}b</EMailAddress>{SCHEMA}"),
        body(f"<LegacyDN>{'a' * LONGEST_NAME}b</LegacyDN>{SCHEMA}"),
        body(ALICE + SCHEMA, "urn:other"),
    ],
)
def test_a_wrong_request_is_600(data: bytes) -> None:
    answer = refused(data)
    assert (answer.code, answer.message) == (600, "Invalid Request")
    assert answer.debug


def test_who_wants_another_answer_is_told_that_there_is_no_provider() -> None:
    device = "http://schemas.microsoft.com/exchange/autodiscover/mobilesync/"
    asked = body(
        f"{ALICE}<AcceptableResponseSchema>{device}responseschema/2006</AcceptableResponseSchema>",
        f"{device}requestschema/2006",
    )
    assert refused(asked).code == 601


LAUGHS = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))


@pytest.mark.parametrize(
    "doctype",
    [
        f'<!DOCTYPE a [<!ENTITY a0 "ha">{LAUGHS}]>',
        '<!DOCTYPE a [<!ENTITY a9 SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">',
        '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p"> %p;]>',
        f'<!DOCTYPE a [<!ENTITY a9 "{"x" * 20000}">]>',
        "<!DOCTYPE a>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_declaration_is_refused(doctype: str, encoding: str) -> None:
    entity = "&a9;" * 100 if "a9" in doctype else "alice@domain.tld"
    data = body(f"<EMailAddress>{entity}</EMailAddress>{SCHEMA}", before=doctype).decode().encode(encoding)
    answer = refused(data)
    assert answer.code == 600
    assert "document type" in answer.debug


def test_an_entity_that_nobody_declared_is_refused() -> None:
    assert refused(body(f"<EMailAddress>&alice;</EMailAddress>{SCHEMA}")).code == 600


def test_elements_inside_each_other_without_end_are_refused() -> None:
    deep = b"<a>" * MOST_DEPTH + b"</a>" * MOST_DEPTH
    assert read_xml(deep, LONGEST).name == "a"
    with pytest.raises(WireError, match="oversize"):
        read_xml(b"<a>" + deep + b"</a>", LONGEST)
    assert refused(b"<a>" * (LONGEST // 3)).code == 600


def test_elements_without_number_are_refused() -> None:
    wide = b"<a>" + b"<b/>" * (MOST_ELEMENTS - 1) + b"</a>"
    assert len(read_xml(wide, LONGEST).children) == MOST_ELEMENTS - 1
    with pytest.raises(WireError, match="oversize"):
        read_xml(wide.replace(b"</a>", b"<b/></a>"), LONGEST)


def test_a_long_namespace_is_not_copied_into_every_element() -> None:
    assert "namespace" in refused(body("<a/>" * 1000, "u" * 30000)).debug


def test_64_kib_are_read_and_no_octet_more() -> None:
    padding = b" " * (LONGEST - len(RIGHT))
    assert read_request(RIGHT + padding) == Request("alice@domain.tld")
    assert "oversize" in refused(RIGHT + padding + b" ").debug


texts = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), min_size=1, max_size=200).map(
    lambda text: text.strip(" \t\r\n")
)


@given(address=texts, dn=texts, mapi_http=st.booleans())
def test_what_is_written_is_read_again(address: str, dn: str, mapi_http: bool) -> None:
    request = Request(address or "a", dn, mapi_http)
    assert read_request(write_request(request), "1" if mapi_http else "") == request


def test_what_xml_cannot_hold_is_written_as_a_replacement() -> None:
    assert read_request(write_request(Request("a\0\x1b\ufffe\ud800b"))) == Request("a\ufffd\ufffd\ufffd\ufffdb")
