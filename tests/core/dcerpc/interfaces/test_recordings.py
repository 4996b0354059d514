"""The exchanges recorded in tests/captures/{nspi,emsmdb}, octet by octet, read and written again."""

from typing import Any

import pytest
from tests.core.dcerpc.conftest import read_capture
from tests.core.dcerpc.interfaces.address_book import RECORDED

with_every_recording = pytest.mark.parametrize(("name", "message"), RECORDED.items(), ids=RECORDED)


@with_every_recording
def test_a_recording_is_read_as_what_was_said(name: str, message: Any) -> None:
    assert type(message).decode(read_capture(name)) == message


@with_every_recording
def test_what_is_said_is_written_as_it_is_recorded(name: str, message: Any) -> None:
    assert message.encode() == read_capture(name)
