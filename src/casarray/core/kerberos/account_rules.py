"""Whether an account can be the shared one: what is refused, and what an administrator should know of it.

Each finding is one sentence with the reason and the next step. Some are refused whatever is said, some unless it is
forced, and some only where an account is to become the shared one: for one that is already, they are warnings, because
rolling its password is what mends them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from casarray.core.kerberos.account import Account, AccountKind
from casarray.core.kerberos.encryption import AES, Enctype, bits_of
from casarray.core.kerberos.principal import is_spn, parse

AGED_DAYS = 90  # what scripts that clear away unused accounts usually take
SOON_DAYS = 30
_DAY = 86400.0
LAST = 253_402_300_799.0  # of the year 9999: Active Directory can count further than a calendar


class Grade(Enum):
    """How grave it is."""

    NEVER = "never"  # refused, forced or not
    REFUSED = "refused"  # unless it is forced
    NOT_NEW = "not-new"  # refused for an account that is to become the shared one, unless forced; else a warning
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with an account."""

    code: str  # never changes
    grade: Grade
    text: str

    def is_refusal(self, *, force: bool, adopting: bool) -> bool:
        """Whether it keeps the account from being used."""
        if self.grade is Grade.NEVER:
            return True
        return not force and (self.grade is Grade.REFUSED or (adopting and self.grade is Grade.NOT_NEW))


def findings(account: Account, now: float) -> tuple[Finding, ...]:
    """All that is wrong with it, gravest first. ``now``: seconds since the epoch."""
    found = [finding for rule in _RULES for finding in rule(account, now)]
    return tuple(sorted(found, key=lambda finding: list(Grade).index(finding.grade)))


def refusals(account: Account, now: float, *, force: bool = False, adopting: bool = False) -> tuple[str, ...]:
    """Why it must not be used, a sentence each. ``adopting``: it is to become the shared account, and is not yet."""
    return tuple(one.text for one in findings(account, now) if one.is_refusal(force=force, adopting=adopting))


def warnings(account: Account, now: float, *, force: bool = False, adopting: bool = False) -> tuple[str, ...]:
    """What else should be known of it, a sentence each; what was forced is among them."""
    return tuple(one.text for one in findings(account, now) if not one.is_refusal(force=force, adopting=adopting))


def _managed(account: Account, _now: float) -> Iterator[Finding]:
    if account.kind in (AccountKind.GROUP_MANAGED, AccountKind.MANAGED):
        yield Finding(
            "managed-account",
            Grade.NEVER,
            f"{account} is a {account.kind} service account: the directory changes its password by itself, and members "
            f"could not be given the new keys first; make an account with casarray account create",
        )


def _domain_controller(account: Account, _now: float) -> Iterator[Finding]:
    if account.domain_controller:
        yield Finding(
            "domain-controller",
            Grade.NEVER,
            f"{account} is a domain controller (SERVER_TRUST_ACCOUNT in userAccountControl): with another password it "
            f"could not replicate; make an account with casarray account create",
        )


def _machine(account: Account, _now: float) -> Iterator[Finding]:
    bare = account.name.removesuffix("$").casefold()
    own = [
        name
        for name in account.names
        if is_spn(name) and (spn := parse(name)).service.casefold() in ("host", "restrictedkrbhost")
        and spn.host.partition(".")[0].casefold() == bare
    ]  # fmt: skip
    if own and account.kind is AccountKind.COMPUTER and not account.domain_controller:
        yield Finding(
            "machine",
            Grade.REFUSED,
            f"{account} has the name {own[0]}, as a machine has that joined the domain: with another password that "
            f"machine loses the domain; use an account that belongs to no machine, or force it if no machine is "
            f"called so",
        )


def _disabled(account: Account, _now: float) -> Iterator[Finding]:
    if not account.enabled:
        yield Finding(
            "disabled",
            Grade.REFUSED,
            f"{account} is disabled (ACCOUNTDISABLE in userAccountControl), and a KDC makes no tickets for it: enable "
            f"it, or use another account",
        )


def _expiry(account: Account, now: float) -> Iterator[Finding]:
    if account.expires_at is None:
        return
    day, mend = _date(account.expires_at), "set accountExpires to never"
    if account.expires_at <= now:
        text = f"{account} expired on {day} (accountExpires), and a KDC makes no tickets for it: {mend}"
        yield Finding("expired", Grade.REFUSED, text)
        return
    soon = f", which is in {_days(account.expires_at - now)}" if account.expires_at - now < SOON_DAYS * _DAY else ""
    text = f"{account} expires on {day} (accountExpires){soon}: from then on nobody gets tickets for it; {mend}"
    yield Finding("expires", Grade.NOT_NEW, text)


def _password_expiry(account: Account, _now: float) -> Iterator[Finding]:
    if account.password_expires:
        yield Finding(
            "password-expires",
            Grade.NOT_NEW,
            f"the password of the user {account} expires as the domain's policy says: set DONT_EXPIRE_PASSWORD in its "
            f"userAccountControl, or use a computer account",
        )
    if account.must_change:
        yield Finding(
            "must-change",
            Grade.WARNING,
            f"{account} has to choose a new password when it logs on next (pwdLastSet is 0): casarray account roll "
            f"{account.name} gives it one",
        )


def _age(account: Account, now: float) -> Iterator[Finding]:
    limit = now - AGED_DAYS * _DAY
    if account.set_at is None or account.set_at > limit or (account.seen_at or 0) > limit:
        return
    seen = f"was last seen on {_date(account.seen_at)}" if account.seen_at else "was never seen to log on"
    yield Finding(
        "aged",
        Grade.NOT_NEW,
        f"the password of {account} was set on {_date(account.set_at)} (pwdLastSet), and it {seen} "
        f"(lastLogonTimestamp): scripts that clear away what is unused for {AGED_DAYS} days would take it; keep it out "
        f"of them, and roll its password now and then with casarray account roll {account.name}",
    )


def _encryption(account: Account, _now: float) -> Iterator[Finding]:
    if account.kind is AccountKind.PRINCIPALS or account.encryption & bits_of(AES):
        return
    mend = f"casarray account encryption {account.name} --encryption aes, then casarray account roll {account.name}"
    if account.encryption & Enctype.RC4.bit:
        text = f"{account} has RC4 alone in msDS-SupportedEncryptionTypes, so tickets for it are RC4: {mend}"
        yield Finding("rc4-only", Grade.WARNING, text)
    elif account.encryption:
        text = (
            f"{account} has no type in msDS-SupportedEncryptionTypes ({account.encryption}) that is still used: {mend}"
        )
        yield Finding("no-usable-encryption", Grade.WARNING, text)
    else:
        text = (
            f"{account} has no msDS-SupportedEncryptionTypes, so tickets for it will be RC4 wherever the domain "
            f"controllers do not prefer AES by themselves: {mend}"
        )
        yield Finding("encryption-unset", Grade.WARNING, text)


def _delegation(account: Account, _now: float) -> Iterator[Finding]:
    if account.delegates:
        yield Finding(
            "unconstrained-delegation",
            Grade.WARNING,
            f"{account} is trusted for delegation to any service (TRUSTED_FOR_DELEGATION): clients hand their own "
            f"tickets over to every member; take it away unless a service needs it",
        )


_RULES: tuple[Callable[[Account, float], Iterator[Finding]], ...] = (
    _managed,
    _domain_controller,
    _machine,
    _disabled,
    _expiry,
    _password_expiry,
    _age,
    _encryption,
    _delegation,
)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(min(seconds, LAST), UTC).strftime("%Y-%m-%d")


def _days(seconds: float) -> str:
    days = int(seconds // _DAY)
    return "1 day" if days == 1 else f"{days} days" if days else "less than a day"
