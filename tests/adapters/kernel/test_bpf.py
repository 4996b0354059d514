"""The kernel's `bpf` call, asked of the kernel: maps, programs, and what it refuses."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from casarray.adapters.kernel import bpf
from casarray.core.errors import Denied, Unavailable
from casarray.core.forwarding import fast_path
from casarray.core.forwarding.bpf import Program, Register
from casarray.core.forwarding.fast_path import Kind, MapShape

pytestmark = pytest.mark.root
SMALL = MapShape(Kind.HASH, key=4, value=8, entries=2)
ONE, TWO, THREE = (bytes((number, 0, 0, 0)) for number in (1, 2, 3))
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


class Opened:
    """Descriptors that a test has closed after it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def map(self, shape: MapShape, name: str = "test") -> int:
        descriptor = bpf.create_map(name, shape)
        self._stack.callback(os.close, descriptor)
        return descriptor

    def program(self, code: bytes, name: str = "test") -> int:
        descriptor = bpf.load(name, code)
        self._stack.callback(os.close, descriptor)
        return descriptor


@pytest.fixture
def opened() -> Iterator[Opened]:
    with ExitStack() as stack:
        yield Opened(stack)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_is_put_into_a_map_is_read_until_it_is_discarded(opened: Opened) -> None:
    made = opened.map(SMALL)
    bpf.put(made, ONE, b"12345678")
    bpf.put(made, TWO, b"abcdefgh")
    bpf.put(made, ONE, b"87654321")
    assert (bpf.get(made, ONE, 8), bpf.get(made, TWO, 8)) == (b"87654321", b"abcdefgh")
    bpf.discard(made, ONE)
    with pytest.raises(FileNotFoundError):
        bpf.get(made, ONE, 8)
    assert bpf.get(made, TWO, 8) == b"abcdefgh"


def test_what_was_never_there_can_be_discarded(opened: Opened) -> None:
    bpf.discard(opened.map(SMALL), ONE)


def test_a_full_map_is_unavailable_until_there_is_room_again(opened: Opened) -> None:
    made = opened.map(SMALL)
    bpf.put(made, ONE, bytes(8))
    bpf.put(made, TWO, bytes(8))
    with pytest.raises(Unavailable):
        bpf.put(made, THREE, bytes(8))
    bpf.put(made, TWO, b"abcdefgh")  # what is there can still be changed
    bpf.discard(made, ONE)
    bpf.put(made, THREE, bytes(8))


def test_the_rest_of_what_is_read_is_zeros(opened: Opened) -> None:
    made = opened.map(SMALL)
    bpf.put(made, ONE, b"12345678")
    assert bpf.get(made, ONE, 12) == b"12345678" + bytes(4)


def test_all_maps_of_the_fast_path_are_made_under_their_names(opened: Opened) -> None:
    for name, shape in fast_path.maps(1000).items():
        descriptor = opened.map(shape, f"casarray_{name}")
        told = dict(line.split(":\t") for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines())
        assert [int(told[key]) for key in ("map_type", "key_size", "value_size", "max_entries")] == [
            shape.kind, shape.key, shape.value, shape.entries,
        ]  # fmt: skip


def test_a_kind_of_map_that_the_kernel_does_not_have_is_unavailable_by_its_name() -> None:
    with pytest.raises(Unavailable, match=r"^no map for strange \(.+\)$"):
        bpf.create_map("strange", MapShape(kind=9999, key=4, value=4, entries=1))


@pytest.mark.parametrize("name", ["fifteen_letters", "sixteen_letters_", "rather_more_than_sixteen_letters"])
def test_long_names_are_no_reason_to_refuse(opened: Opened, name: str) -> None:
    opened.map(SMALL, name)
    opened.program(right().assembled({}), name)


def right() -> Program:
    program = Program()
    program.exit(0)
    return program


def without_a_result() -> Program:
    program = Program()
    program.leave()
    return program


def beyond_the_stack() -> Program:
    program = Program()
    program.store(4, Register.R10, -516, 1)
    program.exit(0)
    return program


def without_an_end() -> Program:
    program = Program()
    program.do(Register.R0, "=", 0)
    return program


def unknown_function() -> Program:
    program = Program()
    program.call(99_999)
    program.leave()
    return program


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (without_a_result, "R0 !read_ok"),
        (beyond_the_stack, "invalid write to stack"),
        (without_an_end, "last insn is not an exit"),
        (unknown_function, "invalid func unknown#99999"),
    ],
)
def test_a_wrong_program_is_refused_with_the_last_that_the_verifier_said(
    wrong: Callable[[], Program], why: str
) -> None:
    before = open_descriptors()
    with pytest.raises(Unavailable) as refused:
        bpf.load("wrong", wrong().assembled({}))
    said = str(refused.value)
    assert said.startswith("the kernel refuses program wrong (")
    assert why in said
    assert said.count(" / ") <= 2
    assert "\n" not in said
    assert open_descriptors() == before


def test_a_program_of_a_map_that_is_closed_is_refused_in_a_sentence() -> None:
    program = Program()
    program.map(Register.R1, "gone")
    program.exit(0)
    with pytest.raises(Unavailable, match="the kernel refuses program wrong"):
        bpf.load("wrong", program.assembled({"gone": 1_000_000}))


@pytest.mark.parametrize("version", [fast_path.IPV4, fast_path.IPV6], ids=["4", "6"])
@pytest.mark.parametrize("made", [fast_path.arriving, fast_path.leaving])
def test_the_verifier_takes_every_program(
    opened: Opened, made: Callable[[fast_path.Version], Program], version: fast_path.Version
) -> None:
    maps = {name: opened.map(shape) for name, shape in fast_path.maps(1000, version).items()}
    opened.program(made(version).assembled(maps))


@pytest.mark.parametrize(
    "asked",
    [
        'bpf.create_map("flows", MapShape(Kind.LEAST_RECENTLY_USED, 16, 64, 10))',
        'bpf.load("arriving", bytes.fromhex("b700000000000000 9500000000000000"))',
    ],
)
def test_without_the_right_the_sentence_names_it(asked: str) -> None:
    source = (
        "from casarray.adapters.kernel import bpf\n"
        "from casarray.core.errors import Denied\n"
        "from casarray.core.forwarding.fast_path import Kind, MapShape\n"
        f"try: {asked}\n"
        "except Denied as error: print(error)"
    )
    command = [*POWERLESS, sys.executable, "-c", source]
    environment = os.environ | {"PYTHONPATH": str(Path(bpf.__file__).parents[3])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "CAP_BPF and CAP_NET_ADMIN are needed" in done.stdout


def test_on_a_machine_whose_call_is_not_known_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    with pytest.raises(Unavailable, match="no map for flows") as refused:
        bpf.create_map("flows", SMALL)
    assert not isinstance(refused.value, Denied)
