"""The figures of the directory, in small: that they measure what they say; no time is judged."""

from pathlib import Path

import pytest

from casarray.lab import measure_directory
from casarray.lab.netns import missing


async def test_cmdlets_are_timed_over_a_real_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_directory, "MANY", 20)
    round_trip, start, listing = await measure_directory.cmdlets(tmp_path, 1)
    assert len(round_trip.samples) == 25
    assert len(start.samples) == 1
    assert len(listing.samples) == len(measure_directory.NOUNS)
    assert all(sample > 0 for figure in (round_trip, start, listing) for sample in figure.samples)


@pytest.mark.root
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
async def test_a_gateway_that_follows_is_timed_out_and_in(tmp_path: Path) -> None:
    out, back = await measure_directory.following(tmp_path, 1)
    assert out.value.endswith("(4 times)")
    assert back.value.endswith("(4 times)")
