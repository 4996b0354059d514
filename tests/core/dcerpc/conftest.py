"""What the tests of the RPC language share: recorded octets."""

from collections.abc import Callable
from pathlib import Path

import pytest

_CAPTURES = Path(__file__).parents[2] / "captures"


def read_capture(name: str) -> bytes:
    lines = (_CAPTURES / f"{name}.hex").read_text().splitlines()
    return bytes.fromhex("".join(line.partition(";")[0] for line in lines))


@pytest.fixture
def capture() -> Callable[[str], bytes]:
    """The octets in tests/captures/NAME.hex; what follows a semicolon there is a comment."""
    return read_capture
