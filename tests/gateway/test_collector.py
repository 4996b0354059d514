"""The garbage collector in the gateway's process: off while it starts, at work from then on."""

import gc
from collections.abc import Iterator

import pytest

from casarray import main, run


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_a_gateway_begins_without_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    enabled: list[bool] = []

    def observed(_path: str, *, as_json: bool) -> int:
        enabled.append(gc.isenabled())
        return 7 if as_json else 1

    monkeypatch.setattr(run, "run", observed)
    assert main.serve("casarray.toml", as_json=True) == 7
    assert enabled == [False]


def test_a_gateway_that_is_ready_collects_garbage_and_passes_over_what_stays() -> None:
    gc.disable()
    run.settle()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000
