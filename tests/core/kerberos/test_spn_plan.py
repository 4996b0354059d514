"""What is done with names, and what stands in the way."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from casarray.core.kerberos.account import Account, AccountKind, Owner
from casarray.core.kerberos.keys import Held, HeldGeneration
from casarray.core.kerberos.principal import Spn, parse
from casarray.core.kerberos.spn_plan import Act, Choices, MemberKeys, Picture, Plan, plan
from casarray.core.kerberos.wanted import Wanted

WHERE = "CN=asa,CN=Computers,DC=lab,DC=example"
ASA = Account("asa$", "LAB.EXAMPLE", AccountKind.COMPUTER, WHERE, number=3)
OLD = Owner("old", "CN=old,CN=Users,DC=lab,DC=example", ("http/mail.lab.example",))
HTTP, MDB = "http/mail.lab.example", "exchangeMDB/cas.lab.example"


def held(*numbers: int, account: str = "asa$", check: str = "aes256 3 * 00") -> Held:
    return Held(account, "LAB.EXAMPLE", (), tuple(HeldGeneration(n, False, (check,)) for n in numbers))


def member(name: str, *holdings: Held, silent: str = "") -> MemberKeys:
    return MemberKeys(f"{name}.lab.example", holdings, silent)


READY = (member("cas1", held(3, 2)), member("cas2", held(3)))


def picture(
    *wanted: str,
    has: Sequence[str] = (),
    owners: Mapping[str, tuple[Owner, ...]] | None = None,
    members: tuple[MemberKeys, ...] = READY,
    ours: Sequence[str] = (HTTP, MDB),
    account: Account = ASA,
    numbers: dict[str, int] | None = None,
) -> Picture:
    found: dict[Spn, tuple[Owner, ...]] = {parse(name): them for name, them in (owners or {}).items()}
    names = tuple(Wanted(parse(name), "CAS", "a test") for name in wanted)
    owned = replace(account, names=tuple(has))
    return Picture(owned, names, frozenset(map(parse, ours)), found, members, numbers or {}, now=1_750_000_000.0)


def made(seen: Picture, **choices: bool) -> Plan:
    return plan(seen, Choices(**choices))


def test_what_is_missing_is_added_when_every_member_holds_the_current_key() -> None:
    found = made(picture(HTTP, MDB, has=[MDB.upper()]))
    assert [(step.act, str(step.name)) for step in found.steps] == [(Act.ADD, HTTP)]
    assert (found.blocks, found.warnings) == ((), ())
    assert str(found.steps[0]) == f"+ {HTTP}: a test"


def test_nothing_is_missing_and_nobody_need_be_asked() -> None:
    assert made(picture(HTTP, has=[HTTP], members=(member("cas1", silent="it is down"),))) == Plan("LAB\\asa$")


def test_a_member_with_an_old_key_blocks() -> None:
    found = made(picture(HTTP, members=(READY[0], member("cas2", held(2, 1)), member("cas3"))))
    assert len(found.blocks) == 2
    assert "cas2.lab.example does not hold key 3 of LAB\\asa$ (it holds 2, 1)" in found.blocks[0]
    assert "cas3.lab.example does not hold key 3 of LAB\\asa$ (it holds none)" in found.blocks[1]
    assert made(picture(HTTP, members=(member("cas2", held(2)),)), without_agents=True).blocks


def test_a_pending_key_of_the_right_number_is_in_the_keytab_already() -> None:
    pending = Held("ASA$", "LAB.EXAMPLE", (), (HeldGeneration(3, True, ("aes256 3 * 00",)),))
    assert not made(picture(HTTP, members=(member("cas1", pending),))).blocks


def test_members_with_different_keys_under_one_number_block() -> None:
    found = made(picture(HTTP, members=(READY[0], member("cas2", held(3, check="aes256 3 * 11")))))
    assert "different keys under number 3" in found.blocks[0]
    assert "cas1.lab.example / cas2.lab.example" in found.blocks[0]


def test_a_silent_member_blocks_unless_it_is_said_to_be_all_right() -> None:
    seen = picture(HTTP, members=(READY[0], member("cas2", silent="nobody answers.")))
    assert made(seen).blocks == (
        "cas2.lab.example does not tell which keys it holds (nobody answers): start its agent, or say "
        "--without-agents and know it yourself",
    )
    found = made(seen, without_agents=True)
    assert found.blocks == ()
    assert "whether it can read the tickets is not known" in found.warnings[0]


def test_removing_needs_no_key() -> None:
    found = made(picture(has=[HTTP], members=(member("cas1", silent="it is down"),)))
    assert (found.named(Act.REMOVE), found.blocks) == ((parse(HTTP),), ())


@pytest.mark.parametrize(
    ("account", "said"),
    [
        (replace(ASA, number=0), "has no key yet: casarray account roll asa$"),
        (replace(ASA, enabled=False), "is disabled"),
        (replace(ASA, kind=AccountKind.GROUP_MANAGED), "group-managed"),
        (replace(ASA, domain_controller=True), "SERVER_TRUST_ACCOUNT"),
        (replace(ASA, expires_at=1.0), "accountExpires"),
    ],
)
def test_an_account_that_could_not_be_used_blocks(account: Account, said: str) -> None:
    assert said in made(picture(HTTP, account=account)).blocks[0]
    assert made(picture(has=[HTTP], account=account)).blocks == ()  # taking names away is always right


def test_names_of_a_machine_are_warned_of() -> None:
    found = made(picture(HTTP, has=["HOST/asa.lab.example"]))
    assert (found.blocks, "HOST/asa.lab.example" in found.warnings[0]) == ((), True)


def test_a_name_that_another_array_wants_for_another_account_blocks() -> None:
    found = made(replace(picture(HTTP), contested={parse(HTTP): "BER"}))
    assert f"{HTTP}: BER wants it too" in found.blocks[0]


def test_an_array_without_members_is_warned_of() -> None:
    assert "nobody is there to read its tickets" in made(picture(HTTP, members=())).warnings[0]


def test_in_a_realm_of_principals_names_come_before_keys() -> None:
    account = replace(ASA, kind=AccountKind.PRINCIPALS, number=0)
    found = made(picture(HTTP, account=account, members=(member("cas1"),)))
    assert found.blocks == ()
    assert "roll the password" in found.warnings[0]
    alias = picture(HTTP, account=account, owners={"host/mail.lab.example": (OLD,)})
    assert made(alias).warnings == found.warnings  # no name stands for another there


def test_what_casarray_never_sets_stays_until_it_is_pruned() -> None:
    seen = picture(has=[HTTP, "MSSQLSvc/db.lab.example:1433", "host/asa", "HOST/ASA.LAB.EXAMPLE", "garbage"])
    found = made(seen)
    assert [str(name) for name in found.named(Act.REMOVE)] == [HTTP]
    assert "--prune: MSSQLSvc/db.lab.example:1433" in found.warnings[0]
    assert [str(n) for n in made(seen, prune=True).named(Act.REMOVE)] == [HTTP, "MSSQLSvc/db.lab.example:1433"]


# Names of others.


def test_a_name_of_another_account_is_not_touched_without_a_word() -> None:
    found = made(picture(HTTP, owners={HTTP: (OLD,)}))
    assert [step.act for step in found.steps] == [Act.MOVE]
    assert f"owned by old ({OLD.where})" in found.blocks[0]
    assert "Say --move" in found.blocks[0]


def test_a_move_waits_for_tickets_of_the_other_account() -> None:
    seen = picture(HTTP, owners={HTTP: (OLD,)})
    found = made(seen, move=True)
    assert "tickets made with the key of old live up to 10h" in found.blocks[0]
    assert made(seen, move=True, now=True).blocks == ()


def test_a_move_need_not_wait_when_every_member_holds_the_other_accounts_current_key() -> None:
    both = tuple(replace(one, held=(*one.held, held(7, account="OLD"))) for one in READY)
    owners = {HTTP: (OLD,)}
    assert made(picture(HTTP, owners=owners, members=both, numbers={"old": 7}), move=True).blocks == ()
    assert made(picture(HTTP, owners=owners, members=both, numbers={"old": 8}), move=True).blocks
    assert made(picture(HTTP, owners=owners, members=both), move=True).blocks
    assert made(picture(HTTP, owners=owners, members=(both[0], READY[1]), numbers={"old": 7}), move=True).blocks


def test_nobody_loses_a_ticket_of_a_members_own_account() -> None:
    owner = Owner("CAS2$", "CN=CAS2,DC=lab,DC=example", (HTTP,))
    assert made(picture(HTTP, owners={HTTP: (owner,)}), move=True).blocks == ()


def test_a_disabled_account_may_still_have_tickets() -> None:
    seen = picture(HTTP, owners={HTTP: (replace(OLD, enabled=False),)})
    assert "It is disabled" in made(seen).blocks[0]
    assert "live up to 10h" in made(seen, move=True).blocks[0]


def test_what_users_see_of_a_members_own_account_is_told() -> None:
    owner = Owner("CAS2$", "CN=CAS2,DC=lab,DC=example", (HTTP,))
    assert "read by cas2.lab.example alone" in made(picture(HTTP, owners={HTTP: (owner,)})).blocks[0]


def test_a_duplicate_of_ours_is_taken_from_the_other() -> None:
    me = Owner("asa$", WHERE.upper(), (HTTP,))
    seen = picture(HTTP, has=[HTTP], owners={HTTP: (me, OLD)})
    assert [(step.act, step.source) for step in made(seen).steps] == [(Act.TAKE, OLD)]
    assert made(seen).blocks
    assert made(seen, move=True, now=True).blocks == ()


def test_of_two_other_owners_one_loses_it_and_the_other_hands_it_over() -> None:
    third = Owner("third", "CN=third,DC=lab,DC=example", (HTTP,))
    found = made(picture(HTTP, MDB, owners={HTTP: (OLD, third)}), move=True, now=True)
    assert [(step.act, step.source) for step in found.steps] == [(Act.TAKE, third), (Act.MOVE, OLD), (Act.ADD, None)]


# Aliases.


def test_an_alias_of_another_account_is_warned_of_as_long_as_the_name_is_not_there() -> None:
    owners = {"host/mail.lab.example": (OLD,)}
    found = made(picture(HTTP, owners=owners))
    assert found.blocks == ()
    assert f"host/mail.lab.example of old ({OLD.where}) stands for it" in found.warnings[0]
    assert made(picture(HTTP, has=[HTTP], owners=owners)).warnings == ()


def test_the_name_of_a_machine_is_no_name_for_an_array() -> None:
    machine = Owner("MAIL$", "CN=MAIL,DC=lab,DC=example", ("host/mail.lab.example",))
    found = made(picture(HTTP, owners={"host/mail.lab.example": (machine,)}))
    assert "mail.lab.example is the computer MAIL$" in found.blocks[0]


def test_our_own_alias_is_no_trouble() -> None:
    me = Owner("asa$", WHERE, ("host/mail.lab.example",))
    assert made(picture(HTTP, owners={"host/mail.lab.example": (me,)})).warnings == ()


def test_what_host_would_stand_for_and_another_account_has_by_name_is_warned_of() -> None:
    found = made(picture("host/mail.lab.example", owners={HTTP: (OLD,)}))
    assert found.blocks == ()
    assert f"does not stand for {HTTP}, which old" in found.warnings[0]
