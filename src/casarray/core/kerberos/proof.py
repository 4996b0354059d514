"""Whether Kerberos works under the arrays' names: what was found out, and what an administrator should do.

Two kinds of things are found out: what the KDC says when asked for a ticket for a name (`Got`, or `NoTicket`), and what
each member says when shown that ticket (`Heard`). A member that refuses rarely says why. So a refusal is looked at
beside all else that is known: the ticket's key version and type, what the member's agent holds, its clock, who has the
name in the directory. `trouble_of` puts it together; the words are in `proof_words`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from casarray.core.kerberos.encryption import Enctype, name_of
from casarray.core.kerberos.keys import Held
from casarray.core.kerberos.knocks import Heard, Outcome
from casarray.core.kerberos.principal import Spn
from casarray.core.kerberos.tickets import Ticket

SKEW = 300.0  # seconds that clocks may differ; what every implementation has unless told otherwise
_VERSIONS = 0x10000  # the upper half names a read-only domain controller, [MS-KILE] 3.1.5.8


class Trouble(StrEnum):
    """What can be wrong. The codes never change."""

    # ... with us
    NO_TICKET_OF_OURS = "no-ticket-of-ours"
    KDC_UNREACHABLE = "kdc-unreachable"
    KDC_CLOCK = "kdc-clock"
    # ... with the name
    NOT_A_NAME = "not-a-name"  # an IP address
    MISSING_NAME = "missing-name"
    DUPLICATE_NAME = "duplicate-name"
    OTHER_REALM = "other-realm"
    OTHER_ACCOUNT = "other-account"
    ACCOUNT_OFF = "account-off"
    NO_COMMON_TYPE = "no-common-type"
    KDC_REFUSES = "kdc-refuses"
    # ... with a member
    UNREACHABLE = "unreachable"
    STALE = "stale"
    NAME_NOT_HELD = "name-not-held"
    WRONG_KEY = "wrong-key"
    CLOCK = "clock"
    REPLAY = "replay"
    NOT_OFFERED = "not-offered"
    NTLM = "ntlm"
    OPEN = "open"
    NOT_PROVEN = "not-proven"
    REFUSED = "refused"
    # ... what works all the same
    RC4 = "rc4"
    NOT_LET_IN = "not-let-in"
    NOT_ASKED = "not-asked"


WARNINGS = frozenset({Trouble.RC4, Trouble.NOT_LET_IN, Trouble.NOT_ASKED})
#: Troubles of ours: they say nothing of any member.
OURS = frozenset({Trouble.NO_TICKET_OF_OURS, Trouble.KDC_UNREACHABLE, Trouble.KDC_CLOCK})

#: Numbers of RFC 4120 7.5.9, and libkrb5's own beyond 127.
_OF_KDC = {
    2: Trouble.ACCOUNT_OFF,  # KDC_ERR_SERVICE_EXP
    6: Trouble.NO_TICKET_OF_OURS,  # KDC_ERR_C_PRINCIPAL_UNKNOWN
    7: Trouble.MISSING_NAME,  # KDC_ERR_S_PRINCIPAL_UNKNOWN
    8: Trouble.DUPLICATE_NAME,  # KDC_ERR_PRINCIPAL_NOT_UNIQUE
    14: Trouble.NO_COMMON_TYPE,  # KDC_ERR_ETYPE_NOSUPP
    18: Trouble.NO_TICKET_OF_OURS,  # KDC_ERR_CLIENT_REVOKED
    19: Trouble.ACCOUNT_OFF,  # KDC_ERR_SERVICE_REVOKED
    23: Trouble.NO_TICKET_OF_OURS,  # KDC_ERR_KEY_EXPIRED
    24: Trouble.NO_TICKET_OF_OURS,  # KDC_ERR_PREAUTH_FAILED
    27: Trouble.ACCOUNT_OFF,  # KDC_ERR_MUST_USE_USER2USER: the account may have no tickets made for it
    32: Trouble.NO_TICKET_OF_OURS,  # KRB_AP_ERR_TKT_EXPIRED: our ticket-granting ticket
    37: Trouble.KDC_CLOCK,
    68: Trouble.OTHER_REALM,  # KDC_ERR_WRONG_REALM
    141: Trouble.NO_TICKET_OF_OURS,  # KRB5_CC_NOTFOUND
    148: Trouble.KDC_CLOCK,  # KRB5_KDCREP_SKEW
    150: Trouble.NO_COMMON_TYPE,
    154: Trouble.KDC_UNREACHABLE,  # KRB5_REALM_UNKNOWN: no KDC of it is known
    156: Trouble.KDC_UNREACHABLE,
    181: Trouble.NO_TICKET_OF_OURS,  # KRB5_KT_NOTFOUND: in our own keytab
    194: Trouble.NO_TICKET_OF_OURS,  # KRB5_FCC_PERM
    195: Trouble.NO_TICKET_OF_OURS,  # KRB5_FCC_NOFILE
    199: Trouble.NO_TICKET_OF_OURS,  # KRB5_CC_FORMAT
    220: Trouble.KDC_UNREACHABLE,
}
_OF_MEMBER = {
    31: Trouble.WRONG_KEY,  # KRB_AP_ERR_BAD_INTEGRITY
    32: Trouble.CLOCK,  # KRB_AP_ERR_TKT_EXPIRED
    33: Trouble.CLOCK,  # KRB_AP_ERR_TKT_NYV
    34: Trouble.REPLAY,
    35: Trouble.NAME_NOT_HELD,  # KRB_AP_ERR_NOT_US
    37: Trouble.CLOCK,
    41: Trouble.WRONG_KEY,  # KRB_AP_ERR_MODIFIED
    44: Trouble.STALE,  # KRB_AP_ERR_BADKEYVER
    45: Trouble.STALE,  # KRB_AP_ERR_NOKEY
}
_OF_OUTCOME = {
    Outcome.REFUSED: Trouble.REFUSED,
    Outcome.NOT_OFFERED: Trouble.NOT_OFFERED,
    Outcome.NTLM: Trouble.NTLM,
    Outcome.OPEN: Trouble.OPEN,
    Outcome.NOT_PROVEN: Trouble.NOT_PROVEN,
    Outcome.UNREACHABLE: Trouble.UNREACHABLE,
}


@dataclass(frozen=True, slots=True)
class Got:
    """A ticket for a name."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class NoTicket:
    """None, and why not."""

    trouble: Trouble
    detail: str = ""  # what the library says


def no_ticket(code: int, detail: str) -> NoTicket:
    """By the number of a KDC's error, or of libkrb5's."""
    return NoTicket(_OF_KDC.get(code, Trouble.KDC_REFUSES), detail)


def cannot_be_a_name(name: Spn) -> bool:
    """Whether its host is an IP address, which no KDC knows."""
    try:
        ip_address(name.host)
    except ValueError:
        return False
    return True


def asked_as(name: Spn) -> str:
    """How clients ask for it: for web servers in capital letters (RFC 4559 4.1), which a realm of MIT minds."""
    return str(Spn("HTTP" if name.service == "http" else name.service, name.host, name.port, name.name))


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known beside what a member said."""

    ticket: Ticket
    held: Held | None = None  # None: its agent was not asked, or holds nothing of the account
    agent: bool = False  # whether its agent answered
    skew: float | None = None  # seconds that its clock is ahead of ours, by its agent
    owners: Sequence[str] = ()  # the accounts that have the name; empty: nobody looked
    account: str = ""  # whose the name should be
    elsewhere: Trouble | None = None  # why another service of the same member refuses such a ticket, as it says itself


def holds(held: Held, ticket: Ticket) -> bool:
    """Whether a member's keys would read the ticket: its agent says key version and type."""
    wanted = (_word(ticket.enctype), ticket.version)
    found = {(word, number) for generation in held.generations for word, number in map(_check, generation.checks)}
    return wanted in found or (ticket.version is None and wanted[0] in {word for word, _ in found})


def holds_name(held: Held, ticket: Ticket) -> bool:
    """Whether its keytab has the ticket's name."""
    return ticket.name.casefold() in {name.casefold() for name in held.names}


def _check(text: str) -> tuple[str, int]:
    """Type and version of ``aes256 3 * 0123456789abcdef``."""
    word, _, rest = text.partition(" ")
    number = rest.partition(" ")[0]
    return word, int(number) % _VERSIONS if number.isascii() and number.isdigit() else -1


def _word(enctype: int) -> str:
    return Enctype(enctype).word if enctype in set(Enctype) else name_of(enctype)


def trouble_of(heard: Heard, evidence: Evidence) -> Trouble | None:
    """What is wrong with a member; None if it took the ticket. Gravest and surest first."""
    if heard.outcome is Outcome.ACCEPTED:
        return None if heard.let_in else Trouble.NOT_LET_IN
    found = _OF_OUTCOME[heard.outcome]
    if found is not Trouble.REFUSED:
        return found
    if evidence.owners and not any(_same(one, evidence.account) for one in evidence.owners):
        return Trouble.OTHER_ACCOUNT
    said = _OF_MEMBER.get(heard.code or 0)
    guessed = _guess(evidence)
    if said in (Trouble.WRONG_KEY, Trouble.NAME_NOT_HELD, None) and guessed is not None:
        return guessed
    return said or evidence.elsewhere or Trouble.REFUSED


def _guess(evidence: Evidence) -> Trouble | None:
    """What the member's agent tells, when the service says nothing, or only that it could not decrypt."""
    if evidence.held is not None and not holds(evidence.held, evidence.ticket):
        return Trouble.STALE
    if evidence.agent and evidence.held is None and evidence.account:
        return Trouble.STALE
    if evidence.held is not None and not holds_name(evidence.held, evidence.ticket):
        return Trouble.NAME_NOT_HELD
    if evidence.skew is not None and abs(evidence.skew) > SKEW:
        return Trouble.CLOCK
    return None


def _same(one: str, other: str) -> bool:
    return one.casefold().removesuffix("$") == other.casefold().removesuffix("$")


def says_itself(heard: Heard) -> Trouble | None:
    """What a member gave as its reason, good for its other services too."""
    return _OF_MEMBER.get(heard.code or 0) if heard.outcome is Outcome.REFUSED else None


def skew_of(heard: Heard, evidence: Evidence, now: float) -> float | None:
    """Seconds that the member's clock is ahead of ours, as far as anybody told."""
    return heard.server_time - now if heard.server_time is not None else evidence.skew
