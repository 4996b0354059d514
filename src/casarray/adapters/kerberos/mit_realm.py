"""The shared account in an MIT realm, by `kadmin`.

    MitRealm(realm_name: str, settings: KerberosSettings)

Such a realm has no accounts that own names: every service name is a principal with a key of its own. What casarray
calls the account is therefore a set of principals that get their passwords together:

- ``asa/casarray`` is the account ``asa`` itself. Its key version is the account's number, and its string attributes
  (``setstr``, ``getstrs``) say the rest: one of each name (``http/mail.domain.tld``), ``encryption``, ``description``.
- ``HTTP/mail.domain.tld`` and so on are its names. Names count to the letter here, and clients spell them as
  `spellings` does, so a web name is two principals.

String attributes were chosen because one question answers which names an account has, because each name is added and
taken by itself, without a limit on their number that anybody reaches, and because nothing else depends on them. A
policy, the other thing that principals can have in common, also changes what passwords they may have, and who has it
can only be found by asking for every principal of the realm.

A name that was added has no key that members know. Until the account's password is set the next time, the KDC gives no
tickets for it (``-allow_tix``): clients are told that there is no such service, instead of getting a ticket that nobody
can read.

Passwords are set one principal after the other, that of the account first. So that a crash in between can be mended,
the password lies in the database meanwhile, as the attribute ``unfinished``, encrypted with the account's new key: who
can read it there are the KDC and those who hold the new keys, the members. `prove` is told these keys, and finishes
what it finds unfinished.
"""

import base64
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from casarray.adapters.kerberos import derivation
from casarray.adapters.kerberos.kadmin import Kadmin
from casarray.core.config import KerberosSettings
from casarray.core.errors import CasarrayError, Conflict, NotFound
from casarray.core.kerberos.account import Account, AccountKind, Owner
from casarray.core.kerberos.encryption import AES, EXCHANGE, Enctype, bits_of, of_bits, of_words
from casarray.core.kerberos.keys import Generation, Key
from casarray.core.kerberos.keytab import spellings
from casarray.core.kerberos.principal import Spn, is_spn, parse
from casarray.core.kerberos.salts import principal_salt

OURS = "casarray"  # the second component of an account's own principal
ENCRYPTION, DESCRIPTION, UNFINISHED = "encryption", "description", "unfinished"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_OF_THE_REALM = ("krbtgt/", "kadmin/", "kiprop/", "K/M")
_NO_TICKETS = 0x40  # KRB5_KDB_DISALLOW_ALL_TIX
_KEYSALTS = {Enctype.AES256: "aes256-cts", Enctype.AES128: "aes128-cts", Enctype.RC4: "rc4-hmac"}


@dataclass(frozen=True, slots=True)
class Principal:
    """A principal of the realm, as kadmin shows it."""

    name: str  # http/mail.domain.tld
    version: int  # of its key
    gives_tickets: bool
    set_at: int  # seconds since the epoch
    expires_at: int  # 0: never
    password_expires_at: int


def principals_of(name: Spn) -> tuple[str, ...]:
    """The principals that a name is: with the host in small letters, as every client of Kerberos asks for it."""
    return spellings(f"{name.service}/{str(name).partition('/')[2].lower()}")


class MitRealm:
    """`casarray.app.kerberos.ports.Realm` in an MIT realm."""

    def __init__(self, realm_name: str, settings: KerberosSettings) -> None:
        """Nothing is asked before it is needed; each call logs on by itself."""
        self.name = realm_name
        self.remarks: list[str] = []
        self._settings = settings

    def close(self) -> None:
        """Nothing is kept open."""

    # The account.

    def account(self, name: str) -> Account:
        """The account of that name, with or without its $."""
        with self._kadmin() as kadmin:
            return self._read(kadmin, _account_name(name))

    def create(self, name: str, kind: AccountKind, encryption: Sequence[Enctype], description: str = "") -> Account:
        """Make it, with a random key. Whatever the kind that is asked for, it is a set of principals."""
        if kind in (AccountKind.GROUP_MANAGED, AccountKind.MANAGED):
            raise Conflict(f"an MIT realm has no {kind} accounts: leave the kind out")
        name = _account_name(name)
        own = f"{name}/{OURS}"
        with self._kadmin() as kadmin:
            strings = _strings(kadmin, own)
            if strings is None:
                kadmin.ask("addprinc", "-randkey", "-clearpolicy", own)
            elif ENCRYPTION in strings:
                raise Conflict(f"{self.name} has an account {name} already ({own})")
            # else: a creation that was broken off
            if description:
                kadmin.ask("setstr", own, DESCRIPTION, " ".join(description.split()))
            kadmin.ask("setstr", own, ENCRYPTION, _words_of(encryption))
            return self._read(kadmin, name)

    def change_encryption(self, account: Account, encryption: Sequence[Enctype]) -> Account:
        """Remember the types. The keys are made when the password is set the next time."""
        with self._kadmin() as kadmin:
            kadmin.ask("setstr", f"{account.name}/{OURS}", ENCRYPTION, _words_of(encryption))
            return self._read(kadmin, account.name)

    def remove(self, account: Account) -> None:
        """Delete its names' principals, and its own at last: what is broken off can be done again."""
        with self._kadmin() as kadmin:
            for name in self._marks(kadmin, account.name):
                self._delete(kadmin, name)
            with suppress(NotFound):
                kadmin.ask("delprinc", "-force", f"{account.name}/{OURS}")

    # Its keys.

    def keys(self, account: Account, password: str, encryption: Sequence[Enctype]) -> tuple[Key, ...]:
        """The keys that this password would give, each principal's under its own next key version.

        The salts are those of the formula: the password is set with it, whatever salt the KDC has now.
        """
        with self._kadmin() as kadmin:
            return tuple(
                Key(enctype, one.version + 1, self._derive(password, enctype, one.name), one.name)
                for one in self._principals(kadmin, account)
                for enctype in encryption
            )

    def set_password(self, account: Account, password: str) -> Account:
        """Set it for all principals, and let the KDC give tickets for those that were new."""
        own = f"{account.name}/{OURS}"
        types = of_bits(account.encryption) or of_words(self._settings.encryption) or AES
        with self._kadmin() as kadmin:
            principals = self._principals(kadmin, account)
            sealed = _sealed(password, self._derive(password, types[0], own))
            kadmin.ask("setstr", own, UNFINISHED, sealed)
            for one in principals:
                self._set(kadmin, one, password, types)
            kadmin.ask("delstr", own, UNFINISHED)
            return self._read(kadmin, account.name)

    def prove(self, account: Account, generation: Generation) -> str:
        """Get a ticket with each of these keys, for every principal that the account still has.

        If these are the keys of a password that was not set for all, because whoever set it was broken off, it is set
        for the rest now.
        """
        own = f"{account.name}/{OURS}"
        keys: dict[str, list[Key]] = {}
        for key in generation.keys:
            keys.setdefault(key.principal, []).append(key)
        if own not in keys:
            return f"these keys are not of {account} as {self.name} has it: there is none of {own} among them"
        if why := self._prove(own, keys[own]):
            return why
        with self._kadmin() as kadmin:
            self._finish(kadmin, account, keys)
            principals = self._principals(kadmin, account)
        for one in principals:
            if held := keys.get(one.name, []):
                if why := self._prove(one.name, held):
                    return why
                if one.version not in {key.version for key in held}:
                    return (
                        f"the KDC's key of {one.name} has version {one.version}, the members' has {held[0].version}: "
                        "somebody else set its password. Roll the account"
                    )
        return ""

    def _prove(self, principal: str, keys: Iterable[Key]) -> str:
        return derivation.prove(principal, self.name, keys, principal_salt(self.name, principal))

    def _derive(self, password: str, enctype: Enctype, principal: str) -> bytes:
        return derivation.derive(password, enctype, principal_salt(self.name, principal))

    def _set(self, kadmin: Kadmin, one: Principal, password: str, types: Iterable[Enctype]) -> None:
        """Set it once: the version must not go further than the members were told."""
        now = _principal(kadmin, one.name)
        if now is None or now.version == one.version:  # else somebody finishes at the same time what we began
            keysalts = ",".join(f"{_KEYSALTS[enctype]}:normal" for enctype in types)
            kadmin.ask("cpw", "-e", keysalts, "-pw", password, one.name)
        if not one.gives_tickets:
            kadmin.ask("modprinc", "+allow_tix", one.name)

    def _finish(self, kadmin: Kadmin, account: Account, keys: Mapping[str, Sequence[Key]]) -> None:
        """Set the password for the principals that have the key before these, if it can be opened with these."""
        own = f"{account.name}/{OURS}"
        sealed = (_strings(kadmin, own) or {}).get(UNFINISHED)
        password = next((found for key in keys[own] if sealed and (found := _opened(sealed, key.value))), None)
        if password is None:
            return
        for one in self._principals(kadmin, account):
            held = keys.get(one.name, ())
            if any(one.version == key.version - 1 for key in held):
                self._set(kadmin, one, password, sorted((key.enctype for key in held), key=EXCHANGE.index))
            elif any(one.version == key.version for key in held) and not one.gives_tickets:
                kadmin.ask("modprinc", "+allow_tix", one.name)
        kadmin.ask("delstr", own, UNFINISHED)

    # Its names.

    def change_names(self, account: Account, add: Sequence[Spn], remove: Sequence[Spn]) -> Account:
        """Make principals, which give no tickets before the next password, and delete principals.

        One after the other: what is broken off is mended by doing it again.
        """
        with self._kadmin() as kadmin:
            marks = self._marks(kadmin, account.name)
            for name, owners in self._owners(kadmin, [one for one in add if one not in marks]).items():
                if owners:
                    raise Conflict(f"{name} belongs to {owners[0].name} ({owners[0].where}) already")
            for name in add:
                self._give(kadmin, account, name)
            for name in remove:
                if name in marks:
                    self._delete(kadmin, name)
                    kadmin.ask("delstr", f"{account.name}/{OURS}", marks[name])
            return self._read(kadmin, account.name)

    def move_names(self, names: Sequence[Spn], source: Owner, target: Account) -> Account:
        """Take principals over, from another account or from nobody's care.

        Their keys are not known to the members, so they give no tickets before the account's next password.
        """
        with self._kadmin() as kadmin:
            former = "" if "/" in source.name else _account_name(source.name)
            there = [one for name in names for one in principals_of(name) if _principal(kadmin, one)]
            moved: list[Spn] = []
            try:
                for name in names:
                    moved.append(name)
                    self._give(kadmin, target, name)
                    if former:
                        self._forget(kadmin, former, name)
                    for one in principals_of(name):
                        kadmin.ask("modprinc", "-allow_tix", one)
            except CasarrayError:
                self._move_back(moved, there, former, target)
                raise
            return self._read(kadmin, target.name)

    def _move_back(self, names: Iterable[Spn], there: Sequence[str], former: str, target: Account) -> None:
        """As far as it goes: what is wrong already is told, and `owners` shows what is left."""
        with suppress(CasarrayError), self._kadmin() as kadmin:
            for name in names:
                if former:
                    kadmin.ask("setstr", f"{former}/{OURS}", str(name), "")
                self._forget(kadmin, target.name, name)
                for one in principals_of(name):
                    with suppress(NotFound):
                        kadmin.ask(*(("modprinc", "+allow_tix") if one in there else ("delprinc", "-force")), one)

    def owners(self, names: Sequence[Spn]) -> Mapping[Spn, tuple[Owner, ...]]:
        """Who has each of these: an account of ours, or a principal that nobody takes care of."""
        with self._kadmin() as kadmin:
            return self._owners(kadmin, names)

    def all_owners(self) -> Iterable[Owner]:
        """Every account, and every principal with a service and a host that belongs to none."""
        with self._kadmin() as kadmin:
            accounts, others = self._everybody(kadmin)
        return (*accounts, *others.values())

    def _give(self, kadmin: Kadmin, account: Account, name: Spn) -> None:
        """Note that the account has it, then make what is missing: an unfinished one is finished the next time."""
        if name not in self._marks(kadmin, account.name):
            kadmin.ask("setstr", f"{account.name}/{OURS}", str(name), "")
        for one in principals_of(name):
            if _principal(kadmin, one) is None:
                kadmin.ask("addprinc", "-randkey", "-clearpolicy", "-allow_tix", one)

    def _forget(self, kadmin: Kadmin, account: str, name: Spn) -> None:
        if written := self._marks(kadmin, account).get(name):
            kadmin.ask("delstr", f"{account}/{OURS}", written)

    def _delete(self, kadmin: Kadmin, name: Spn) -> None:
        for one in principals_of(name):
            with suppress(NotFound):
                kadmin.ask("delprinc", "-force", one)

    def _owners(self, kadmin: Kadmin, names: Sequence[Spn]) -> dict[Spn, tuple[Owner, ...]]:
        if not names:
            return {}
        accounts, others = self._everybody(kadmin)
        found: dict[Spn, list[Owner]] = {name: [] for name in names}
        for account in accounts:
            for text in account.names:
                found.get(parse(text), []).append(account)
        for name, owner in others.items():
            found.get(name, []).append(owner)
        return {name: tuple(owners) for name, owners in found.items()}

    def _everybody(self, kadmin: Kadmin) -> tuple[list[Owner], dict[Spn, Owner]]:
        """The accounts, and the principals of services that belong to none of them."""
        end, own = f"@{self.name}", f"/{OURS}"
        principals = [line.removesuffix(end) for line in kadmin.ask("listprincs") if line.endswith(end)]
        accounts: list[Owner] = []
        taken: set[Spn] = set()
        for principal in (one for one in principals if one.endswith(own)):
            marks = self._marks(kadmin, principal.removesuffix(own))
            names = tuple(sorted(marks.values(), key=str.casefold))
            accounts.append(Owner(principal.removesuffix(own), f"{principal}{end}", names))
            taken.update(marks)
        others: dict[Spn, Owner] = {}
        for principal in principals:
            if not principal.endswith(own) and not principal.startswith(_OF_THE_REALM) and is_spn(principal):
                name = parse(principal)
                if name not in taken:
                    others.setdefault(name, Owner(principal, f"{principal}{end}", (principal,)))
        return accounts, others

    # Reading.

    def _kadmin(self) -> Kadmin:
        return Kadmin(self.name, self._settings)

    def _marks(self, kadmin: Kadmin, account: str) -> dict[Spn, str]:
        """The names that are noted at the account, as they are written there."""
        strings = _strings(kadmin, f"{account}/{OURS}") or {}
        return {parse(text): text for text in strings if is_spn(text)}

    def _principals(self, kadmin: Kadmin, account: Account) -> list[Principal]:
        """The account's own, which comes first, and its names': those that were there when the account was read."""
        names = [one for name in account.names for one in principals_of(parse(name))]
        found = [_principal(kadmin, one) for one in (f"{account.name}/{OURS}", *names)]
        return [one for one in found if one is not None]

    def _read(self, kadmin: Kadmin, name: str) -> Account:
        own = _principal(kadmin, f"{name}/{OURS}")
        if own is None:
            raise NotFound(
                f"{self.name} has no account {name} (no principal {name}/{OURS}): casarray account create {name}"
            )
        strings = _strings(kadmin, own.name) or {}
        names, principals = [], [own]
        for text in sorted((one for one in strings if is_spn(one)), key=str.casefold):
            found = [_principal(kadmin, one) for one in principals_of(parse(text))]
            principals += [one for one in found if one is not None]
            if None not in found:  # else it was broken off, and is still to be added
                names.append(text)
        waiting = [one.name for one in principals if not one.gives_tickets and one is not own]
        self._remark(name, waiting)
        return Account(
            name,
            self.name,
            AccountKind.PRINCIPALS,
            where=f"{own.name}@{self.name}",
            names=tuple(names),
            number=own.version,
            encryption=bits_of(of_words(strings.get(ENCRYPTION, "").split())),
            enabled=own.gives_tickets,
            # Names that wait for their first password may have it at any time: nobody has a ticket for them.
            set_at=None if waiting else float(min(one.set_at for one in principals)),
            expires_at=float(own.expires_at) if own.expires_at else None,
            password_expires=bool(own.password_expires_at),
            description=strings.get(DESCRIPTION, ""),
        )

    def _remark(self, account: str, waiting: Sequence[str]) -> None:
        text = (
            f"the KDC gives no tickets for {', '.join(waiting)} yet: their keys are made by the next casarray account "
            f"roll {account}"
        )
        self.remarks = [text] if waiting else []


def _account_name(text: str) -> str:
    """Without domain and $, in small letters."""
    name = text.rpartition("\\")[2].removesuffix("$").lower()
    if not _NAME.fullmatch(name):
        raise Conflict(f'"{text[:80]}" cannot be an account of an MIT realm: use letters, digits and . _ -')
    return name


def _words_of(encryption: Iterable[Enctype]) -> str:
    return " ".join(one.word for one in encryption)


def _principal(kadmin: Kadmin, name: str) -> Principal | None:
    """By ``getprinc -terse``: name, expiration, password's change and expiration, ..., attributes, key version, ..."""
    try:
        answer = kadmin.ask("getprinc", "-terse", name)
    except NotFound:
        return None
    fields = answer[-1].split("\t") if answer else []
    try:
        numbers = [int(fields[at]) for at in (1, 2, 3, 7, 8)]
    except (IndexError, ValueError):
        raise Conflict(f"kadmin of {kadmin.realm} shows {name} in a way that is not known") from None
    expires, changed, password_expires, attributes, version = numbers
    return Principal(name, version, not attributes & _NO_TICKETS, changed, expires, password_expires)


def _strings(kadmin: Kadmin, name: str) -> dict[str, str] | None:
    """Its string attributes; None: there is no such principal."""
    try:
        answer = kadmin.ask("getstrs", name)
    except NotFound:
        return None
    return dict(_pairs(answer))


def _pairs(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        key, colon, value = line.partition(": ")
        if colon:
            yield key, value


def _sealed(password: str, key: bytes) -> str:
    """AES-256-GCM under a key that is made of the account's new key (HKDF with SHA-256)."""
    nonce = secrets.token_bytes(12)
    return base64.b64encode(nonce + AESGCM(_sealing(key)).encrypt(nonce, password.encode(), None)).decode()


def _opened(text: str, key: bytes) -> str | None:
    """None if it was sealed with another key."""
    try:
        octets = base64.b64decode(text, validate=True)
        return AESGCM(_sealing(key)).decrypt(octets[:12], octets[12:], None).decode()
    except (ValueError, InvalidTag):
        return None


def _sealing(key: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"casarray unfinished password").derive(key)
