"""Which figures can be measured with what is installed."""

import importlib
from types import ModuleType

import pytest
from rich.console import Console

from casarray.core.errors import Unavailable
from casarray.lab import figures


@pytest.mark.parametrize("name", figures.MEASURES)
def test_every_figure_has_a_function(name: str) -> None:
    pytest.importorskip("krb5")
    assert callable(figures.measure_of(name))


def test_a_library_that_is_missing_leaves_out_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    really = importlib.import_module

    def import_module(name: str) -> ModuleType:
        if name.endswith("measure_kerberos"):
            raise ModuleNotFoundError("No module named 'krb5'", name="krb5")
        return really(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(Unavailable, match="roll needs the library krb5: script/setup --tests"):
        figures.measure_of("roll")
    console = Console(record=True, width=200)
    assert set(figures.MEASURES) - set(figures.possible(console)) == {"roll", "spn-audit"}
    assert "left out: spn-audit needs the library krb5" in console.export_text()
