"""The figures around the shared account, in small: that they measure what they say; no time is judged."""

from pathlib import Path

import pytest

from casarray.lab import measure_kerberos, netns, samba_ad

REASON = netns.missing() or samba_ad.missing()


@pytest.mark.root
@pytest.mark.samba
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
async def test_an_audit_of_a_real_forest_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_kerberos, "MANY", 20)
    (figure,) = await measure_kerberos.audit(tmp_path, 1)
    assert "20 accounts and 160 names" in figure.name
    assert len(figure.samples) == 3


@pytest.mark.root
@pytest.mark.samba
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
async def test_a_roll_over_real_agents_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_kerberos, "MEMBERS", 3)
    (figure,) = await measure_kerberos.roll(tmp_path, 1)
    assert "roll over 3 members" in figure.name
    assert len(figure.samples) == 3
