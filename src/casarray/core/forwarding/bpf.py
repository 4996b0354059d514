"""An assembler for the kernel's BPF machine: eleven registers, labels, maps by name. It knows nothing of networks.

Source: Linux `Documentation/bpf/standardization/instruction-set.rst`. For little-endian machines, which is all that
casarray's own programs are made for: they compare octets of packets with constants.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

_INSTRUCTION = struct.Struct("<BBhi")  # operation, registers, offset, constant

_LOAD_CONSTANT_64 = 0x18
_LOAD, _STORE_CONSTANT, _STORE = 0x61, 0x62, 0x63
_CALL, _EXIT, _GOTO = 0x85, 0x95, 0x05
_FROM_REGISTER = 0x08
_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
_OPERATIONS = {"+": 0x07, "-": 0x17, "|": 0x47, "&": 0x57, "<<": 0x67, ">>": 0x77, "^": 0xA7, "=": 0xB7}
_CONDITIONS = {"==": 0x15, ">": 0x25, ">=": 0x35, "!=": 0x55, "<": 0xA5, "<=": 0xB5}  # all unsigned
_MAP, _MAP_VALUE = 1, 2  # what a 64-bit constant stands for: the map, or the address of its only value


class Register(IntEnum):
    """R0 holds what is returned, R1 to R5 are arguments and lost in a call, R6 to R9 are kept, R10 ends the stack."""

    R0 = 0
    R1 = 1
    R2 = 2
    R3 = 3
    R4 = 4
    R5 = 5
    R6 = 6
    R7 = 7
    R8 = 8
    R9 = 9
    R10 = 10


@dataclass(slots=True)
class Program:
    """Instructions in the order in which they were asked for; `assembled` makes octets of them."""

    _code: list[tuple[int, int, int, int]] = field(default_factory=list)
    _labels: dict[str, int] = field(default_factory=dict)
    _jumps: dict[int, str] = field(default_factory=dict)  # instruction -> the label it goes to
    _maps: dict[int, str] = field(default_factory=dict)  # instruction -> the map whose descriptor it needs

    def load(self, size: int, to: Register, base: Register, offset: int) -> None:
        """``to = *(base + offset)``, of 1, 2, 4 or 8 octets, the rest zeros."""
        self._add(_LOAD | _SIZES[size], to, base, offset)

    def store(self, size: int, base: Register, offset: int, what: Register | int) -> None:
        """``*(base + offset) = what``."""
        if isinstance(what, Register):
            self._add(_STORE | _SIZES[size], base, what, offset)
        else:
            self._add(_STORE_CONSTANT | _SIZES[size], base, 0, offset, what)

    def copy(self, size: int, to: Register, to_offset: int, base: Register, offset: int) -> None:
        """From memory to memory; R5 is lost."""
        self.load(size, Register.R5, base, offset)
        self.store(size, to, to_offset, Register.R5)

    def do(self, to: Register, operation: str, operand: Register | int) -> None:
        """``to = to operation operand`` in 64 bits, or with ``=`` just the operand."""
        code = _OPERATIONS[operation]
        if isinstance(operand, Register):
            self._add(code | _FROM_REGISTER, to, operand)
        else:
            self._add(code, to, 0, 0, operand)

    def address(self, to: Register, base: Register, offset: int) -> None:
        """``to = base + offset``."""
        self.do(to, "=", base)
        self.do(to, "+", offset)

    def label(self, name: str) -> None:
        """Here is where a jump to ``name`` leads."""
        if name in self._labels:
            raise ValueError(f"label {name} stands twice")
        self._labels[name] = len(self._code)

    def goto(self, label: str) -> None:
        """Jump, always forwards."""
        self._jumps[len(self._code)] = label
        self._add(_GOTO)

    def when(self, left: Register, condition: str, right: Register | int, label: str) -> None:
        """Jump if the condition holds, by 64 unsigned bits."""
        self._jumps[len(self._code)] = label
        code = _CONDITIONS[condition]
        if isinstance(right, Register):
            self._add(code | _FROM_REGISTER, left, right)
        else:
            self._add(code, left, 0, 0, right)

    def call(self, helper: int) -> None:
        """A function of the kernel by its number (`enum bpf_func_id`)."""
        self._add(_CALL, 0, 0, 0, helper)

    def map(self, to: Register, name: str) -> None:
        """The map, as helpers want it."""
        self._wide(to, _MAP, name)

    def map_value(self, to: Register, name: str) -> None:
        """The address of the only value of an array map: no lookup."""
        self._wide(to, _MAP_VALUE, name)

    def exit(self, result: int) -> None:
        """End with this result."""
        self.do(Register.R0, "=", result)
        self.leave()

    def leave(self) -> None:
        """End with what is in R0."""
        self._add(_EXIT)

    def assembled(self, descriptors: Mapping[str, int]) -> bytes:
        """The octets, with each map's file descriptor in its place. `KeyError` for a label or map that is not there."""
        code = bytearray()
        for number, (operation, registers, offset, constant) in enumerate(self._code):
            label, name = self._jumps.get(number), self._maps.get(number)
            code += _INSTRUCTION.pack(
                operation,
                registers,
                offset if label is None else self._labels[label] - number - 1,
                constant if name is None else descriptors[name],
            )
        return bytes(code)

    def _add(self, operation: int, to: int = 0, source: int = 0, offset: int = 0, constant: int = 0) -> None:
        self._code.append((operation, to | source << 4, offset, constant))

    def _wide(self, to: Register, kind: int, name: str) -> None:
        self._maps[len(self._code)] = name
        self._add(_LOAD_CONSTANT_64, to, kind)
        self._add(0)  # its second half: the upper 32 bits, or the offset into the value
