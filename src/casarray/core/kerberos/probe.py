"""The health probe `kerberos`: a service is up when it takes a ticket for the array's name and proves that it did."""

from casarray.core.health.conversation import Answer, Steps
from casarray.core.kerberos.knocks import Heard, Knock, Outcome
from casarray.core.kerberos.proof import Evidence, Trouble, skew_of, trouble_of
from casarray.core.kerberos.tickets import Ticket

_WORDS = {
    Trouble.STALE: "does not have the key of the ticket (version {version}): its keytab is stale",
    Trouble.WRONG_KEY: "cannot decrypt the ticket (version {version}): its key is of another password or salt",
    Trouble.NAME_NOT_HELD: "has no key for {name}",
    Trouble.CLOCK: "refuses the ticket for its clock: it is {skew:+.0f} s from ours",
    Trouble.NOT_OFFERED: "does not offer Kerberos ({detail})",
    Trouble.NTLM: "wants NTLM ({detail})",
    Trouble.OPEN: "answers whoever comes ({detail}): set path to a place that wants a logon",
    Trouble.NOT_PROVEN: "does not prove that it read the ticket ({detail})",
}


def probe_steps(knock: Knock, ticket: Ticket, now: float) -> Steps:
    """The knock as a probe. ``now``: seconds since the epoch."""
    return _answer((yield from knock), ticket, now)


def _answer(heard: Heard, ticket: Ticket, now: float) -> Answer:
    if heard.outcome is Outcome.ACCEPTED:
        return Answer(True, f"takes a ticket for {ticket.name} ({heard.detail})")
    if heard.ours or heard.outcome is Outcome.UNREACHABLE:
        return Answer(False, heard.detail, ours=heard.ours)
    trouble = trouble_of(heard, Evidence(ticket)) or Trouble.REFUSED
    if trouble is Trouble.REPLAY:  # our own haste
        return Answer(False, "says that it has seen the ticket's proof before", ours=True)
    places = {
        "version": ticket.version,
        "name": ticket.name,
        "detail": heard.detail,
        "skew": skew_of(heard, Evidence(ticket), now) or 0.0,
    }
    return Answer(False, _WORDS.get(trouble, "refuses the ticket ({detail})").format_map(places))
