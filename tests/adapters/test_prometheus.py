"""The metrics' text is a golden file, and another parser reads it."""

import os
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from tests.faces.fake_gateway import CAS1, STATUS

from casarray.adapters.prometheus import exposition
from casarray.app.counters import METRICS

GOLDEN = Path(__file__).parent.parent / "golden" / "metrics.txt"


def test_the_metrics_are_as_reviewed() -> None:
    text = exposition(lambda: STATUS).decode()
    if "CASARRAY_UPDATE_GOLDEN" in os.environ:
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_a_scraper_reads_every_metric() -> None:
    families = {family.name: family for family in text_string_to_metric_families(exposition(lambda: STATUS).decode())}
    assert {metric.name.removesuffix("_total") for metric in METRICS} == set(families)
    assert all(family.samples for family in families.values())


def test_labels_with_odd_characters_survive() -> None:
    array = STATUS.arrays[0]
    group = replace(array.groups[0], members=(replace(CAS1, name='a"b\\c\nd'),))
    text = exposition(lambda: replace(STATUS, arrays=(replace(array, groups=(group,)),))).decode()
    members = {s.labels.get("member") for f in text_string_to_metric_families(text) for s in f.samples}
    assert 'a"b\\c\nd' in members
