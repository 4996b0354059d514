"""Keys from passwords, by the salts a KDC tells, and the proof that a key is the one the KDC has. All calls block.

Works with libkrb5 and the environment's configuration (``KRB5_CONFIG``; DNS without one): of several controllers of a
domain the library picks the one that is asked. Nothing is written: keytabs and tickets live in memory and go with the
call. No secret is in any error.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import krb5

from casarray.core.errors import CasarrayError, Conflict, Denied, NotFound, Unavailable
from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keys import Key

SKEW_SECONDS = 300  # what KDCs and servers tolerate. RFC 4120 1.6


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
    raise NotImplementedError


def derive(password: str, enctype: Enctype, salt: str, parameters: bytes | None = None) -> bytes:
    """The key that this password gives. RC4 takes no salt."""
    raise NotImplementedError


def keys_of(
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
    raise NotImplementedError


def prove(principal: str, realm: str, keys: Iterable[Key], formula: str = "") -> str:
    """Get a ticket with each of these keys: empty if the KDC's are the same, else a sentence that says what is wrong.

    It stops at the first wrong key: each counts as a failed logon of the account. A key of a type that the KDC does
    not use is no fault, if there is another that it does use. ``formula``: the salt that the keys were made with, to
    tell a wrong salt from another password. `Unavailable` when no KDC answers: then nothing is known.
    """
    raise NotImplementedError
