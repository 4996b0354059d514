"""The assembler against octets that follow from the instruction set's specification, RFC 9669.

An instruction is an operation, the registers (destination in the low four bits, source in the high ones), an offset of
16 bits and a constant of 32, all of them little-endian. An operation's low three bits are its class.
"""

import struct
from collections.abc import Callable

import pytest

from casarray.core.forwarding.bpf import Program, Register

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = Register

LDX, ST, STX, JMP, ALU64 = 1, 2, 3, 5, 7  # classes, RFC 9669 table 2
MEM = 0x60  # mode "regular load and store operations"
SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}  # B, H, W, DW
CODES = {"+": 0x0, "-": 0x1, "|": 0x4, "&": 0x5, "<<": 0x6, ">>": 0x7, "^": 0xA, "=": 0xB}  # table 5
JUMPS = {"==": 0x1, ">": 0x2, ">=": 0x3, "!=": 0x5, "<": 0xA, "<=": 0xB}  # table 9, the unsigned ones
FROM_REGISTER = 0x08


def octets(ask: Callable[[Program], object], **descriptors: int) -> bytes:
    program = Program()
    ask(program)
    return program.assembled(descriptors)


def with_end(ask: Callable[[Program], object]) -> bytes:
    """The instructions before a label "end", on which nothing else stands."""

    def asked(program: Program) -> None:
        ask(program)
        program.label("end")
        program.leave()

    return octets(asked)[:-8]


@pytest.mark.parametrize(
    ("ask", "wanted"),
    [
        (lambda p: p.exit(-1), "b7 00 0000 ffffffff  95 00 0000 00000000"),
        (lambda p: p.leave(), "95 00 0000 00000000"),
        (lambda p: p.call(23), "85 00 0000 17000000"),
        (lambda p: p.load(2, R7, R6, 12), "69 67 0c00 00000000"),
        (lambda p: p.load(8, R1, R10, -16), "79 a1 f0ff 00000000"),
        (lambda p: p.store(4, R10, -20, R2), "63 2a ecff 00000000"),
        (lambda p: p.store(4, R10, -20, 5), "62 0a ecff 05000000"),
        (lambda p: p.address(R2, R10, -16), "bf a2 0000 00000000  07 02 0000 f0ffffff"),
        (lambda p: p.copy(1, R10, -1, R7, 3), "71 75 0300 00000000  73 5a ffff 00000000"),
        (lambda p: p.do(R2, "&", 0x17), "57 02 0000 17000000"),
        (lambda p: p.do(R9, "+", R5), "0f 59 0000 00000000"),
    ],
)
def test_instructions_are_the_specifications_octets(ask: Callable[[Program], object], wanted: str) -> None:
    assert octets(ask) == bytes.fromhex(wanted)


@pytest.mark.parametrize("size", SIZES)
def test_memory_is_read_and_written_in_every_size(size: int) -> None:
    assert octets(lambda p: p.load(size, R3, R8, 4))[:2] == bytes((LDX | MEM | SIZES[size], 0x83))
    assert octets(lambda p: p.store(size, R8, 4, R3))[:2] == bytes((STX | MEM | SIZES[size], 0x38))
    assert octets(lambda p: p.store(size, R8, 4, 3))[:2] == bytes((ST | MEM | SIZES[size], 0x08))


@pytest.mark.parametrize("operation", CODES)
def test_every_operation_is_in_64_bits_on_a_constant_or_a_register(operation: str) -> None:
    code = CODES[operation] << 4 | ALU64
    assert octets(lambda p: p.do(R4, operation, -2)) == struct.pack("<BBhi", code, 0x04, 0, -2)
    assert octets(lambda p: p.do(R4, operation, R6)) == struct.pack("<BBhi", code | FROM_REGISTER, 0x64, 0, 0)


@pytest.mark.parametrize("condition", JUMPS)
def test_every_condition_is_unsigned_and_on_a_constant_or_a_register(condition: str) -> None:
    code = JUMPS[condition] << 4 | JMP
    assert with_end(lambda p: p.when(R4, condition, 9, "end")) == struct.pack("<BBhi", code, 0x04, 0, 9)
    assert with_end(lambda p: p.when(R4, condition, R6, "end")) == struct.pack("<BBhi", code | 8, 0x64, 0, 0)


def test_an_unconditional_jump_counts_what_it_leaps_over() -> None:
    def ask(program: Program) -> None:
        program.goto("end")
        program.leave()
        program.leave()

    assert with_end(ask)[:8] == bytes.fromhex("05 00 0200 00000000")


def test_the_label_on_the_next_instruction_is_a_jump_over_nothing() -> None:
    assert with_end(lambda p: p.goto("end")) == bytes.fromhex("05 00 0000 00000000")


def test_jumps_from_different_places_lead_to_the_same_label() -> None:
    def ask(program: Program) -> None:
        program.when(R1, "==", 0, "end")
        program.do(R2, "=", 0)
        program.goto("end")
        program.do(R3, "=", 0)

    code = with_end(ask)
    assert [struct.unpack_from("<h", code, at + 2)[0] for at in range(0, len(code), 8)] == [3, 0, 1, 0]


@pytest.mark.parametrize(("ask", "kind"), [(Program.map, 1), (Program.map_value, 2)])
def test_a_maps_descriptor_is_a_constant_of_two_instructions(
    ask: Callable[[Program, Register, str], None], kind: int
) -> None:
    wanted = struct.pack("<BBhi", 0x18, R7 | kind << 4, 0, 0x1234) + bytes(8)
    assert octets(lambda p: ask(p, R7, "one"), one=0x1234, other=5) == wanted


@pytest.mark.parametrize("ask", [Program.map, Program.map_value])
def test_both_halves_of_a_constant_are_leapt_over(ask: Callable[[Program, Register, str], None]) -> None:
    def asked(program: Program) -> None:
        program.goto("end")
        ask(program, R1, "one")
        program.label("end")
        program.leave()

    assert octets(asked, one=3)[:8] == bytes.fromhex("05 00 0200 00000000")


def test_each_map_gets_its_own_descriptor() -> None:
    def ask(program: Program) -> None:
        for name in ("a", "b", "a"):
            program.map(R1, name)

    code = octets(ask, a=3, b=4)
    assert [struct.unpack_from("<i", code, at + 4)[0] for at in (0, 16, 32)] == [3, 4, 3]


def test_the_same_program_can_be_assembled_for_other_maps() -> None:
    program = Program()
    program.map(R1, "a")
    assert program.assembled({"a": 3}) != program.assembled({"a": 4})


def test_a_label_that_stands_twice_is_refused_by_its_name() -> None:
    program = Program()
    program.label("here")
    program.leave()
    with pytest.raises(ValueError, match="label here stands twice"):
        program.label("here")


def test_a_jump_to_nowhere_is_refused() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        octets(lambda p: p.goto("nowhere"))


def test_a_map_that_is_not_there_is_refused() -> None:
    with pytest.raises(KeyError, match="missing"):
        octets(lambda p: p.map(R1, "missing"), other=3)


@pytest.mark.parametrize("operation", ["*", "", "=="])
def test_an_operation_that_is_none_is_refused(operation: str) -> None:
    with pytest.raises(KeyError):
        Program().do(R1, operation, 0)


@pytest.mark.parametrize("too_big", [1 << 31, -(1 << 31) - 1])
def test_a_constant_that_does_not_fit_is_refused_and_not_cut_off(too_big: int) -> None:
    with pytest.raises(struct.error):
        octets(lambda p: p.do(R1, "=", too_big))
