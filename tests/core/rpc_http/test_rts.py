"""RTS PDUs against their annotated recordings, against impacket, and cut and spoilt in every way."""

import contextlib
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from impacket.dcerpc.v5 import rpch

from casarray.core.errors import WireError
from casarray.core.rpc_http import messages as m
from casarray.core.rpc_http.rts import (
    MOST_OCTETS,
    Ack,
    Command,
    Kind,
    Party,
    RtsPdu,
    decode_rts,
    take_all,
    take_raw,
)

V, G = UUID("11111111-2222-3333-4444-555555555555"), UUID("99999999-8888-7777-6666-555555555555")
OUT, OUT2 = UUID("0a0a0a0a-0000-0000-0000-000000000001"), UUID("0a0a0a0a-0000-0000-0000-000000000003")
IN, IN2 = UUID("0b0b0b0b-0000-0000-0000-000000000002"), UUID("0b0b0b0b-0000-0000-0000-000000000004")
WINDOW, LIFE, TIMEOUT = 65536, 1 << 30, 900_000
ACK = 40_000, 65_536

RECORDED: dict[str, m.Message] = {
    "conn_a1": m.ConnA1(1, V, OUT, WINDOW),
    "conn_a2": m.ConnA2(1, V, OUT, LIFE, WINDOW),
    "conn_a3": m.ConnA3(TIMEOUT),
    "conn_b1": m.ConnB1(1, V, IN, LIFE, 300_000, G),
    "conn_b2": m.ConnB2(1, V, IN, WINDOW, TIMEOUT, G, ip_address("10.11.0.31")),
    "conn_b3": m.ConnB3(WINDOW, 1),
    "conn_c2": m.ConnC(1, WINDOW, TIMEOUT),
    "echo": m.Echo(),
    "ping": m.Ping(),
    "keep_alive": m.KeepAlive(60_000),
    "ping_traffic_sent": m.PingTrafficSent(20),
    "flow_control_ack": m.FlowControlAck(Ack(*ACK, IN)),
    "flow_control_ack_to": m.FlowControlAckTo(Party.OUT_PROXY, Ack(*ACK, OUT)),
    "in_r1_a1": m.InR1A1(1, V, IN, IN2),
    "in_r2_a4": m.InR2A4(),
    "in_r2_a5": m.ChannelCookie(IN2),
    "out_r2_a2": m.OutR2A2(),
    "out_r2_a3": m.OutR2A3(1, V, OUT, OUT2, WINDOW),
    "out_r2_a6": m.OutR2A6(),
    "out_r2_a7": m.OutR2A7(Party.SERVER, OUT2, 1),
    "out_r2_a8": m.OutR2A8(Party.SERVER, OUT2),
    "out_r2_b1": m.OutR2B1(),
    "out_r2_b3": m.OutR2B3(),
    "out_r2_c1": m.OutR2C1(),
}
FOLDER = Path(__file__).parents[2] / "captures" / "rpc_http"


def recorded(name: str) -> bytes:
    lines = (FOLDER / f"{name}.hex").read_text().splitlines()
    return bytes.fromhex("".join(line.partition(";")[0] for line in lines))


@pytest.mark.parametrize("name", RECORDED)
def test_what_was_recorded_is_read_and_written_again(name: str) -> None:
    message = RECORDED[name]
    assert type(message).read(decode_rts(recorded(name))) == message
    assert message.encode() == recorded(name)


def test_every_recording_is_looked_at() -> None:
    assert {path.stem for path in FOLDER.glob("*.hex")} == set(RECORDED)


def test_first_words_are_as_long_as_their_requests_say() -> None:
    assert len(recorded("conn_a1")) == 76
    assert len(recorded("out_r2_a3") + recorded("out_r2_c1")) == 120
    assert recorded("echo").hex() == "0500140310000000140000000000000040000000"


@pytest.mark.parametrize("name", RECORDED)
def test_no_recording_is_taken_for_another_message(name: str) -> None:
    rts = decode_rts(recorded(name))
    assert {type(message) for message in RECORDED.values() if type(message).matches(rts)} == {type(RECORDED[name])}


@pytest.mark.parametrize("name", RECORDED)
def test_a_cut_pdu_waits_and_a_cut_body_is_a_wire_error(name: str) -> None:
    raw = recorded(name)
    for cut in range(len(raw)):
        assert take_raw(bytearray(raw[:cut])) is None
        with pytest.raises(WireError):
            decode_rts(raw[:cut])


def test_impacket_writes_the_same_octets() -> None:
    assert rpch.hCONN_A1(V.bytes_le, OUT.bytes_le, WINDOW) == recorded("conn_a1")
    theirs = m.ConnB1.read(decode_rts(rpch.hCONN_B1(V.bytes_le, IN.bytes_le, G.bytes_le)))
    assert (theirs.connection, theirs.channel, theirs.group) == (V, IN, G)
    assert rpch.hPing() == recorded("ping")
    assert rpch.hFlowControlAckWithDestination(3, *ACK, OUT.bytes_le) == recorded("flow_control_ack_to")


def test_impacket_reads_what_a_proxy_says() -> None:
    a3 = rpch.CONN_A3_RTS_PDU(rpch.RTSHeader(recorded("conn_a3"))["pduData"])
    assert a3["ConnectionTimeout"]["ConnectionTimeout"] == TIMEOUT
    c2 = rpch.CONN_C2_RTS_PDU(rpch.RTSHeader(recorded("conn_c2"))["pduData"])
    assert c2["ReceiveWindowSize"]["ReceiveWindowSize"] == WINDOW


@pytest.mark.parametrize(
    "command",
    [
        Command(Kind.RECEIVE_WINDOW_SIZE, 8191),
        Command(Kind.RECEIVE_WINDOW_SIZE, 262_145),
        Command(Kind.CONNECTION_TIMEOUT, 119_999),
        Command(Kind.CONNECTION_TIMEOUT, 14_400_001),
        Command(Kind.CHANNEL_LIFETIME, 131_071),
        Command(Kind.CHANNEL_LIFETIME, (2 << 30) + 1),
        Command(Kind.DESTINATION, 4),
    ],
)
def test_what_the_specification_forbids_is_refused(command: Command) -> None:
    with pytest.raises(WireError, match="range"):
        decode_rts(RtsPdu(0, (command,)).encode())


def test_padding_is_stepped_over() -> None:
    padded = RtsPdu(0, (Command(Kind.PADDING, bytes(13)), Command(Kind.CONNECTION_TIMEOUT, TIMEOUT)))
    assert m.ConnA3.read(decode_rts(padded.encode())).timeout == TIMEOUT


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda raw: raw[:3] + b"\1" + raw[4:], id="not the last fragment"),
        pytest.param(lambda raw: raw[:4] + b"\0" + raw[5:], id="big-endian"),
        pytest.param(lambda raw: raw[:18] + b"\x11\0" + raw[20:], id="17 commands"),
        pytest.param(lambda raw: raw[:18] + b"\0\0" + raw[20:], id="octets nobody accounts for"),
        pytest.param(lambda raw: raw[:20] + b"\x0f\0\0\0" + raw[24:], id="an unknown command"),
        pytest.param(lambda raw: raw[:2] + b"\2" + raw[3:], id="no RTS PDU"),
    ],
)
def test_a_spoilt_pdu_is_a_wire_error(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(WireError):
        decode_rts(spoil(recorded("conn_a1")))


def test_an_rts_pdu_without_end_is_refused_before_it_has_come() -> None:
    header = bytearray(recorded("ping")[:16])
    header[8:10] = (MOST_OCTETS + 1).to_bytes(2, "little")
    with pytest.raises(WireError, match="oversize"):
        take_raw(header)


@given(st.binary(max_size=200))
def test_any_octets_end_in_a_value_or_a_wire_error(octets: bytes) -> None:
    with contextlib.suppress(WireError):
        list(take_all(bytearray(octets)))
    with contextlib.suppress(WireError):
        decode_rts(recorded("ping")[:8] + (20 + len(octets)).to_bytes(2, "little") + bytes(6) + b"\0\0\3\0" + octets)
