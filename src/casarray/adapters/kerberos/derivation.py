"""Keys from passwords, by the salts a KDC tells, and the proof that a key is the one the KDC has. All calls block.

Works with libkrb5 and the environment's configuration (``KRB5_CONFIG``; DNS without one): of several controllers of a
domain the library picks the one that is asked. Nothing is written: keytabs and tickets live in memory and go with the
call. No secret is in any error.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import krb5

from casarray.core.errors import CasarrayError, Denied, NotFound, Unavailable
from casarray.core.kerberos.encryption import EXCHANGE, Enctype, name_of
from casarray.core.kerberos.keys import Key

_TABLE = -1765328384  # what libkrb5 adds to the numbers of RFC 4120 7.5.9; from 128 on they are its own
_NO_SUCH_PRINCIPAL = 6
_REVOKED = 18
_EXPIRED = 23
_WRONG_KEY = frozenset({24, 31})  # told by the KDC, and by an answer that cannot be read
_SKEW = frozenset({37, 148})  # told by the KDC, and seen in its answer
_NOT_OF_KDC = 14
_TYPE_NOT_USED = frozenset({_NOT_OF_KDC, 150, 181, 210, 237})  # by the KDC, by the library, by what is in the keytab
_NOBODY = frozenset({154, 156, 220})  # no KDC is known; none answers; its name has no address


@dataclass(frozen=True, slots=True)
class ToldSalt:
    """What a KDC says of a key it has."""

    salt: str
    parameters: bytes | None = None  # of the derivation: its count of rounds, if it is not the usual one


def told_salt(principal: str, realm: str, enctype: Enctype) -> ToldSalt | None:
    """The salt of the key that this principal has now; None: the KDC tells none, or has no such key.

    ``principal``: ``asa$``, ``http/mail.domain.tld``. `NotFound` if there is no such principal, `Denied` if it is
    disabled, `Unavailable`.
    """
    context = krb5.init_context()
    try:
        told = krb5.get_etype_info(context, _principal(context, principal, realm), _only(context, enctype))
    except krb5.Krb5Error as error:
        if _number(error) in _TYPE_NOT_USED | {_EXPIRED}:
            return None
        raise _refusal(error, principal, realm) from error
    if told.salt is None or told.etype != enctype:
        return None
    return ToldSalt(told.salt.decode("utf-8", "surrogateescape"), told.s2kparams)


def derive(password: str, enctype: Enctype, salt: str, parameters: bytes | None = None) -> bytes:
    """The key that this password gives. RC4 takes no salt. `Denied` for parameters that libkrb5 finds too weak."""
    text, salted = password.encode("utf-8"), salt.encode("utf-8", "surrogateescape")
    try:
        return bytes(krb5.c_string_to_key(krb5.init_context(), int(enctype), text, salted, parameters).data)
    except krb5.Krb5Error as error:
        raise Denied(f"no {name_of(enctype)} key can be made as the KDC tells to make it: {_text(error)}") from error


def keys_of(  # noqa: PLR0917 - all of them are needed, and none is alike
    principal: str,
    realm: str,
    password: str,
    version: int,
    encryption: Sequence[Enctype],
    formula: str,
) -> tuple[Key, ...]:
    """The keys of one password under that version, for all names of the account.

    By the salt the KDC tells of each, else by ``formula`` (`core.kerberos.salts`). Errors as `told_salt`.
    """
    keys = []
    for enctype in encryption:
        told = told_salt(principal, realm, enctype) or ToldSalt(formula)
        keys.append(Key(enctype, version, derive(password, enctype, told.salt, told.parameters)))
    return tuple(keys)


def prove(principal: str, realm: str, keys: Iterable[Key], formula: str = "") -> str:
    """Get a ticket with each of these keys: empty if the KDC's are the same, else a sentence that says what is wrong.

    It stops at the first wrong key: each counts as a failed logon of the account. A key of a type that the KDC does
    not use is no fault, if there is another that it does use. ``formula``: the salt that the keys were made with, to
    tell a wrong salt from another password.

    `Unavailable` when that cannot be found out: no KDC answers, or the clocks differ too much.
    """
    right: list[Enctype] = []
    unused: list[Enctype] = []
    for key in sorted(keys, key=lambda key: key.enctype is not Enctype.RC4):  # it is right whatever the salt
        try:
            _get_ticket(principal, realm, key)
        except krb5.Krb5Error as error:
            number = _number(error)
            if number in _WRONG_KEY:
                return _wrong_key(principal, realm, key, formula, Enctype.RC4 in right)
            if number not in _TYPE_NOT_USED:
                refusal = _refusal(error, principal, realm)
                if isinstance(refusal, Unavailable):
                    raise refusal from error
                return str(refusal)
            unused.append(key.enctype)
        else:
            right.append(key.enctype)
    if right:
        return ""
    types = ", ".join(name_of(one) for one in unused) or "any type"
    return (
        f"the KDC of {realm} has no key of {principal} that is {types}: change the account's encryption types, and set "
        "its password, which makes the keys"
    )


def _get_ticket(principal: str, realm: str, key: Key) -> None:
    try:
        _get_ticket_by(principal, realm, key, (key.enctype,))
    except krb5.Krb5Error as error:
        if _number(error) != _NOT_OF_KDC:
            raise
        # The session's key is to be of one of these types as well, and a KDC may make no such of the account's type.
        _get_ticket_by(principal, realm, key, (key.enctype, *(one for one in EXCHANGE if one is not key.enctype)))


def _get_ticket_by(principal: str, realm: str, key: Key, types: Sequence[Enctype]) -> None:
    context = krb5.init_context()
    client = _principal(context, principal, realm)
    keytab = krb5.kt_resolve(context, f"MEMORY:casarray-{secrets.token_hex(8)}".encode())
    block = krb5.init_keyblock(context, int(key.enctype), key.value)
    krb5.kt_add_entry(context, keytab, client, key.version, 0, block)
    krb5.get_init_creds_keytab(context, client, _only(context, *types), keytab)


def _wrong_key(principal: str, realm: str, key: Key, formula: str, password_is_right: bool) -> str:
    """Why a key may be another than the KDC's."""
    said = f"the KDC's {name_of(key.enctype)} key of {principal}@{realm} is not ours"
    try:
        told = told_salt(principal, realm, key.enctype)
    except CasarrayError:
        told = None
    if told and formula and told.salt != formula and key.enctype is not Enctype.RC4:
        return (
            f'{said}: its salt is "{told.salt}", and ours was made with "{formula}". The account was renamed: set its '
            "password once more, then both are made with the same"
        )
    if password_is_right:
        return f"{said}, although the password is the same: it was made with another salt. Set the password once more"
    salted = "" if key.enctype is Enctype.RC4 else ", or this key was made with another salt"
    return f"{said}: its password was set by somebody else{salted}. Roll the account"


def _principal(context: Any, principal: str, realm: str) -> Any:
    return krb5.build_principal(context, realm.encode(), [part.encode() for part in principal.split("/")])


def _only(context: Any, *types: Enctype) -> Any:
    """Options that ask for these encryption types and no other."""
    options = krb5.get_init_creds_opt_alloc(context)
    krb5.get_init_creds_opt_set_etype_list(options, [int(one) for one in types])
    return options


def _number(error: Any) -> int:
    number: int = error.err_code - _TABLE
    return number


def _text(error: Any) -> str:
    return str(error).removesuffix(f" {error.err_code}")


def _refusal(error: Any, principal: str, realm: str) -> CasarrayError:
    """What the KDC, or the library before it, said."""
    number = _number(error)
    text = _text(error)
    who = f"{principal}@{realm}"
    if number == _NO_SUCH_PRINCIPAL:
        return NotFound(f"the KDC of {realm} knows no {who}: look at the account's name, and at its realm")
    if number == _REVOKED:
        return Denied(f"the KDC gives {who} no ticket: the account is disabled, locked or expired. Enable it first")
    if number == _EXPIRED:
        return Denied(f"the KDC gives {who} no ticket: its password has expired. Set a new one")
    if number in _SKEW:
        return Unavailable(
            f"the clocks of the KDC of {realm} and of this machine differ by more than five minutes: set this one by "
            "the time service, then try again"
        )
    if number in _NOBODY:
        return Unavailable(
            f"no KDC of {realm} answers ({text}): look at [realms] in krb5.conf, or at the SRV records of the domain"
        )
    return Unavailable(f"the KDC of {realm} was asked about {who}: {text}")
