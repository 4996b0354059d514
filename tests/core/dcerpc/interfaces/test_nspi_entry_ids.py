"""Entry ids, octet by octet and against impacket."""

from uuid import UUID

import pytest
from impacket.dcerpc.v5 import nspi as impacket_nspi

from casarray.core.dcerpc.interfaces.nspi_entry_ids import (
    NSPI_PROVIDER,
    DisplayType,
    EntryId,
    EphemeralEntryId,
    PermanentEntryId,
    read_entry_id,
)
from casarray.core.errors import WireError

SERVER = UUID("00112233-4455-6677-8899-aabbccddeeff")
ADA = PermanentEntryId("/o=O/ou=G/cn=Recipients/cn=ada")

PERMANENT = bytes.fromhex(
    "00 000000"  # permanent, reserved
    "dca740c8 c042101a b4b908002b2fe182"  # the provider
    "01000000 01000000"  # version, a distribution list
    "2f6f3d4f 00"  # "/o=O" and its NUL
)
EPHEMERAL = bytes.fromhex(
    "87 000000"  # ephemeral, reserved
    "33221100 55447766 8899aabbccddeeff"  # the server
    "01000000 00000000 10000000"  # version, a user, number 16
)


def test_a_permanent_entry_id_is_laid_out_as_the_specification_says() -> None:
    entry = PermanentEntryId("/o=O", DisplayType.DISTRIBUTION_LIST)
    assert entry.to_octets() == PERMANENT
    assert read_entry_id(PERMANENT) == entry


def test_an_ephemeral_entry_id_is_laid_out_as_the_specification_says() -> None:
    assert EphemeralEntryId(SERVER, 16).to_octets() == EPHEMERAL
    assert read_entry_id(EPHEMERAL) == EphemeralEntryId(SERVER, 16)


def test_impacket_reads_both() -> None:
    theirs = impacket_nspi.PermanentEntryID(ADA.to_octets())
    assert str(theirs) == ADA.dn
    assert theirs["ProviderUID"] == impacket_nspi.GUID_NSPI == NSPI_PROVIDER.bytes_le
    number = impacket_nspi.EphemeralEntryID(EphemeralEntryId(SERVER, 16).to_octets())
    assert (number["ProviderUID"], number["MId"]) == (SERVER.bytes_le, 16)


@pytest.mark.parametrize("entry", [ADA, EphemeralEntryId(SERVER, 16)], ids=lambda entry: type(entry).__name__)
def test_an_entry_id_cut_anywhere_is_a_wire_error(entry: EntryId) -> None:
    octets = entry.to_octets()
    for cut in range(len(octets)):
        with pytest.raises(WireError):
            read_entry_id(octets[:cut])


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"\x01" + PERMANENT[1:], "another kind"),
        (PERMANENT[:4] + bytes(16) + PERMANENT[20:], "another provider"),
        (PERMANENT[:20] + b"\x02" + PERMANENT[21:], "another version"),
    ],
)
def test_a_foreign_entry_id_is_a_wire_error(octets: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        read_entry_id(octets)


def test_a_permanent_entry_id_is_not_taken_for_an_ephemeral_one() -> None:
    with pytest.raises(WireError, match="another kind"):
        EphemeralEntryId.from_octets(PERMANENT)


def test_a_dn_that_no_entry_id_can_carry_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="DN"):
        PermanentEntryId("/cn=€").to_octets()
