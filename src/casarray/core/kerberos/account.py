"""The shared account as the realm has it."""

from dataclasses import dataclass
from enum import StrEnum


class AccountKind(StrEnum):
    """What it is in the directory."""

    COMPUTER = "computer"  # preferred: no logon, no expiring password
    USER = "user"
    GROUP_MANAGED = "group-managed"  # cannot be shared by hand: the directory rolls it
    MANAGED = "managed"  # a managed account of one computer
    PRINCIPALS = "principals"  # of an MIT realm: one principal for each name


@dataclass(frozen=True, slots=True)
class Account:
    """An account of a realm, as far as shared keys are concerned."""

    name: str  # sAMAccountName: "asa$"; in an MIT realm what casarray calls it
    realm: str  # upper case
    kind: AccountKind
    where: str = ""  # its DN, or the realm's admin server
    names: tuple[str, ...] = ()  # its service principal names
    number: int = 0  # msDS-KeyVersionNumber; 0: no password was ever set
    encryption: int = 0  # msDS-SupportedEncryptionTypes; 0: not set, so tickets may be RC4
    enabled: bool = True
    set_at: float | None = None  # when its password was set, seconds since the epoch
    expires_at: float | None = None  # the account itself
    password_expires: bool = False
    seen_at: float | None = None  # last logon, as far as it is replicated
    description: str = ""
    domain_controller: bool = False  # SERVER_TRUST_ACCOUNT: it is a machine, and the wrong one
    must_change: bool = False  # a user that is to choose a new password when it logs on next
    logon_name: str = ""  # its userPrincipalName: the salt of a user's keys is made of it, if it has one
    delegates: bool = False  # TRUSTED_FOR_DELEGATION: clients hand their own tickets over to who has its keys

    @property
    def domain(self) -> str:
        """The first label of the realm, as Windows shows it before a backslash."""
        return self.realm.partition(".")[0]

    def __str__(self) -> str:
        """``LAB\\asa$``."""
        return f"{self.domain}\\{self.name}"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has a service principal name: any account of the forest."""

    name: str
    where: str  # its DN
    names: tuple[str, ...] = ()
    enabled: bool = True
    created: float | None = None
