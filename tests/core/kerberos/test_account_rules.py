"""Which accounts can be the shared one, and why not."""

from dataclasses import replace

import pytest

from casarray.core.kerberos.account import Account, AccountKind
from casarray.core.kerberos.account_rules import Grade, findings, refusals, warnings

NOW = 1_750_000_000.0  # 2025-06-15
DAY = 86400.0
FINE = Account(
    "asa$",
    "LAB.EXAMPLE",
    AccountKind.COMPUTER,
    "CN=asa,CN=Computers,DC=lab,DC=example",
    ("exchangeMDB/cas.lab.example", "http/mail.lab.example"),
    number=3,
    encryption=24,
    set_at=NOW - DAY,
)

#: what is changed, the code, how grave, and what has to be in the sentence: the reason and the next step
WRONG: list[tuple[dict[str, object], str, Grade, tuple[str, ...]]] = [
    ({"kind": AccountKind.GROUP_MANAGED}, "managed-account", Grade.NEVER, ("group-managed", "account create")),
    ({"kind": AccountKind.MANAGED}, "managed-account", Grade.NEVER, ("managed service account", "account create")),
    ({"domain_controller": True}, "domain-controller", Grade.NEVER, ("SERVER_TRUST_ACCOUNT", "account create")),
    ({"enabled": False}, "disabled", Grade.REFUSED, ("ACCOUNTDISABLE", "enable it")),
    ({"expires_at": NOW - 1}, "expired", Grade.REFUSED, ("2025-06-15", "accountExpires", "never")),
    ({"expires_at": NOW}, "expired", Grade.REFUSED, ("accountExpires",)),
    ({"expires_at": NOW + 400 * DAY}, "expires", Grade.NOT_NEW, ("2026-07-20", "accountExpires", "never")),
    ({"expires_at": NOW + 5 * DAY}, "expires", Grade.NOT_NEW, ("which is in 5 days",)),
    ({"expires_at": NOW + 1}, "expires", Grade.NOT_NEW, ("in less than a day",)),
    ({"expires_at": 9e11}, "expires", Grade.NOT_NEW, ("9999-12-31",)),
    ({"names": ("http/a", "HOST/Asa.lab.example")}, "machine", Grade.REFUSED, ("HOST/Asa.lab.example", "no machine")),
    ({"names": ("RestrictedKrbHost/ASA",)}, "machine", Grade.REFUSED, ("RestrictedKrbHost/ASA",)),
    (
        {"kind": AccountKind.USER, "password_expires": True},
        "password-expires", Grade.NOT_NEW, ("DONT_EXPIRE_PASSWORD", "computer account"),
    ),
    ({"kind": AccountKind.USER, "must_change": True}, "must-change", Grade.WARNING, ("pwdLastSet", "roll asa$")),
    ({"set_at": NOW - 91 * DAY}, "aged", Grade.NOT_NEW, ("pwdLastSet", "never seen", "account roll asa$")),
    (
        {"set_at": NOW - 91 * DAY, "seen_at": NOW - 92 * DAY},
        "aged", Grade.NOT_NEW, ("2025-03-16", "last seen on 2025-03-15", "lastLogonTimestamp"),
    ),
    ({"encryption": 0}, "encryption-unset", Grade.WARNING, ("will be RC4", "--encryption aes", "account roll asa$")),
    ({"encryption": 4}, "rc4-only", Grade.WARNING, ("RC4 alone", "--encryption aes")),
    ({"encryption": 3}, "no-usable-encryption", Grade.WARNING, ("(3)", "--encryption aes")),
    ({"delegates": True}, "unconstrained-delegation", Grade.WARNING, ("TRUSTED_FOR_DELEGATION", "take it away")),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "code", "grade", "said"), WRONG)
def test_what_is_wrong_is_one_sentence_with_its_reason_and_the_next_step(
    changed: dict[str, object], code: str, grade: Grade, said: tuple[str, ...]
) -> None:
    account = replace(FINE, **changed)  # type: ignore[arg-type]  # by names that the test gives
    found = findings(account, NOW)
    assert [(one.code, one.grade) for one in found] == [(code, grade)]
    for part in (*said, "LAB\\asa$"):
        assert part in found[0].text
    assert "\n" not in found[0].text
    assert not found[0].text.endswith(".")


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"encryption": 28},
        {"kind": AccountKind.USER, "name": "asa"},
        {"kind": AccountKind.USER, "name": "asa", "names": ("host/asa.lab.example",)},
        {"kind": AccountKind.PRINCIPALS, "encryption": 0},
        {"names": ("host/cas.lab.example", "http/asa.lab.example", "no name at all", "")},
        {"set_at": NOW - 200 * DAY, "seen_at": NOW - 2 * DAY},
        {"set_at": NOW - 89 * DAY},
        {"set_at": None, "number": 0},
    ],
)
def test_nothing_is_wrong_with_an_account_as_it_should_be(changed: dict[str, object]) -> None:
    assert findings(replace(FINE, **changed), NOW) == ()  # type: ignore[arg-type]  # by names that the test gives


@pytest.mark.parametrize(("changed", "grade"), [(changed, grade) for changed, _, grade, _ in WRONG])
@pytest.mark.parametrize("adopting", [False, True])
@pytest.mark.parametrize("force", [False, True])
def test_each_finding_is_either_a_refusal_or_a_warning(
    changed: dict[str, object], grade: Grade, adopting: bool, force: bool
) -> None:
    account = replace(FINE, **changed)  # type: ignore[arg-type]  # by names that the test gives
    refused = refusals(account, NOW, force=force, adopting=adopting)
    warned = warnings(account, NOW, force=force, adopting=adopting)
    wanted = {
        Grade.NEVER: True,
        Grade.REFUSED: not force,
        Grade.NOT_NEW: adopting and not force,
        Grade.WARNING: False,
    }[grade]
    assert bool(refused) == wanted
    assert len(refused) + len(warned) == 1


def test_the_gravest_is_said_first() -> None:
    account = replace(FINE, kind=AccountKind.GROUP_MANAGED, enabled=False, encryption=0, set_at=1.0)
    assert [one.code for one in findings(account, NOW)] == ["managed-account", "disabled", "aged", "encryption-unset"]
    assert len(refusals(account, NOW)) == 2
    assert len(refusals(account, NOW, force=True, adopting=True)) == 1
