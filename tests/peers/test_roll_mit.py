"""Rolls in a real MIT realm, where every name has keys of its own; killed between two of them too."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from casarray.core.config import KerberosSettings
from casarray.core.kerberos.account import AccountKind
from casarray.core.kerberos.encryption import AES, Enctype
from casarray.core.kerberos.principal import parse
from casarray.core.kerberos.roll_steps import Outcome
from casarray.lab.mit_kdc import ADMINISTRATOR, MitKdc

pytest.importorskip("krb5", reason="pykrb5 is not installed")
pytest.importorskip("gssapi", reason="python-gssapi is not installed")

from tests.peers.filed_members import At, Client, Mortal, Place

from casarray.adapters.kerberos.kadmin import Kadmin
from casarray.adapters.kerberos.mit_realm import MitRealm, Principal

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

NAMES = tuple(parse(f"{service}/cas.mit.example") for service in ("http", "imap", "exchangeMDB"))


class MortalRealm(Mortal, MitRealm):
    """An MIT realm, which tells every moment."""

    def _set(self, kadmin: Kadmin, one: Principal, password: str, types: Iterable[Enctype]) -> None:
        super()._set(kadmin, one, password, types)
        self.at("after principal")


@pytest.fixture
def place(kdc: MitKdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An account with names that was just made."""
    monkeypatch.setenv("KRB5RCACHETYPE", "none")
    settings = KerberosSettings(account="asa", principal=ADMINISTRATOR, keytab=str(kdc.administrator))

    def open_(at: At) -> MortalRealm:
        found = MortalRealm(kdc.realm, settings)
        found.at = at
        return found

    made = Place(tmp_path, "mit.example", settings, open_)
    made.realm().change_names(made.realm().create("asa", AccountKind.PRINCIPALS, AES), NAMES, ())
    return made


@pytest.fixture
def client(kdc: MitKdc) -> Callable[[str], Client]:
    """Makes somebody who gets a ticket now."""
    return lambda name: Client(kdc.ticket(name, kdc.add_user(name)), f"imap/cas.mit.example@{kdc.realm}")


def test_names_get_their_first_keys_by_a_roll_and_so_do_later_ones(
    place: Place, client: Callable[[str], Client]
) -> None:
    first = place.roll()
    assert (first.outcome, first.code) == (Outcome.ROLLED, 0)
    before = client("before")
    place.read_by_all(before)
    assert place.roll().outcome is Outcome.REFUSED, "not twice within the life of a ticket"
    place.realm().change_names(place.realm().account("asa"), [parse("smtp/cas.mit.example")], ())
    assert place.roll().outcome is Outcome.ROLLED, "but a name that has no keys is useless until then"
    place.read_by_all(before)
    place.read_by_all(client("after"))


def test_a_roll_that_is_killed_at_any_step_locks_nobody_out_and_is_mended_by_running_again(
    place: Place, client: Callable[[str], Client]
) -> None:
    place.roll()
    first = client("first")
    moments = (("after hold", 2), ("before set", 1), ("after principal", 1), ("after principal", 4), ("after set", 1))
    for number, (moment, nth) in enumerate((*moments, ("after confirm", 2))):
        before = place.number
        place.killed(moment, nth)
        was_set = place.number != before
        assert was_set == (moment not in ("after hold", "before set")), moment
        newer = client(f"client{number}")
        place.read_by_all(first)
        place.read_by_all(newer)
        report = place.roll(force=not was_set)
        finished = (Outcome.FINISHED, Outcome.REFUSED) if was_set else (Outcome.ROLLED,)  # all may have confirmed
        assert report.outcome in finished, (moment, report)
        assert place.number == before + 1
        place.read_by_all(first)
        place.read_by_all(newer)
        first = newer
