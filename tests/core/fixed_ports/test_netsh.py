"""Output of netsh in the languages and encodings it comes in."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.errors import ConfigError
from casarray.core.fixed_ports.netsh import LARGEST, read_netsh
from casarray.core.fixed_ports.ports import DynamicRange

ENGLISH = """
Protocol tcp Dynamic Port Range
---------------------------------
Start Port      : 6005
Number of Ports : 59530

"""
GERMAN = """
Protokoll tcp Dynamischer Portbereich
---------------------------------
Startport              : 49152
Anzahl von Ports       : 16384

"""
FRENCH = """
Plage de ports dynamiques du protocole tcp
---------------------------------
Port de démarrage   : 49152
Nombre de ports     : 16384
"""
JAPANESE = "\nプロトコル tcp の動的ポートの範囲\n---------------------\n開始ポート      : 6005\nポートの数 : 59530\n"
UDP = ENGLISH.replace("tcp", "udp").replace("6005", "49152").replace("59530", "16384")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (ENGLISH, DynamicRange(6005, 59530)),
        (GERMAN, DynamicRange(49152, 16384)),
        (FRENCH, DynamicRange(49152, 16384)),
        (JAPANESE, DynamicRange(6005, 59530)),
        ("Start Port : 1025\nNumber of Ports : 64511\n", DynamicRange(1025, 64511)),
        ("C:\\>netsh int ipv4 show dynamicport tcp\n" + ENGLISH + "C:\\>\n", DynamicRange(6005, 59530)),
    ],
    ids=["English", "German", "French", "Japanese", "without the heading", "with the prompt"],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_first_number_is_the_start_and_the_second_the_count(
    text: str, wanted: DynamicRange, end: str, encoding: str
) -> None:
    assert read_netsh(text.replace("\n", end).encode(encoding), "f") == wanted


def test_a_code_page_of_cmd_does_no_harm() -> None:
    assert read_netsh(FRENCH.encode("cp850"), "f") == DynamicRange(49152, 16384)


@pytest.mark.parametrize("text", [ENGLISH + UDP, UDP + ENGLISH], ids=["tcp first", "udp first"])
def test_of_tcp_and_udp_in_one_file_tcp_counts(text: str) -> None:
    assert read_netsh(text.encode(), "f") == DynamicRange(6005, 59530)


def test_the_last_port_there_is_may_be_in_the_range() -> None:
    assert read_netsh(b"a : 6005\nb : 59531\n", "f").last == 65535


@pytest.mark.parametrize(
    "text",
    ["", "no numbers here", "Start Port : 6005\n", ENGLISH + ENGLISH, UDP],
    ids=["nothing", "no numbers", "one number", "two ranges", "udp alone"],
)
def test_what_has_not_two_numbers_is_refused_with_the_command_to_run(text: str) -> None:
    with pytest.raises(ConfigError, match="cas1.txt: .* numbers? for TCP.*netsh int ipv4 show dynamicport tcp"):
        read_netsh(text.encode(), "cas1.txt")


@pytest.mark.parametrize(("start", "count"), [(6005, 59532), (0, 10), (70000, 1), (6005, 0), (49152, 65535)])
def test_a_range_that_cannot_be_is_refused(start: int, count: int) -> None:
    with pytest.raises(ConfigError, match="not the last port"):
        read_netsh(f"Start Port : {start}\nNumber of Ports : {count}\n".encode(), "f")


def test_a_file_that_is_far_too_large_is_not_read() -> None:
    with pytest.raises(ConfigError, match="no output of netsh"):
        read_netsh(b" " * (LARGEST + 1), "f")


@given(st.binary(max_size=400) | st.text(alphabet="0123456789: tcpudp\r\n-", max_size=200).map(str.encode))
def test_any_bytes_end_in_a_range_or_a_config_error(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        found = read_netsh(data, "f")
        assert 1 <= found.start <= found.last <= 65535
