"""The way of a client, hop by hop, with nothing that runs."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.autodiscover.request import Request
from casarray.core.autodiscover.response import (
    RedirectAddress,
    RedirectUrl,
    Refusal,
    Response,
    Settings,
    User,
    write_response,
)
from casarray.core.autodiscover.walk import Came, Found, LookUp, Problem, Visit, Walked, candidates, walk

ALICE = Request("alice@domain.tld")
BARE, AUTO, PLAIN = candidates("domain.tld")
SETTINGS = Settings(User("Alice", "/o=O/cn=alice", "alice@domain.tld"))
NOBODY = Came(problem=Problem.CONNECT, detail="cannot be reached")


def says(response: Response) -> Came:
    return Came(200, body=write_response(response))


def walked(
    answers: Mapping[str, Came | Found], request: Request = ALICE, *urls: str, only: bool = False
) -> tuple[Walked, list[Visit | LookUp]]:
    """The whole way through a world in which these URLs answer, and nobody else."""
    way, asked = walk(request, urls, only=only), []
    step = next(way)
    while True:
        asked.append(step)
        unknown: Came | Found = Found() if isinstance(step, LookUp) else NOBODY
        try:
            step = way.send(answers.get(step.name if isinstance(step, LookUp) else step.url, unknown))
        except StopIteration as end:
            return end.value, asked


def places(asked: list[Visit | LookUp]) -> list[str]:
    return [f"SRV {step.name}" if isinstance(step, LookUp) else f"{step.method} {step.url}" for step in asked]


def test_where_nobody_answers_all_places_are_tried_in_the_order_of_the_specification() -> None:
    found, asked = walked({})
    assert found.response is None
    assert places(asked) == [f"POST {BARE}", f"POST {AUTO}", f"GET {PLAIN}", "SRV _autodiscover._tcp.domain.tld"]
    assert len(found.hops) == 4
    assert not any(hop.ok for hop in found.hops)


def test_the_first_settings_end_the_way() -> None:
    found, asked = walked({AUTO: says(SETTINGS)})
    assert (found.settings, found.url) == (SETTINGS, AUTO)
    assert places(asked) == [f"POST {BARE}", f"POST {AUTO}"]


def test_a_given_url_goes_before_and_may_stand_alone() -> None:
    url = "https://cas.domain.tld/autodiscover/autodiscover.xml"
    assert places(walked({}, ALICE, url)[1])[:2] == [f"POST {url}", f"POST {BARE}"]
    assert places(walked({}, ALICE, url, only=True)[1]) == [f"POST {url}"]


def test_over_plain_http_nothing_is_said_and_only_a_redirect_is_taken() -> None:
    found, asked = walked({PLAIN: Came(302, "https://mail.other.tld/autodiscover/autodiscover.xml")})
    plain, there = asked[2], asked[3]
    assert isinstance(plain, Visit)
    assert isinstance(there, Visit)
    assert (plain.method, plain.body) == ("GET", b"")
    assert (there.method, there.url, there.trusted) == (
        "POST",
        "https://mail.other.tld/autodiscover/autodiscover.xml",
        False,
    )
    found, asked = walked({PLAIN: says(SETTINGS)})
    assert found.response is None
    assert found.hops[2].words == "answers 200 where only a redirect is expected"


@pytest.mark.parametrize("goal", ["http://domain.tld/x", "ftp://x/", "", "https://[::1", "//x\x00/"])
def test_a_redirect_that_is_not_https_is_not_followed(goal: str) -> None:
    found, asked = walked({BARE: Came(302, goal)}, ALICE, BARE, only=True)
    assert len(asked) == 1
    assert "has to lead to an https:// URL" in found.hops[0].words


def test_the_host_of_a_redirect_within_the_domain_may_get_the_password() -> None:
    goal = "https://cas.domain.tld/autodiscover/autodiscover.xml"
    _, asked = walked({BARE: says(RedirectUrl(goal)), goal: says(SETTINGS)})
    assert isinstance(asked[1], Visit)
    assert (asked[1].url, asked[1].trusted) == (goal, True)


def test_an_address_leads_to_the_places_of_its_own_domain() -> None:
    there = candidates("other.tld")[0]
    found, asked = walked({BARE: says(RedirectAddress("bob@other.tld")), there: says(SETTINGS)})
    assert found.settings == SETTINGS
    assert found.address == "bob@other.tld"
    assert isinstance(asked[-1], Visit)
    assert b"bob@other.tld" in asked[-1].body


def test_circles_end_the_way() -> None:
    url, address = RedirectUrl(AUTO), RedirectAddress("alice@domain.tld")
    for answers in ({BARE: says(url), AUTO: says(RedirectUrl(BARE))}, {BARE: says(address)}, {BARE: Came(301, BARE)}):
        found, _ = walked(answers)
        assert found.response is None
        assert any("in a circle" in hop.words for hop in found.hops)


def test_more_than_ten_redirects_are_not_followed() -> None:
    chain = {f"https://h{n}.domain.tld/": says(RedirectUrl(f"https://h{n + 1}.domain.tld/")) for n in range(20)}
    found, asked = walked(chain, ALICE, "https://h0.domain.tld/", only=True)
    assert len(asked) == 11
    assert found.hops[-1].words.endswith("too many redirects")


def test_an_error_is_the_answer_where_nobody_has_a_better_one() -> None:
    refusal = Refusal(500, "The email address can't be found.")
    found, asked = walked({BARE: says(refusal)})
    assert (found.response, found.url) == (refusal, BARE)
    assert len(asked) == 4
    assert walked({BARE: says(refusal), AUTO: says(SETTINGS)})[0].settings == SETTINGS


def test_the_srv_record_is_the_last_place() -> None:
    there = "https://mail.domain.tld:8443/autodiscover/autodiscover.xml"
    found, _ = walked({"_autodiscover._tcp.domain.tld": Found((("mail.domain.tld", 8443),)), there: says(SETTINGS)})
    assert found.url == there


def test_each_hop_is_told_as_it_is_over() -> None:
    heard: list[str] = []
    way = walk(ALICE, tell=lambda hop: heard.append(hop.words))
    next(way)
    way.send(NOBODY)
    assert heard == ["cannot be reached"]


def test_whoever_wants_a_logon_is_named_with_what_was_tried() -> None:
    found, _ = walked({BARE: Came(401, scheme="Basic", offered=("Negotiate", "Basic"))})
    assert found.hops[0].words == "wants a logon (401, offering Negotiate, Basic); Basic was refused"


came = st.builds(
    Came,
    st.sampled_from([200, 301, 302, 401, 404, 500, 0]),
    st.sampled_from(["", BARE, AUTO, PLAIN, "x", "https://x.tld/"]) | st.text(max_size=20),
    st.sampled_from(
        [b"", write_response(SETTINGS), write_response(RedirectUrl(AUTO)), write_response(Refusal(500, "x"))]
    )
    | st.binary(max_size=60),
    st.none() | st.sampled_from(Problem),
)


@given(
    st.lists(came, min_size=1, max_size=40),
    st.lists(st.tuples(st.text(max_size=10), st.integers(0, 70000)), max_size=3),
)
def test_whatever_comes_the_way_ends(answers: list[Came], targets: list[tuple[str, int]]) -> None:
    way = walk(ALICE)
    step: Visit | LookUp | None = next(way)
    for number in range(60):
        try:
            step = way.send(Found(tuple(targets)) if isinstance(step, LookUp) else answers[number % len(answers)])
        except StopIteration:
            return
    pytest.fail("it goes on for ever")
