"""A shared account in Active Directory: what its attributes and bits say, and what is written to make one.

Names are those of [MS-ADA1..3]; the bits of userAccountControl those of [MS-ADTS] 2.2.16. Times are counts of 100 ns
since 1601 ([MS-DTYP] 2.3.3).
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import IntFlag

from casarray.core.directory.active_directory import child, escape_filter
from casarray.core.errors import Conflict
from casarray.core.kerberos.account import Account, AccountKind, Owner
from casarray.core.kerberos.salts import computer_salt, user_salt

Values = Mapping[str, Sequence[bytes]]
"""Attributes as LDAP brings them."""

ATTRIBUTES = (
    "sAMAccountName",
    "objectClass",
    "userAccountControl",
    "servicePrincipalName",
    "msDS-KeyVersionNumber",
    "msDS-SupportedEncryptionTypes",
    "pwdLastSet",
    "accountExpires",
    "lastLogonTimestamp",
    "description",
    "userPrincipalName",
)
OWNER_ATTRIBUTES = ("sAMAccountName", "servicePrincipalName", "userAccountControl", "whenCreated")
OWNERS_FILTER = "(servicePrincipalName=*)"

_EPOCH = 11_644_473_600  # seconds from 1601 to 1970
_NEVER = (0, 2**63 - 1)
_CONTAINERS = {  # where new accounts go, wherever an administrator has redirected it: [MS-ADTS] 6.1.1.4
    AccountKind.COMPUTER: "AA312825768811D1ADED00C04FD8D5CD",
    AccountKind.USER: "A9D1CA15768811D1ADED00C04FD8D5CD",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST = {AccountKind.COMPUTER: 15, AccountKind.USER: 20}  # NetBIOS; [MS-SAMR] 3.1.1.6


class Control(IntFlag):
    """Bits of userAccountControl."""

    DISABLED = 0x2
    NORMAL = 0x200
    WORKSTATION = 0x1000
    SERVER = 0x2000  # a domain controller
    PASSWORD_STAYS = 0x10000
    DELEGATES = 0x80000  # TRUSTED_FOR_DELEGATION
    NOT_DELEGATED = 0x100000


def account_of(dn: str, values: Values, realm: str) -> Account:
    """The account that an entry is."""
    control = _number(values, "userAccountControl")
    kind = _kind(values)
    password_set = _number(values, "pwdLastSet")
    return Account(
        name=_text(values, "sAMAccountName"),
        realm=realm,
        kind=kind,
        where=dn,
        names=_texts(values, "servicePrincipalName"),
        number=_number(values, "msDS-KeyVersionNumber"),
        encryption=_number(values, "msDS-SupportedEncryptionTypes"),
        enabled=not control & Control.DISABLED,
        set_at=_time(password_set),
        expires_at=_time(_number(values, "accountExpires")),
        password_expires=kind is AccountKind.USER and not control & Control.PASSWORD_STAYS,
        seen_at=_time(_number(values, "lastLogonTimestamp")),
        description=_text(values, "description"),
        domain_controller=bool(control & Control.SERVER),
        logon_name=_text(values, "userPrincipalName"),
        must_change=kind is AccountKind.USER and not password_set,
        delegates=bool(control & Control.DELEGATES),
    )


def owner_of(dn: str, values: Values) -> Owner:
    """Who an entry with names is."""
    return Owner(
        _text(values, "sAMAccountName") or dn,
        dn,
        _texts(values, "servicePrincipalName"),
        enabled=not _number(values, "userAccountControl") & Control.DISABLED,
        created=_written_time(_text(values, "whenCreated")),
    )


def salt_of(account: Account) -> str:
    """The salt that its next password gets."""
    if account.kind is AccountKind.USER:
        return user_salt(account.realm, account.logon_name.rpartition("@")[0] or account.name)
    return computer_salt(account.realm, account.name)


def account_filter(name: str) -> str:
    """Finds an account by its name, with or without its $, and what is no account of users or computers by no name."""
    bare = escape_filter(name.removesuffix("$"))
    return f"(&(objectClass=user)(|(sAMAccountName={bare})(sAMAccountName={bare}$)))"


def names_filter(names: Sequence[str]) -> str:
    """Finds who has one of these service principal names."""
    return f"(|{''.join(f'(servicePrincipalName={escape_filter(name)})' for name in names)})"


def new_name(name: str, kind: AccountKind) -> str:
    """The sAMAccountName of an account to be made. `Conflict` says what cannot stand in one."""
    if kind not in _CONTAINERS:
        raise Conflict(f"a {kind} account cannot be shared: make a computer account, or a user")
    bare = name.rpartition("\\")[2]
    bare = bare.removesuffix("$") if kind is AccountKind.COMPUTER else bare
    if not _NAME.fullmatch(bare) or bare.isdigit():
        raise Conflict(
            f'"{name}" cannot name an account: letters, digits, ".", "-" and "_" can, beginning with a letter or '
            f"digit, and not digits alone"
        )
    if len(bare) > _LONGEST[kind]:
        raise Conflict(f'"{bare}" is too long: the name of a {kind} account has {_LONGEST[kind]} characters at most')
    return f"{bare}$" if kind is AccountKind.COMPUTER else bare


def new_dn(name: str, kind: AccountKind, well_known: Sequence[str], domain: str) -> str:
    """Where it is made: the container that ``wellKnownObjects`` of the domain names for its kind."""
    usual = f"CN={'Computers' if kind is AccountKind.COMPUTER else 'Users'},{domain}"
    mark = f"B:32:{_CONTAINERS[kind]}:".casefold()
    container = next((text[len(mark) :] for text in well_known if text.casefold().startswith(mark)), usual)
    return child(name.removesuffix("$"), container)


def new_values(name: str, kind: AccountKind, encryption: int, description: str) -> dict[str, Sequence[str]]:
    """Its attributes until it has a password: the encryption types stand there before, so that it has their keys."""
    values: dict[str, Sequence[str]] = {
        "objectClass": ("computer",) if kind is AccountKind.COMPUTER else ("user",),
        "sAMAccountName": (name,),
        "userAccountControl": (str(int(control(kind) | Control.DISABLED)),),
        "msDS-SupportedEncryptionTypes": (str(encryption),),
    }
    return values | ({"description": (description,)} if description else {})


def control(kind: AccountKind) -> Control:
    """The bits of a shared account.

    A user's password stays, and nobody may act for the user: it logs on nowhere, so nothing is lost by that.
    """
    if kind is AccountKind.COMPUTER:
        return Control.WORKSTATION
    return Control.NORMAL | Control.PASSWORD_STAYS | Control.NOT_DELEGATED


def password_octets(password: str) -> bytes:
    """The value of unicodePwd: [MS-ADTS] 3.1.1.3.1.5.1."""
    return f'"{password}"'.encode("utf-16-le")


def _kind(values: Values) -> AccountKind:
    classes = {name.casefold() for name in _texts(values, "objectClass")}
    if "msds-groupmanagedserviceaccount" in classes:
        return AccountKind.GROUP_MANAGED
    if "msds-managedserviceaccount" in classes:
        return AccountKind.MANAGED
    return AccountKind.COMPUTER if "computer" in classes else AccountKind.USER


def _texts(values: Values, name: str) -> tuple[str, ...]:
    return tuple(value.decode("utf-8", "replace") for value in values.get(name, ()))


def _text(values: Values, name: str) -> str:
    return next(iter(_texts(values, name)), "")


def _number(values: Values, name: str) -> int:
    text = _text(values, name)
    return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text) else 0


def _time(count: int) -> float | None:
    """Seconds since 1970; None where it says never, or nothing."""
    return None if count in _NEVER or count < 0 else count / 10_000_000 - _EPOCH


def _written_time(text: str) -> float | None:
    """``20261124225917.0Z``."""
    try:
        return datetime.strptime(text.partition(".")[0].rstrip("Z"), "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
