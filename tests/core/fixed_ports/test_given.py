"""Files that an administrator brings from a server: which of the two kinds, and several of one server together."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.fixed_ports.examples import AB, RPC

from casarray.core.errors import ConfigError
from casarray.core.fixed_ports.given import merged, read_given
from casarray.core.fixed_ports.registry_file import Export, Setting, registry_file
from casarray.core.fixed_ports.service_config import write_service_config
from casarray.core.fixed_ports.text import Encoding


@pytest.mark.parametrize("encoding", Encoding)
def test_a_registry_export_is_known_by_its_text(encoding: Encoding) -> None:
    assert read_given(registry_file(RPC, 5001, encoding), "f") == Export({RPC: Setting(5001)})


@pytest.mark.parametrize("mark", ["", "\ufeff", "\r\n\t "], ids=["as it is", "with a mark", "with blanks before it"])
def test_the_configuration_file_is_known_by_its_text(mark: str) -> None:
    text = write_service_config(5000, b"<configuration/>").decode()
    assert read_given((mark + text).encode(), "f") == Export({AB: Setting(5000)})


def test_the_configuration_file_may_be_in_utf_16() -> None:
    text = write_service_config(5000, b"<configuration/>").decode()
    assert read_given(text.encode("utf-16"), "f") == Export({AB: Setting(5000)})


def test_two_files_of_one_server_are_taken_together() -> None:
    both = merged([("a.reg", Export({RPC: Setting(5001)}, ("odd",))), ("b.reg", Export({AB: Setting(5000)}))])
    assert both == Export({RPC: Setting(5001), AB: Setting(5000)}, ("odd",))


def test_two_files_that_say_the_same_are_no_remark() -> None:
    same = Export({RPC: Setting(5001)})
    assert merged([("a.reg", same), ("b.reg", same)]) == same


def test_of_two_files_that_differ_the_later_one_is_taken_and_it_is_said() -> None:
    both = merged([("a.reg", Export({RPC: Setting(5001)})), ("b.reg", Export({RPC: Setting(None)}))])
    assert both.settings == {RPC: Setting(None)}
    assert both.remarks == ("a.reg and b.reg say different things of MSExchangeRPC; b.reg is taken",)


@given(st.binary(max_size=200) | st.text(alphabet="< \ufeff\n[]REGDIT4?xml", max_size=40).map(str.encode))
def test_any_bytes_end_in_an_export_or_a_config_error(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        read_given(data, "f")
