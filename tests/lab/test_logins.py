"""The load of logins, without anybody to log in to: it counts, says why, and ends."""

import time
from pathlib import Path

import pytest

pytest.importorskip("gssapi", reason="python-gssapi is not installed (the extra casarray[kerberos])")

from casarray.lab.logins import MOST_REASONS, Client, Logins, Tally, Target

NOWHERE = Target("127.0.0.1", "cas.lab.example", 1, 1, 1)


@pytest.fixture
def nobodies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Client]:
    """Three users without tickets."""
    (tmp_path / "krb5.conf").write_text("[libdefaults]\n    default_realm = LAB.EXAMPLE\n    dns_lookup_kdc = false\n")
    monkeypatch.setenv("KRB5_CONFIG", str(tmp_path / "krb5.conf"))
    return [Client(f"user{number}", f"FILE:{tmp_path}/{number}.ccache") for number in range(3)]


@pytest.mark.parametrize("count", [0, 1, 7, 30])
def test_the_count_is_shared_out_and_every_failure_has_its_reason(nobodies: list[Client], count: int) -> None:
    tally = Logins(NOWHERE, nobodies, count=count, fresh_share=0.5).run()
    assert tally.total == tally.failed.total() == tally.reasons.total() == count
    assert all(reason.partition(":")[0] in ("http", "imap", "rpc") for reason in tally.reasons)
    assert all(reason.partition(": ")[2] for reason in tally.reasons)


def test_it_ends_by_itself_and_when_it_is_told(nobodies: list[Client]) -> None:
    since = time.monotonic()
    tally = Logins(NOWHERE, nobodies, count=1_000_000, seconds=0.2, pause=60.0).run()
    assert tally.total == 3
    stopped = Logins(NOWHERE, nobodies, count=1_000_000, seconds=60.0)
    stopped.stop()
    assert stopped.run().total == 0
    assert time.monotonic() - since < 30


def test_reasons_without_end_are_not_all_kept() -> None:
    tally = Tally()
    for number in range(1000):
        tally.failure("http", f"reason {number}")
    assert tally.reasons.total() == 1000
    assert len(tally.reasons) == MOST_REASONS + 1
    assert tally.reasons["http: other"] == 1000 - MOST_REASONS
    assert "http: other" in tally.json()
