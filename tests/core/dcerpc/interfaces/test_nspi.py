"""NSPI against bytes of the specification's shape and against impacket."""

from uuid import UUID

from impacket.dcerpc.v5 import nspi as impacket_nspi

from casarray.core.dcerpc.interfaces.nspi import NspiBind, NspiBindReply, NspiUnbind, NspiUnbindReply, Stat
from casarray.core.dcerpc.ndr import ContextHandle

GUID = UUID("00112233-4455-6677-8899-aabbccddeeff")
HANDLE = ContextHandle(UUID("11223344-5566-7788-99aa-bbccddeeff00"))

BIND = bytes.fromhex(
    "00000000"  # flags
    + "00" * 24  # sort type, container, record, delta, position, total
    + "e4040000 09040000 09040000"  # code page 1252, locales
    "00000200" + "00" * 16  # pointer to a GUID
)


def test_a_bind_is_laid_out_as_the_specification_says() -> None:
    assert NspiBind().encode() == BIND
    assert len(BIND) == 60


def test_a_servers_guid_is_octets_and_has_no_byte_order() -> None:
    little, big = NspiBindReply(GUID).encode("little"), NspiBindReply(GUID).encode("big")
    assert little[4:20] == big[4:20] == GUID.bytes_le


def test_impackets_bind_is_ours_but_for_the_number_of_its_pointer() -> None:
    asked = impacket_nspi.NspiBind()
    asked["dwFlags"] = 2
    asked["pStat"]["CurrentRec"] = 77
    asked["pStat"]["Delta"] = -3
    asked["pStat"]["CodePage"] = 1252
    asked["pServerGuid"] = GUID.bytes_le
    stat = Stat(current_record=77, delta=-3, template_locale=0, sort_locale=0)
    octets = asked.getData()
    assert NspiBind.decode(octets) == NspiBind(2, stat, GUID)
    ours = NspiBind(2, stat, GUID).encode()
    assert (ours[:40], ours[44:]) == (octets[:40], octets[44:])


def test_impacket_reads_our_answer_to_a_bind() -> None:
    answer = impacket_nspi.NspiBindResponse(NspiBindReply(GUID, HANDLE, 5).encode())
    assert answer["pServerGuid"] == GUID.bytes_le
    assert answer["contextHandle"]["context_handle_uuid"] == HANDLE.uuid.bytes_le
    assert answer["ErrorCode"] == 5


def test_impackets_unbind_is_ours_to_the_byte_and_it_reads_our_answer() -> None:
    asked = impacket_nspi.NspiUnbind()
    asked["contextHandle"]["context_handle_uuid"] = HANDLE.uuid.bytes_le
    asked["Reserved"] = 0
    assert asked.getData() == NspiUnbind(HANDLE).encode()
    answer = impacket_nspi.NspiUnbindResponse(NspiUnbindReply().encode())
    assert answer["ErrorCode"] == 1
    assert answer["contextHandle"]["context_handle_uuid"] == bytes(16)
