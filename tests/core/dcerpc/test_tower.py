from ipaddress import IPv4Address
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.dcerpc.syntax import NDR, NDR64, Syntax
from casarray.core.dcerpc.tower import (
    CONNECTION,
    DATAGRAM,
    HTTP,
    MAX_TOWER,
    NETBIOS,
    SMB,
    TCP,
    UDP,
    Floor,
    Tower,
    syntax_floor,
)
from casarray.core.errors import WireError

EMSMDB = Syntax(UUID("a4f1db00-ca47-1067-b31f-00dd010662da"), 0, 81)
HOST = IPv4Address("10.1.1.3")
TOWER = bytes.fromhex(
    "0500"  # five floors
    "13000d00dbf1a447ca6710b31f00dd010662da000002005100"  # EMSMDB, major 0 | minor 81
    "13000d045d888aeb1cc9119fe808002b104860020002000000"  # NDR, major 2 | minor 0
    "01000b02000000"  # connection-oriented RPC | minor 0
    "0100070200e88c"  # TCP | port 59532 in network order
    "01000904000a010103"  # IP | 10.1.1.3
)


def test_a_tcp_tower_says_what_where_and_how() -> None:
    tower = Tower.decode(TOWER)
    assert tower == Tower.tcp(EMSMDB, 59532, HOST)
    assert (tower.interface, tower.transfer, tower.rpc_protocol) == (EMSMDB, NDR, CONNECTION)
    assert (tower.transport, tower.port, tower.address, tower.pipe_name) == (TCP, 59532, HOST, None)
    assert tower.encode() == TOWER
    assert len(TOWER) == 75


def test_a_tower_knows_where_its_host_and_port_lie() -> None:
    tower = Tower.decode(TOWER)
    assert (tower.port_at, tower.host_at) == (64, 71)
    assert TOWER[64:66] == b"\xe8\x8c"
    assert TOWER[71:75] == HOST.packed


def test_changing_the_octets_in_place_is_moving_the_tower() -> None:
    octets = bytearray(TOWER)
    octets[71:75] = IPv4Address("192.0.2.9").packed
    octets[64:66] = (135).to_bytes(2, "big")
    assert Tower.decode(bytes(octets)) == Tower.decode(TOWER).moved_to(port=135, address=IPv4Address("192.0.2.9"))


@pytest.mark.parametrize(
    ("tower", "transport", "protocol", "port", "pipe"),
    [
        (Tower.tcp(EMSMDB, 1, HOST, NDR64), TCP, CONNECTION, 1, None),
        (Tower.http(EMSMDB, 593, HOST), HTTP, CONNECTION, 593, None),
        (Tower.udp(EMSMDB, 138, HOST), UDP, DATAGRAM, 138, None),
        (Tower.pipe(EMSMDB, r"\pipe\epmapper", "CAS1"), SMB, CONNECTION, None, r"\pipe\epmapper"),
    ],
)
def test_towers_over_every_transport_survive_the_round_trip(
    tower: Tower, transport: int, protocol: int, port: int | None, pipe: str | None
) -> None:
    again = Tower.decode(tower.encode())
    assert again == tower
    assert (again.transport, again.rpc_protocol, again.port, again.pipe_name) == (transport, protocol, port, pipe)
    assert again.interface == EMSMDB


def test_a_pipe_tower_has_neither_host_octets_nor_a_port() -> None:
    tower = Tower.pipe(EMSMDB, r"\pipe\x", "CAS1")
    assert (tower.host_at, tower.port_at, tower.address) == (None, None, None)
    assert tower.floors[4] == Floor(NETBIOS, b"", b"CAS1\0")
    assert tower.moved_to(port=9, address=HOST) == tower


def test_floors_that_nobody_knows_are_kept_as_they_are() -> None:
    floors = (syntax_floor(EMSMDB), Floor(0x77, b"left", b"right"), Floor(0x00, b"", b""), Floor(TCP, b"?", b"\0\1\2"))
    tower = Tower.decode(Tower(floors).encode())
    assert tower.floors == floors
    assert (tower.transfer, tower.port, tower.address, tower.host_at) == (None, None, None, None)


def test_offsets_count_what_stands_before_them() -> None:
    floors = (*Tower.tcp(EMSMDB, 7, HOST).floors[:3], Floor(TCP, b"abc", b"\0\7"), Floor(9, b"xy", HOST.packed))
    tower = Tower(floors)
    octets = tower.encode()
    assert tower.port_at is not None
    assert tower.host_at is not None
    assert octets[tower.port_at :][:2] == b"\0\7"
    assert octets[tower.host_at :][:4] == HOST.packed


@pytest.mark.parametrize("cut", range(len(TOWER)))
def test_a_cut_tower_is_a_wire_error(cut: int) -> None:
    with pytest.raises(WireError):
        Tower.decode(TOWER[:cut])


@pytest.mark.parametrize(
    "octets",
    [
        b"\7\0" + b"\1\0\x0b\2\0\0\0" * 7,  # seven floors
        TOWER + b"\0",  # an octet after the last floor
        b"\1\0\0\0\0\0",  # a floor that names no protocol
        b"\1\0" + b"\1\0\x07" + (MAX_TOWER).to_bytes(2, "little") + bytes(MAX_TOWER),  # too long
    ],
)
def test_towers_that_cannot_be_are_refused(octets: bytes) -> None:
    with pytest.raises(WireError) as caught:
        Tower.decode(octets)
    assert caught.value.kind == "tower"


def test_six_floors_and_no_floors_are_read() -> None:
    assert len(Tower.decode(b"\6\0" + b"\1\0\x0b\2\0\0\0" * 6).floors) == 6
    assert Tower.decode(b"\0\0") == Tower(())
    assert Tower(()).interface is None


@given(st.binary(max_size=200))
def test_any_octets_are_a_tower_or_a_wire_error(octets: bytes) -> None:
    _read_or_refuse(octets)


@given(st.data())
def test_a_tower_with_octets_changed_is_a_tower_or_a_wire_error(data: st.DataObject) -> None:
    octets = bytearray(TOWER)
    for at in data.draw(st.lists(st.integers(0, len(TOWER) - 1), max_size=4)):
        octets[at] = data.draw(st.integers(0, 255))
    _read_or_refuse(bytes(octets))


def _read_or_refuse(octets: bytes) -> None:
    try:
        tower = Tower.decode(octets)
    except WireError:
        return
    assert tower.encode() == octets
    for look in ("interface", "transfer", "rpc_protocol", "transport", "port", "pipe_name", "address", "port_at"):
        getattr(tower, look)
    assert len(tower.moved_to(port=1, address=HOST).encode()) == len(octets)
    if tower.host_at is not None:
        assert tower.address is not None
        assert octets[tower.host_at : tower.host_at + 4] == tower.address.packed
