"""Registry files: written as regedit writes them, read as it reads them."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.errors import ConfigError
from casarray.core.fixed_ports.ports import RpcService
from casarray.core.fixed_ports.registry_file import Setting, key_of, read_export, registry_file
from casarray.core.fixed_ports.registry_text import LARGEST, MOST_VALUES
from casarray.core.fixed_ports.text import Encoding

RPC, AB = RpcService
RPC_KEY = r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\services\MSExchangeRPC\ParametersSystem"
AB_KEY = r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\services\MSExchangeAB\Parameters"
HEADER = "Windows Registry Editor Version 5.00\n\n"
#: As the page that describes the system prints it: seven digits, a small s in services.
PRINTED = f'{HEADER}[{RPC_KEY}]\n"TCP/IP Port"=dword:0001389\n\n[{AB_KEY}]\n"RpcTcpPort"="5000"\n'
BOTH = {RPC: Setting(5001), AB: Setting(5000)}


def rpc(line: str) -> Setting:
    """What a file with this in the key of MSExchangeRPC sets."""
    return read_export(f"{HEADER}[{RPC_KEY}]\n{line}\n".encode(), "f.reg").settings[RPC]


def ab(line: str) -> Setting:
    """What a file with this in the key of MSExchangeAB sets."""
    return read_export(f"{HEADER}[{AB_KEY}]\n{line}\n".encode(), "f.reg").settings[AB]


# Written.


def test_the_file_for_client_access_is_what_regedit_writes_byte_for_byte() -> None:
    text = f'Windows Registry Editor Version 5.00\r\n\r\n[{RPC_KEY}]\r\n"TCP/IP Port"=dword:00001389\r\n\r\n'
    assert registry_file(RPC, 5001) == b"\xff\xfe" + text.encode("utf-16-le")


def test_the_address_book_gets_a_string() -> None:
    text = f'Windows Registry Editor Version 5.00\r\n\r\n[{AB_KEY}]\r\n"RpcTcpPort"="5000"\r\n\r\n'
    assert registry_file(AB, 5000, Encoding.UTF_8) == text.encode()


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize("service", RpcService)
@given(port=st.integers(1, 65535))
def test_what_is_written_is_read_back(service: RpcService, encoding: Encoding, port: int) -> None:
    found = read_export(registry_file(service, port, encoding), "f")
    assert (found.settings, found.remarks) == ({service: Setting(port)}, ())


# Read: forms.


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_every_encoding_and_line_end_is_read(encoding: str, end: str) -> None:
    assert read_export(PRINTED.replace("\n", end).encode(encoding), "f").settings == BOTH


def test_big_endian_with_a_mark_is_read() -> None:
    assert read_export(b"\xfe\xff" + PRINTED.encode("utf-16-be"), "f").settings == BOTH


def test_the_older_header_is_read_with_whatever_code_page_it_came_in() -> None:
    text = PRINTED.replace(HEADER.strip(), "REGEDIT4") + '"Firma"="Köln"\n'
    assert read_export(text.encode("cp1252"), "f").settings == BOTH


@pytest.mark.parametrize("digits", ["1389", "01389", "0001389", "00001389"])
def test_a_dword_may_have_fewer_digits_than_eight(digits: str) -> None:
    assert rpc(f'"TCP/IP Port"=dword:{digits}') == Setting(5001)


@pytest.mark.parametrize(
    "line",
    [
        '"TCP/IP Port"=DWORD:0000138A',
        '"tcp/ip port" = dword:138a',
        '"TCP/IP Port"=dword:0000138a ; fixed in 2011',
        '"TCP/IP Port"=hex(4):8a,13,00,00',
        '"TCP/IP Port"=hex(4):8a,13,\\\n  00,00',
        '; "TCP/IP Port"=dword:1\n"TCP/IP Port"=dword:0000138a',
        '"Other"=hex:01,02,\\\n  03,04\n"TCP/IP Port"=dword:0000138a',
        '"Other"="a \\" quote, a [bracket]\nand a second line"\n"TCP/IP Port"=dword:0000138a',
        '@="[HKEY_LOCAL_MACHINE]"\n"TCP/IP Port"=dword:0000138a\n',
        'rubbish before\x00it\n"TCP/IP Port"=dword:0000138a',
    ],
    ids=range(10),
)
def test_other_spellings_say_the_same(line: str) -> None:
    assert rpc(line) == Setting(5002)


def test_a_string_may_be_given_by_its_octets() -> None:
    octets = ",".join(f"{octet:02x}" for octet in "5000\0".encode("utf-16-le"))
    assert ab(f'"RpcTcpPort"=hex(1):{octets}') == Setting(5000)


def test_other_keys_and_values_are_passed_over() -> None:
    text = (
        f'{HEADER}[HKEY_LOCAL_MACHINE\\SOFTWARE\\A]\n"TCP/IP Port"=dword:1\n"x"=hex(7):00\n[-HKEY_CURRENT_USER\\B]\n'
        f'[{RPC_KEY}]\n"Maximum Connections"=dword:00010000\n"TCP/IP Port"=dword:1389\n'
    )
    found = read_export(text.encode(), "f")
    assert (found.settings, found.remarks) == ({RPC: Setting(5001)}, ())


def test_a_key_without_the_value_means_a_dynamic_port() -> None:
    assert rpc('"Maximum Connections"=dword:1') == Setting(None)


def test_a_service_that_is_not_in_the_file_is_not_spoken_of() -> None:
    assert AB not in read_export(registry_file(RPC, 5001), "f").settings


@pytest.mark.parametrize("line", ['"TCP/IP Port"=dword:0', '"TCP/IP Port"=-'])
def test_zero_and_a_removed_value_mean_a_dynamic_port(line: str) -> None:
    assert rpc(line) == Setting(None)


@pytest.mark.parametrize("key", [RPC_KEY, RPC_KEY.rpartition("\\")[0], RPC_KEY.upper()])
def test_a_removed_key_takes_the_value_with_it(key: str) -> None:
    found = read_export(f"{PRINTED}\n[-{key}]\n".encode(), "f")
    assert found.settings == {RPC: Setting(None), AB: Setting(5000)}


def test_a_value_that_is_set_again_after_its_removal_counts() -> None:
    assert rpc(f'"TCP/IP Port"=-\n[-{RPC_KEY}]\n[{RPC_KEY}]\n"TCP/IP Port"=dword:1389') == Setting(5001)


# Read: mistakes.


def test_a_value_that_stands_there_twice_is_reported_and_the_last_one_counts() -> None:
    text = f'{HEADER}[{RPC_KEY}]\n"TCP/IP Port"=dword:1\n"TCP/IP Port"=dword:1389\n'
    found = read_export(text.encode(), "f")
    assert found.settings == {RPC: Setting(5001)}
    assert found.remarks == ('f: "TCP/IP Port" stands there 2 times, on the lines 4 and 5; the last one counts',)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('"TCP/IP Port"="5001"', "is REG_SZ, but MSExchangeRPC reads REG_DWORD alone and ignores it"),
        ('"TCP/IP Port"=hex(b):89,13,00,00,00,00,00,00', "is REG_QWORD, but"),
        ('"TCP/IP Port"=hex:89,13,00,00', "is REG_BINARY, but"),
        ('"TCP/IP Port"=hex(99):00', "is a value of an unusual type, but"),
        ('"TCP/IP Port"=dword:00010000', "is 65536, and the last port is 65535"),
        ('"TCP/IP Port"=dword:ffffffff', 'is "4294967295", which is no port'),
        ('"TCP/IP Port"=dword:000001389', "is not readable"),
        ('"TCP/IP Port"=dword:', "is not readable"),
        ('"TCP/IP Port"=dword:13x9', "is not readable"),
        ('"TCP/IP Port"=hex(4):89,13', "is not readable"),
        ('"TCP/IP Port"=hex(4):8913', "is not readable"),
        ('"TCP/IP Port"=5001', "is not readable"),
    ],
)
def test_a_port_of_client_access_without_effect_says_why_and_what_to_do(line: str, what: str) -> None:
    found = rpc(line)
    assert found.port is None
    assert found.problem.startswith('f.reg:4: "TCP/IP Port"')
    assert what in found.problem
    assert "casarray ports export" in found.problem


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('"RpcTcpPort"=dword:00001388', "is REG_DWORD, but MSExchangeAB reads REG_SZ alone and ignores it"),
        ('"RpcTcpPort"="port 5000"', 'is "port 5000", which is no port'),
        ('"RpcTcpPort"="-5000"', "which is no port"),
        ('"RpcTcpPort"=""', "which is no port"),
        ('"RpcTcpPort"="\uff15\uff10\uff10\uff10"', "which is no port"),
        ('"RpcTcpPort"="70000"', "is 70000, and the last port is 65535"),
        ('"RpcTcpPort"="5000" and more', "is not readable"),
    ],
)
def test_a_port_of_the_address_book_without_effect_says_why(line: str, what: str) -> None:
    found = ab(line)
    assert found.port is None
    assert what in found.problem


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (f'[{RPC_KEY}]\n"RpcTcpPort"="5000"', 'is the other service\'s value; MSExchangeRPC reads "TCP/IP Port"'),
        (f"[{RPC_KEY}]\nTCP/IP Port=dword:1389", "is not understood, and regedit passes over it"),
        (f'[{RPC_KEY.removesuffix("System")}]\n"TCP/IP Port"=dword:1389', "where nobody reads it"),
        (f'[{AB_KEY.replace("Current", "").replace("Set", "Set002")}]\n"RpcTcpPort"="1"', "export CurrentControlSet"),
    ],
    ids=["the other's value", "no quotes", "another key", "another control set"],
)
def test_what_nobody_reads_is_remarked_with_its_line(text: str, remark: str) -> None:
    (found,) = read_export(f"{HEADER}{text}\n".encode(), "f").remarks
    assert remark in found
    assert found.startswith("f:4: ")


@pytest.mark.parametrize("text", ["", "\n\n", "[HKEY_LOCAL_MACHINE]\n", "<?xml?>", "Windows Registry Editor Version 4"])
def test_what_is_no_registry_file_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="f:[0-9]: this is no export of the registry"):
        read_export(text.encode(), "f")


def test_a_quote_that_is_never_closed_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"f:4: the quote that opens here is never closed"):
        read_export(f'{HEADER}[A]\n"x"="never\nclosed\n'.encode(), "f")


def test_an_export_of_a_whole_disk_is_not_read() -> None:
    with pytest.raises(ConfigError, match="export only the keys"):
        read_export(b" " * (LARGEST + 1), "f")


def test_no_more_values_are_kept_than_a_sane_file_has() -> None:
    text = HEADER + f"[{RPC_KEY}]\n" + '"TCP/IP Port"=dword:1\n' * (MOST_VALUES + 1)
    with pytest.raises(ConfigError, match="again and again"):
        read_export(text.encode(), "f")


@pytest.mark.parametrize(
    "piece", ['"a"="\\\\', '"', "[x\n", '"a"=hex:01,\\\n', "\\\\", '@="\\"', "dword:", ";\n", "hex(", "\r"]
)
def test_no_text_takes_more_than_its_length(piece: str) -> None:
    text = HEADER + f"[{RPC_KEY}]\n" + piece * (400_000 // len(piece))
    began = time.perf_counter()
    with contextlib.suppress(ConfigError):
        read_export(text.encode(), "f")
    assert time.perf_counter() - began < 5


PIECES = st.sampled_from([
    HEADER, "REGEDIT4\n", f"[{RPC_KEY}]", f"[-{RPC_KEY}]", f"[{AB_KEY}]", "\n", "\r\n", '"TCP/IP Port"',
    '"RpcTcpPort"', "=", "dword:", "1389", "hex(4):", "hex:", "00,", "\\", "\\\n", '"', '"5000"', "-", "@", ";", "]",
    "[", "\ufeff", "\0",
])  # fmt: skip


@given(
    st.binary(max_size=300)
    | st.lists(PIECES, max_size=25).map(lambda parts: "".join(parts).encode())
    | st.lists(PIECES, max_size=25).map(lambda parts: (HEADER + "".join(parts)).encode("utf-16"))
)
def test_any_bytes_end_in_settings_or_a_config_error(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        for setting in read_export(data, "f").settings.values():
            assert setting.port is None or 1 <= setting.port <= 65535


def test_the_keys_are_those_that_exchange_reads() -> None:
    assert (key_of(RPC), key_of(AB)) == (RPC_KEY, AB_KEY)
