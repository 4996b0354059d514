"""What a refusal means, beside all else that is known."""

from pathlib import Path
from string import Formatter

import pytest

from casarray.core.kerberos.keys import Held, HeldGeneration
from casarray.core.kerberos.knocks import Heard, Outcome
from casarray.core.kerberos.principal import parse
from casarray.core.kerberos.proof import Evidence, Trouble, asked_as, cannot_be_a_name, no_ticket, skew_of, trouble_of
from casarray.core.kerberos.proof_words import WORDS
from casarray.core.kerberos.tickets import Ticket

NAME = "http/mail.lab.example"
TICKET = Ticket("LAB.EXAMPLE", ("HTTP", "mail.lab.example"), 18, 5)
PLACES = {
    "name", "fqdn", "array", "account", "server", "service", "detail", "owners", "realm", "version", "enctype", "held",
    "skew", "most", "principal",
}  # fmt: skip


def held(*checks: str, name: str = NAME) -> Held:
    return Held("asa$", "LAB.EXAMPLE", (name,), (HeldGeneration(5, False, checks),))


RIGHT = held("aes256 5 * 0123456789abcdef")


@pytest.mark.parametrize(
    ("code", "evidence", "trouble"),
    [
        (None, Evidence(TICKET), Trouble.REFUSED),
        (None, Evidence(TICKET, elsewhere=Trouble.WRONG_KEY), Trouble.WRONG_KEY),
        (None, Evidence(TICKET, RIGHT, agent=True), Trouble.REFUSED),
        (None, Evidence(TICKET, held("aes256 4 * 0"), agent=True), Trouble.STALE),
        (None, Evidence(TICKET, held("aes128 5 * 0"), agent=True), Trouble.STALE),
        (None, Evidence(TICKET, None, agent=True, account="asa$"), Trouble.STALE),
        (41, Evidence(TICKET, held("aes256 5 * 0", name="imap/x"), agent=True), Trouble.NAME_NOT_HELD),
        (None, Evidence(TICKET, RIGHT, agent=True, skew=-900), Trouble.CLOCK),
        (37, Evidence(TICKET, RIGHT, agent=True), Trouble.CLOCK),
        (33, Evidence(TICKET), Trouble.CLOCK),
        (41, Evidence(TICKET, RIGHT, agent=True), Trouble.WRONG_KEY),
        (41, Evidence(TICKET, owners=("other",), account="asa$"), Trouble.OTHER_ACCOUNT),
        (41, Evidence(TICKET, owners=("ASA",), account="asa$"), Trouble.WRONG_KEY),
        (44, Evidence(TICKET), Trouble.STALE),
        (34, Evidence(TICKET), Trouble.REPLAY),
    ],
)
def test_a_refusal_is_explained_by_all_that_is_known(code: int | None, evidence: Evidence, trouble: Trouble) -> None:
    assert trouble_of(Heard(Outcome.REFUSED, code=code), evidence) is trouble


def test_who_took_the_ticket_has_no_trouble_with_it() -> None:
    assert trouble_of(Heard(Outcome.ACCEPTED), Evidence(TICKET, held(), agent=True)) is None
    assert trouble_of(Heard(Outcome.ACCEPTED, let_in=False), Evidence(TICKET)) is Trouble.NOT_LET_IN


def test_what_the_kdc_says_has_a_name() -> None:
    wanted = {7: Trouble.MISSING_NAME, 8: Trouble.DUPLICATE_NAME, 14: Trouble.NO_COMMON_TYPE, 37: Trouble.KDC_CLOCK,
              156: Trouble.KDC_UNREACHABLE, 195: Trouble.NO_TICKET_OF_OURS, 60: Trouble.KDC_REFUSES}  # fmt: skip
    assert {code: no_ticket(code, "").trouble for code in wanted} == wanted


def test_an_address_is_no_name_and_the_web_is_asked_for_in_capital_letters() -> None:
    assert cannot_be_a_name(parse("http/10.0.0.1"))
    assert not cannot_be_a_name(parse(NAME))
    assert (asked_as(parse(NAME)), asked_as(parse("imap/x.y"))) == ("HTTP/mail.lab.example", "imap/x.y")


def test_the_skew_is_what_the_server_told_last() -> None:
    assert skew_of(Heard(Outcome.REFUSED, server_time=1900.0), Evidence(TICKET, skew=3.0), 100.0) == 1800.0
    assert skew_of(Heard(Outcome.REFUSED), Evidence(TICKET, skew=3.0), 100.0) == 3.0


@pytest.mark.parametrize("trouble", Trouble)
def test_every_trouble_has_words_and_stands_in_the_manual(trouble: Trouble) -> None:
    words = WORDS[trouble]
    for text in (words.says, words.sees, words.next):
        assert {place for _, place, _, _ in Formatter().parse(text) if place} <= PLACES
    page = Path(__file__).parents[3] / "docs/operate/kerberos-test.md"
    assert f"`{trouble}`" in page.read_text()
