"""What a step of the walk came to, and the words for everything that can be wrong with it.

The codes of `Trouble` never change. Each has three sentences: what is so, what users see of it, and what to do next.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """As Exchange's own test says it."""

    SUCCESS = "Success"
    WARNING = "Warning"  # works all the same, or works for some
    FAILURE = "Failure"  # clients stop here


class Scenario(StrEnum):
    """The steps of the way, in its order."""

    DIRECTORY = "Directory"  # what the directory would tell
    INSIDE = "Name resolution (inside)"
    OUTSIDE = "Name resolution (outside)"
    AUTODISCOVER = "Autodiscover"
    CERTIFICATE = "Certificate"
    PROXY = "RPC proxy"
    MAPPER = "Endpoint mapper"
    REFERRAL = "RFR"
    BOOK = "NSPI"
    CONNECT = "EMSMDB connect"
    LOGON = "EMSMDB logon"
    AFFINITY = "Affinity"
    COMPARISON = "Comparison"


class Trouble(StrEnum):
    """What can be wrong. The codes never change."""

    # ... with names
    NAME_UNKNOWN = "name-unknown"
    DNS_SILENT = "dns-silent"
    NAME_ELSEWHERE = "name-elsewhere"
    ALIAS = "alias"
    PUBLIC_NAME = "public-name"
    PUBLIC_UNREACHABLE = "public-name-unreachable"
    # ... with what clients are told
    NO_AUTODISCOVER = "no-autodiscover"
    AUTODISCOVER_REFUSES = "autodiscover-refuses"
    NOT_ONLY_HTTP = "no-exch"
    TOLD_ANOTHER = "told-another-name"
    DEAD_SERVER = "database-names-dead-server"
    SAME_NAME = "published-is-array"
    CERTIFICATE_PRINCIPAL = "certificate-principal"
    # ... with a server
    MAPPER_DOWN = "mapper-down"
    NOT_REGISTERED = "not-registered"
    TOWER_ADDRESS = "tower-address"
    HALF_DEAD = "half-dead"
    PROXY_DOWN = "proxy-down"
    NO_PROXY = "no-proxy"
    RFR_NAME = "rfr-name"
    REFUSED = "refused"
    NOT_IN_BOOK = "not-in-address-book"
    WRONG_SERVER = "wrong-server"
    AFFINITY = "affinity"
    DIFFERS = "differs"
    # ... with the logon
    NTLM = "ntlm"
    NO_KERBEROS = "no-kerberos"
    CLOCK = "clock"
    LOGON_DENIED = "logon-denied"


#: What works all the same, at least for most.
WARNINGS = frozenset(
    {
        Trouble.NAME_ELSEWHERE,
        Trouble.ALIAS,
        Trouble.PUBLIC_NAME,
        Trouble.SAME_NAME,
        Trouble.TOWER_ADDRESS,
        Trouble.NTLM,
        Trouble.DIFFERS,
    }
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the walk."""

    server: str  # the array or the member that is tested
    endpoint: str  # whom it asks: ``cas.domain.tld:135``, a name, an address
    scenario: Scenario
    result: Result
    latency_ms: float = 0.0
    mechanism: str = ""  # by which the logon was really taken: Kerberos, NTLM; empty without one
    text: str = ""
    trouble: Trouble | None = None
    sees: str = ""  # what users see of the trouble
    next: str = ""  # what to do


@dataclass(frozen=True, slots=True)
class Words:
    """Three sentences, with places for names in braces."""

    says: str
    sees: str
    next: str


_FALLS_BACK = "Outlook waits until its attempt is over, then tries HTTP, if it was told of it, at every start"
_NO_MAIL = "Outlook says that the server is not available"
_SOME = "those who are led to this member cannot open their mailbox; on the other members all is well"

WORDS: Mapping[Trouble, Words] = {
    Trouble.NAME_UNKNOWN: Words(
        "nobody knows the name {name} ({detail})",
        _NO_MAIL,
        "add an A record for {name} with the array's address to the DNS of the inside",
    ),
    Trouble.DNS_SILENT: Words(
        "the name server does not say whether there is a {name} ({detail})",
        "whatever Outlook's own resolver says",
        "name one that answers from here: /etc/resolv.conf for the inside, --outside-dns for the outside",
    ),
    Trouble.NAME_ELSEWHERE: Words(
        "{name} leads to {addresses}, and the array has {own}",
        "they go past the array, or to nobody",
        "correct the A record of {name}, or the array's addresses (casarray array set)",
    ),
    Trouble.ALIAS: Words(
        "{name} is an alias (CNAME) of {alias}",
        "clients may ask for tickets for {alias} instead of {name}, and fall back to NTLM",
        "make {name} an A record",
    ),
    Trouble.PUBLIC_NAME: Words(
        "{name} can be resolved outside too ({addresses}): outside, Outlook tries it before HTTP",
        _FALLS_BACK,
        "take {name} out of the public DNS; only the published name belongs there",
    ),
    Trouble.PUBLIC_UNREACHABLE: Words(
        "{name} can be resolved outside ({addresses}) and does not answer there: {detail}",
        _FALLS_BACK,
        "take {name} out of the public DNS; only the published name belongs there",
    ),
    Trouble.NO_AUTODISCOVER: Words(
        "nobody tells the settings of {name}: {detail}",
        "a new profile cannot be made, and an old one keeps what it knows",
        "start the Autodiscover service, and see that autodiscover.DOMAIN leads to it (casarray autodiscover check)",
    ),
    Trouble.AUTODISCOVER_REFUSES: Words(
        "Autodiscover has no settings for {name}: {detail}",
        "no profile can be made for this user",
        "look whether the address is right and its account has a mailbox",
    ),
    Trouble.NOT_ONLY_HTTP: Words(
        "Autodiscover tells {name} of no server to reach over TCP (no EXCH section)",
        "Outlook goes by HTTP alone",
        "test with --protocol http, or give the array a profile that has RPC",
    ),
    Trouble.TOLD_ANOTHER: Words(
        "clients are told {told}, not the array's name {name}",
        "their profiles name {told}: they do not use the array, and lose their mailbox with that server",
        "Set-MailboxDatabase {database} -RpcClientAccessServer {name}, then let profiles be repaired",
    ),
    Trouble.DEAD_SERVER: Words(
        "clients of {database} are told {told}, and {detail}",
        _NO_MAIL,
        "Set-MailboxDatabase {database} -RpcClientAccessServer {name}",
    ),
    Trouble.SAME_NAME: Words(
        "the name for the outside (EXPR) is that of the array, {told}",
        _FALLS_BACK,
        "publish another name than the array's: casarray array set NAME --published mail.domain.tld",
    ),
    Trouble.CERTIFICATE_PRINCIPAL: Words(
        "Autodiscover tells clients to expect a certificate for {told}, and {endpoint} {detail}",
        "Outlook Anywhere asks for the password again and again, or does not connect at all",
        "give {endpoint} a certificate for {told}, or tell clients its own name, {name}: both are the published name",
    ),
    Trouble.MAPPER_DOWN: Words(
        "the endpoint mapper {detail}",
        _NO_MAIL,
        "start the server or the gateway; see casarray status, and whether a firewall stands before port 135",
    ),
    Trouble.NOT_REGISTERED: Words(
        "the endpoint mapper answers and does not know {service}: {detail}",
        _SOME,
        "start the service that offers {service} on {server} (MSExchangeRPC for EMSMDB, MSExchangeAB for NSPI and RFR)",
    ),
    Trouble.TOWER_ADDRESS: Words(
        "the endpoint mapper at {address} answers with the address {told}",
        "Outlook ignores it; a firewall that inspects RPC drops the answer",
        "let the gateway answer on 135 (casarray run), or a balancer that rewrites it",
    ),
    Trouble.HALF_DEAD: Words(
        "the endpoint mapper says that {service} is on {port}, and that port {detail}",
        _SOME,
        "restart the service that offers {service} on {server}; until then casarray server out {server}",
    ),
    Trouble.PROXY_DOWN: Words(
        "the RPC proxy {detail}",
        "Outlook Anywhere does not connect",
        "start the proxy, and see whether a firewall stands before port 443",
    ),
    Trouble.NO_PROXY: Words(
        "nothing says by way of which RPC proxy clients reach {server}",
        "Outlook Anywhere is not configured in their profiles",
        "name one (--proxy), or publish a name: casarray array set {server} --published mail.domain.tld",
    ),
    Trouble.RFR_NAME: Words(
        "RFR names {told} as the address book's server, not {name}",
        "they open the address book at {told}, past the array, and lose it with that server",
        "look at RpcClientAccessServer of the user's database, and restart MSExchangeAB on {server}",
    ),
    Trouble.REFUSED: Words(
        "{service} {detail}",
        _NO_MAIL,
        "look into the log of the service on {server}",
    ),
    Trouble.NOT_IN_BOOK: Words(
        "the address book does not know {name} ({detail})",
        "the name cannot be resolved when a profile is made",
        "look whether the mailbox is hidden from address lists; a new one takes until the directory has replicated",
    ),
    Trouble.WRONG_SERVER: Words(
        "the mailbox is not opened here: the server says that {told} is the right one (ecWrongServer)",
        "Outlook rewrites its profile and asks to be started again",
        "look at RpcClientAccessServer of the database, and in which site it is active (Get-MailboxDatabase)",
    ),
    Trouble.AFFINITY: Words(
        "connections of one client reached different servers: {detail}",
        "Outlook disconnects now and then, shows old or no folders, asks for the password",
        "keep each client on one server across 135, the address book's and the mailbox's port: casarray does, per-port "
        "balancing does not",
    ),
    Trouble.DIFFERS: Words(
        "{server} differs from the other members: {detail}",
        _SOME,
        "casarray server out {server} until it is mended",
    ),
    Trouble.NTLM: Words(
        "the logon was taken by NTLM, not by Kerberos ({detail})",
        "nothing, until the domain controllers cannot keep up with NTLM; Kerberos-only clients fail",
        "casarray test kerberos says what is wrong; casarray spn plan shows the names that are missing",
    ),
    Trouble.NO_KERBEROS: Words(
        "the logon by Kerberos to {spn} fails: {detail}",
        "they fall back to NTLM, or are asked for a password",
        "casarray test kerberos says what is wrong",
    ),
    Trouble.CLOCK: Words(
        "a clock is wrong: {detail}",
        "they are asked for a password, which does not help, or fall back to NTLM",
        "set the clocks of this machine, of {server} and of the domain controllers by the time service; 5 minutes are "
        "allowed",
    ),
    Trouble.LOGON_DENIED: Words(
        "{service} refuses the logon: {detail}",
        "they are asked for a password again and again",
        "kinit, or give a password; look whether user and password are right, and whether the account may use RPC",
    ),
}


def troubled(step: Step, trouble: Trouble, **facts: object) -> Step:
    """The step with that trouble, in words. ``facts`` fill the places; ``server`` and ``endpoint`` are known."""
    words = WORDS[trouble]
    places = {"server": step.server, "endpoint": step.endpoint, **facts}
    result = Result.WARNING if trouble in WARNINGS else Result.FAILURE
    said = (sentence.format_map(places) for sentence in (words.says, words.sees, words.next))
    text, sees, next_ = said
    return Step(
        step.server,
        step.endpoint,
        step.scenario,
        result,
        step.latency_ms,
        step.mechanism,
        text,
        trouble,
        sees,
        next_,
    )
