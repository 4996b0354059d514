"""Memory that was freed is not kept."""

import subprocess
import sys

import pytest

GROWN = """
import sys
from casarray.adapters.allocator import return_big_blocks
if sys.argv[1] == "yes":
    return_big_blocks()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
before = resident()
first = bytearray(12 << 20)
del first  # by default the library keeps blocks of that size from now on
small, big = [], []
for _ in range(20):
    big.append(bytearray(2 << 20))
    small.append(bytes(100_000))
del big
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is about glibc")
def test_big_blocks_go_back_to_the_system_when_they_are_freed() -> None:
    kept = {}
    for told in ("no", "yes"):
        done = subprocess.run([sys.executable, "-c", GROWN, told], check=True, capture_output=True, text=True)
        kept[told] = int(done.stdout)
    assert kept["yes"] < 8 << 20
    assert kept["yes"] < kept["no"]
