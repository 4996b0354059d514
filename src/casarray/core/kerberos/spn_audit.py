"""What is wrong with the service principal names of a forest, and what the users see of it.

Every account that has names is looked at once, ten thousand of them in a fraction of a second; what is told concerns
the arrays, but for names that two accounts have and values that are no names, which are told wherever they stand.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from casarray.core.directory.model import Server, key
from casarray.core.kerberos.account import Account, AccountKind, Owner
from casarray.core.kerberos.encryption import AES, of_bits
from casarray.core.kerberos.principal import Spn, is_spn
from casarray.core.kerberos.spn_plan import unwanted
from casarray.core.kerberos.wanted import Wanted


class Kind(StrEnum):
    """What can be wrong, the worst first."""

    ACCOUNT = "account"  # the shared account is not there, or disabled
    DUPLICATE = "duplicate"
    CONTESTED = "contested"  # two shared accounts should have it
    DISABLED = "disabled-owner"
    MEMBER = "member-owner"
    ELSEWHERE = "other-owner"
    ALIAS = "alias"
    MISSING = "missing"
    CNAME = "cname"
    ENCRYPTION = "encryption"
    SETTINGS = "settings"  # of an array, so that nobody knows what it wants
    ORPHANED = "orphaned"
    PORT = "port"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    kind: Kind
    name: str  # the service principal name, or what else it is about
    accounts: tuple[str, ...]  # who has it: DNs
    sees: str  # what the users see, a sentence
    next: str  # what to do, a sentence
    visible: bool = True  # users are hurt now; else it waits or is untidy
    arrays: tuple[str, ...] = ()  # that it concerns

    def __str__(self) -> str:
        """``duplicate http/mail.domain.tld: ...``."""
        return f"{self.kind} {self.name}: {self.sees} {self.next}"


@dataclass(frozen=True, slots=True)
class AuditedShare:
    """A shared account as it should be, and as it is."""

    name: str  # the account's, as the configuration has it
    account: Account | None  # None: the realm has none
    wanted: tuple[Wanted, ...]
    servers: tuple[Server, ...] = ()
    wrong: tuple[str, ...] = ()  # sentences about settings that could not be read


@dataclass(frozen=True, slots=True)
class Forest:
    """All that is looked at."""

    owners: Iterable[Owner]
    shares: Sequence[AuditedShare]
    canonical: Mapping[str, str] = field(default_factory=dict)  # names that are aliases in DNS -> where they lead


def audit(forest: Forest) -> tuple[Finding, ...]:
    """Everything that is wrong, the worst first."""
    index = _Index(forest.owners)
    wanted = {one.name.key for share in forest.shares for one in share.wanted}
    found = [*index.malformed, *_duplicates(index, forest, wanted), *_contested(forest)]
    for share in forest.shares:
        found += _of_share(share, index, forest)
    order = list(Kind)
    return tuple(sorted(found, key=lambda one: (not one.visible, order.index(one.kind), key(one.name))))


class _Index:
    """Who has which name."""

    def __init__(self, owners: Iterable[Owner]) -> None:
        self.by_name: dict[str, tuple[Owner, ...]] = {}
        self.spelt: dict[str, str] = {}
        self.malformed: list[Finding] = []
        for owner in owners:
            for text in owner.names:
                self._add(owner, text)

    def _add(self, owner: Owner, text: str) -> None:
        folded = text.casefold()
        known = self.by_name.get(folded)
        if known is None:
            self.by_name[folded] = (owner,)
            self.spelt[folded] = text
            if not is_spn(text):
                self.malformed.append(_malformed(text, owner))
        elif owner.where not in {one.where for one in known}:
            self.by_name[folded] = (*known, owner)

    def of(self, name: Spn) -> tuple[Owner, ...]:
        """Everybody who has a name."""
        return self.by_name.get(name.key, ())


def _malformed(text: str, owner: Owner) -> Finding:
    return Finding(
        Kind.MALFORMED,
        text[:80],
        (owner.where,),
        "Nobody can ask for a ticket for it: it is not class/host.",
        f"Take it away from {owner.name}: it does nothing but confuse.",
        visible=False,
    )


def _duplicates(index: _Index, forest: Forest, wanted: set[str]) -> Iterator[Finding]:
    arrays = {one.name.key: one.array for share in forest.shares for one in share.wanted}
    shared = {key(share.name) for share in forest.shares}
    for folded, owners in index.by_name.items():
        if len(owners) < 2:
            continue
        name = index.spelt[folded]
        rest = next((one for one in owners if key(one.name) not in shared), owners[-1])
        mine = folded in wanted
        fix = "casarray spn apply --move" if mine else f"casarray shell -c 'setspn -D {name} ACCOUNT'"
        yield Finding(
            Kind.DUPLICATE,
            name,
            tuple(one.where for one in owners),
            "The KDC cannot tell whose key to use and gives no ticket: clients fall back to NTLM without a word, and "
            "those that speak Kerberos alone are refused.",
            f"Leave it to one account: {fix} takes it away"
            + (f" from {rest.name}." if mine else f", perhaps from {rest.name}."),
            arrays=(arrays[folded],) if mine else (),
        )


def _contested(forest: Forest) -> Iterator[Finding]:
    first: dict[Spn, tuple[AuditedShare, Wanted]] = {}
    for share in forest.shares:
        for one in share.wanted:
            other, before = first.setdefault(one.name, (share, one))
            if other is not share:
                yield Finding(
                    Kind.CONTESTED,
                    str(one.name),
                    tuple(s.account.where for s in (other, share) if s.account),
                    f"Only one of {other.name} and {share.name} can have it: logons fail at the members of the other.",
                    "Give both arrays the same service_account, or take the name from one of them.",
                    arrays=(before.array, one.array),
                )


# One shared account.


def _of_share(share: AuditedShare, index: _Index, forest: Forest) -> Iterator[Finding]:
    for sentence in share.wrong:
        yield Finding(
            Kind.SETTINGS, share.name, (), "What it needs cannot be told, so nobody knows what users see.", sentence
        )
    account = share.account
    if account is None or not account.enabled:
        yield _no_account(share, account)
    elif (found := _encryption(share, account)) is not None:
        yield found
    for one in share.wanted:
        yield from _of_name(one, share, index)
        if not _without_aliases(share):
            yield from _explicit(one, share, index)
    yield from _cnames(share, forest)
    if account is not None:
        yield from _too_many(share, account, forest)


def _no_account(share: AuditedShare, account: Account | None) -> Finding:
    text = "there is no such account" if account is None else "the account is disabled"
    return Finding(
        Kind.ACCOUNT,
        share.name,
        (account.where,) if account else (),
        f"{'Nobody gets' if account is None else 'Perhaps nobody gets'} a ticket for the arrays' names ({text}): "
        f"clients fall back to NTLM, and those that speak Kerberos alone are refused.",
        f"Make it with casarray account create {share.name}." if account is None else f"Enable {account}.",
        arrays=_arrays(share),
    )


def _encryption(share: AuditedShare, account: Account) -> Finding | None:
    if set(AES) & set(of_bits(account.encryption)):
        return None
    unset = account.encryption == 0
    return Finding(
        Kind.ENCRYPTION,
        account.name,
        (account.where,),
        "It has no encryption types set, so its tickets may be RC4: where RC4 is turned off, logons fail."
        if unset
        else "Its tickets are RC4 alone: wherever RC4 is turned off, logons fail.",
        f"Give it AES: casarray account set {account.name} --encryption aes256,aes128, then casarray account roll "
        f"{account.name}, for AES keys are made with the next password.",
        visible=not unset,
        arrays=_arrays(share),
    )


def _of_name(wanted: Wanted, share: AuditedShare, index: _Index) -> Iterator[Finding]:
    """A name that is wanted: does our account have it, and who else."""
    owners = index.of(wanted.name)
    if len(owners) > 1:
        return  # told as a duplicate
    if not owners and share.account is None:
        return  # told once, of the account
    if not owners:
        yield _missing(wanted, share, index)
        return
    (owner,) = owners
    if share.account is not None and key(owner.where) == key(share.account.where):
        return
    yield _owned(wanted, share, owner)


def _owned(wanted: Wanted, share: AuditedShare, owner: Owner) -> Finding:
    machine = next((s for s in share.servers if key(owner.name) == f"{key(s.fqdn.partition('.')[0])}$"), None)
    if not owner.enabled:
        kind = Kind.DISABLED
        sees = (
            "Its owner is disabled: the KDC gives no ticket, or one that the members cannot read. Clients fall back to "
            "NTLM, or are refused."
        )
    elif machine is not None:
        kind = Kind.MEMBER
        sees = (
            f"It belongs to the member {machine.name} itself: logons work there alone, and fail on every other member, "
            f"now here and now there."
        )
    else:
        kind = Kind.ELSEWHERE
        sees = (
            f"Tickets are made with the key of {owner.name}, which the members do not have: endless prompts for a "
            f"password (401), RPC clients are refused, and NTLM logons work."
        )
    fix = f"casarray spn apply --account {share.name} --move brings it to {share.name}."
    return Finding(kind, str(wanted.name), (owner.where,), sees, fix, arrays=(wanted.array,))


def _missing(wanted: Wanted, share: AuditedShare, index: _Index) -> Finding:
    alias = None if _without_aliases(share) else wanted.name.alias
    owners = index.of(alias) if alias is not None else ()
    mine = share.account.where if share.account else ""
    fix = f"casarray spn apply --account {share.name} adds it ({wanted.reason})."
    if not owners or alias is None:
        sees = "There is no ticket for it: clients fall back to NTLM, and those that speak Kerberos alone are refused."
        return Finding(Kind.MISSING, str(wanted.name), (), sees, fix, arrays=(wanted.array,))
    if any(key(one.where) == key(mine) for one in owners):
        sees = f"{alias} of the same account stands for it, so clients get the right tickets all the same."
        return Finding(Kind.MISSING, str(wanted.name), (mine,), sees, fix, visible=False, arrays=(wanted.array,))
    sees = (
        f"Nobody has it, but {alias} of {owners[0].name} stands for it: tickets are made with that account's key, and "
        f"the members refuse them."
    )
    where = tuple(one.where for one in owners)
    return Finding(Kind.ALIAS, str(wanted.name), where, sees, fix, arrays=(wanted.array,))


def _without_aliases(share: AuditedShare) -> bool:
    """In an MIT realm no name stands for another."""
    return share.account is not None and share.account.kind is AccountKind.PRINCIPALS


def _explicit(wanted: Wanted, share: AuditedShare, index: _Index) -> Iterator[Finding]:
    """``host/NAME`` is ours, yet what it would stand for is somebody else's by name."""
    mine = share.account.where if share.account else ""
    for name in wanted.name.covers:
        others = [one for one in index.of(name) if key(one.where) != key(mine)]
        if len(others) == 1:
            yield Finding(
                Kind.ALIAS,
                index.spelt[name.key],
                (others[0].where,),
                f"{wanted.name} does not stand for it, for {others[0].name} has it by name: its tickets are made with "
                f"that account's key.",
                f"Take it away from {others[0].name}, unless that account really serves {name}.",
                visible=False,
                arrays=(wanted.array,),
            )


def _cnames(share: AuditedShare, forest: Forest) -> Iterator[Finding]:
    has = {text.casefold() for text in share.account.names} if share.account else set()
    hosts: dict[str, list[Wanted]] = {}
    for one in share.wanted:
        hosts.setdefault(one.name.host, []).append(one)
    for host, its in hosts.items():
        target = forest.canonical.get(host)
        if target is None or key(target) == key(host):
            continue
        asked = [Spn(one.name.service, target) for one in its]
        missing = [str(name) for name in asked if name.key not in has]
        sees = f"{host} is an alias (CNAME) of {target} in DNS: many clients ask for a ticket for {asked[0]} instead"
        yield Finding(
            Kind.CNAME,
            host,
            (share.account.where,) if share.account else (),
            f"{sees}, which nobody here can read: they fall back to NTLM, or are refused."
            if missing
            else f"{sees}; the account has that name too.",
            f"Make {host} an A record in DNS; nothing else has to change.",
            visible=bool(missing),
            arrays=tuple(dict.fromkeys(one.array for one in its)),
        )


def _too_many(share: AuditedShare, account: Account, forest: Forest) -> Iterator[Finding]:
    elsewhere = {one.name: other for other in forest.shares if other is not share for one in other.wanted}
    names, hosts = {one.name for one in share.wanted}, {key(one.name.host) for one in share.wanted}
    for name in unwanted(account, share.wanted):
        if name in elsewhere:
            continue  # told there as owned by another
        bare = Spn(name.service, name.host, "", name.name)
        if name.port and (bare in names or key(name.host) in hosts):
            yield Finding(
                Kind.PORT,
                str(name),
                (account.where,),
                "Clients ask without a port, so it does nothing for them.",
                f"Have {bare} instead, and take this one away: casarray spn apply --account {share.name} --prune.",
                visible=False,
                arrays=_arrays(share),
            )
            continue
        yield Finding(
            Kind.ORPHANED,
            str(name),
            (account.where,),
            "No array wants it: whoever asks for it gets a ticket, and perhaps nobody there can read it.",
            f"If nothing else needs it, casarray spn apply --account {share.name} --prune takes it away.",
            visible=False,
            arrays=_arrays(share),
        )


def _arrays(share: AuditedShare) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.array for one in share.wanted))


def duplicates(owners: Iterable[Owner]) -> Mapping[str, tuple[Owner, ...]]:
    """Names that several accounts have, as they are spelt first."""
    index = _Index(owners)
    return {index.spelt[folded]: found for folded, found in index.by_name.items() if len(found) > 1}
