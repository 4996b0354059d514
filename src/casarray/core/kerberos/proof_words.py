"""The words of the proof: for each trouble what is so, what users see of it, and what to do next."""

from collections.abc import Mapping
from dataclasses import dataclass

from casarray.core.kerberos.proof import Trouble


@dataclass(frozen=True, slots=True)
class Words:
    """Three sentences, with places for names in braces."""

    says: str
    sees: str
    next: str


_PROMPT = "their program asks for a password, or falls back to NTLM without a word; Kerberos-only clients fail"
_SOMETIMES = (
    "those who reach this member are asked for a password or fall back to NTLM; on the other members all is well"
)
_NOTHING = "nothing"

WORDS: Mapping[Trouble, Words] = {
    Trouble.NO_TICKET_OF_OURS: Words(
        "there is no ticket of our own to ask with ({detail})",
        "nothing: nobody was tested",
        "kinit as any user of the realm, or set principal and keytab, or ccache, under [kerberos]",
    ),
    Trouble.KDC_UNREACHABLE: Words(
        "no KDC answers ({detail})",
        "who has tickets works on until they run out; who logs on anew cannot",
        "look at the domain controllers, at the SRV records _kerberos._tcp of the domain, or at [realms] in krb5.conf",
    ),
    Trouble.KDC_CLOCK: Words(
        "the clock of this machine and the KDC's differ too much ({detail})",
        "nothing, if it is this machine's clock that is wrong",
        "set this machine's clock by the time service (timedatectl, chronyc tracking), then test again",
    ),
    Trouble.NOT_A_NAME: Words(
        "{name} names an IP address, and Kerberos knows names only",
        "clients that are configured with the address use NTLM, or fail",
        "give clients the array's name, {fqdn}",
    ),
    Trouble.MISSING_NAME: Words(
        "the KDC knows no {name} (S_PRINCIPAL_UNKNOWN)",
        _PROMPT,
        "casarray spn plan, then casarray spn apply; if it was added just now, wait until it has replicated",
    ),
    Trouble.DUPLICATE_NAME: Words(
        "more than one account has {name} (PRINCIPAL_NOT_UNIQUE): {owners}",
        _PROMPT,
        "casarray spn audit names the accounts; take it from all but {account} with casarray spn apply --move",
    ),
    Trouble.OTHER_REALM: Words(
        "the ticket for {name} is of the realm {realm}, not of the account's ({detail})",
        _PROMPT,
        "look who has the name there, and at [domain_realm] in krb5.conf of this machine",
    ),
    Trouble.OTHER_ACCOUNT: Words(
        "{name} belongs to {owners}, not to {account}: the ticket is for a key that {server} does not have",
        _PROMPT,
        "casarray spn apply --move gives the name to {account}",
    ),
    Trouble.ACCOUNT_OFF: Words(
        "the KDC makes no tickets for the account that has {name} ({detail})",
        _PROMPT,
        "casarray account show {account} says whether it is disabled, locked or expired: enable it",
    ),
    Trouble.NO_COMMON_TYPE: Words(
        "the KDC has no key of {name} of a type that may be used (ETYPE_NOSUPP)",
        _PROMPT,
        "casarray account encryption {account} --encryption aes, then casarray account roll {account}",
    ),
    Trouble.KDC_REFUSES: Words(
        "the KDC makes no ticket for {name}: {detail}",
        _PROMPT,
        "look into the KDC's log (Windows: event log System, source Kerberos-Key-Distribution-Center)",
    ),
    Trouble.UNREACHABLE: Words(
        "{server} cannot be asked by {service}: it {detail}",
        "nothing, if health has taken it out of rotation",
        "start the service, or see casarray status",
    ),
    Trouble.STALE: Words(
        "{server} does not have the key of the ticket (version {version}, {enctype}); it has {held}",
        _SOMETIMES,
        "with casarray agent there: casarray account roll {account} --server {server} --copy-from another member; "
        "without: put a keytab there that has version {version}",
    ),
    Trouble.NAME_NOT_HELD: Words(
        "the keytab of {server} has no {name}",
        _SOMETIMES,
        "casarray spn apply tells the members' agents the names; without an agent, put a keytab there that has it",
    ),
    Trouble.WRONG_KEY: Words(
        "{server} has a key of version {version}, and it does not decrypt the ticket (KRB_AP_ERR_MODIFIED): it was "
        "made of another password, or with another salt",
        _SOMETIMES,
        "casarray account roll {account} makes keys with the salt that the KDC tells; a keytab made by hand needs the "
        "account's salt (ktpass and ktutil guess it)",
    ),
    Trouble.CLOCK: Words(
        "the clock of {server} is wrong{skew}; {most} minutes are allowed",
        _SOMETIMES,
        "set the clock of {server} by the time service, then test again",
    ),
    Trouble.REPLAY: Words(
        "{server} says that it has seen this ticket's proof before (KRB_AP_ERR_REPEAT)",
        "logons fail now and then",
        "look whether something repeats requests on the way; clean up the replay cache of {server}",
    ),
    Trouble.NOT_OFFERED: Words(
        "{service} of {server} does not offer Kerberos ({detail})",
        "they are asked for a password",
        "turn on Negotiate (web) or GSSAPI (mail, RPC) there, or name another place with --path",
    ),
    Trouble.NTLM: Words(
        "{service} of {server} wants NTLM ({detail})",
        "nothing: they log on by NTLM and nobody notices; Kerberos-only clients fail",
        "turn on Negotiate beside NTLM there (web: Negotiate before NTLM among the providers)",
    ),
    Trouble.OPEN: Words(
        "{service} of {server} answers whoever comes ({detail}), so it proves nothing",
        _NOTHING,
        "name a place that wants a logon with --path, like --path /ews/exchange.asmx",
    ),
    Trouble.NOT_PROVEN: Words(
        "{server} lets us in and does not prove that it read the ticket ({detail})",
        "nothing, unless their programs insist on it",
        "look what answers on {service} of {server}: it may be a proxy before it",
    ),
    Trouble.REFUSED: Words(
        "{server} refuses the ticket and does not say why ({detail})",
        _SOMETIMES,
        "look into the log of {service} on {server}; with casarray agent there, this test can tell more",
    ),
    Trouble.RC4: Words(
        "the ticket for {name} is encrypted with RC4",
        "nothing today; once RC4 is switched off, the name stops working",
        "casarray account encryption {account} --encryption aes, then casarray account roll {account}",
    ),
    Trouble.NOT_LET_IN: Words(
        "{server} read the ticket, and does not let {principal} in ({detail})",
        "nothing, as long as they have the right themselves",
        "to test the whole way, test as somebody who may use {service}",
    ),
    Trouble.NOT_ASKED: Words(
        "no service of {array} that could be asked takes tickets for {name}",
        _NOTHING,
        "a service with a port and a probe like http, imap or rpc is asked; see casarray array show {array}",
    ),
}
