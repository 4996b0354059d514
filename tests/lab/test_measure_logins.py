"""The figure of logins through rolls, in small: that it measures what it says; no time is judged."""

from pathlib import Path

import pytest
from tests.conftest import Domain

pytest.importorskip("gssapi", reason="python-gssapi is not installed (the extra casarray[kerberos])")
pytest.importorskip("ldap", reason="python-ldap is not installed (script/setup says what builds it)")

from casarray.lab import kerberos_members, measure_logins, netns, samba_ad

REASON = netns.missing() or samba_ad.missing() or kerberos_members.missing()


@pytest.mark.root
@pytest.mark.samba
@pytest.mark.timeout(180)
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
async def test_logins_are_counted_through_three_rolls(domain: Domain, tmp_path: Path) -> None:
    figure = await measure_logins.measured(domain.dc, tmp_path, 400, pause=0.1)
    assert figure.met, figure.value
    assert figure.samples == (0.0,)
    assert "0 failed, 400 succeeded (cas1 " in figure.value
