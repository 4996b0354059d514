"""What agents and commands say to each other: there and back, within bounds, and no key in any error."""

import json
from base64 import b64encode

import pytest

from casarray.core.errors import WireError
from casarray.core.kerberos.agent_messages import (
    LARGEST,
    Answer,
    Op,
    Request,
    frame,
    frame_length,
    read_answer,
    read_holdings,
    read_request,
    write_answer,
    write_holdings,
    write_request,
)
from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keys import Generation, Holding, Key

VALUE = bytes(range(32))
TEXT = b64encode(VALUE).decode()
KEYS = (Key(Enctype.AES256, 3, VALUE), Key(Enctype.AES128, 3, VALUE[:16], "http/cas.lab.example"))
HOLDING = Holding("asa$", "LAB", ("http/cas.lab.example",), (Generation(3, KEYS, 1.5, True, 9.0),))


def test_they_come_out_as_they_went_in() -> None:
    request = Request(Op.TAKE, "asa$", "LAB", HOLDING.names, 3, 4, 5.0, HOLDING.generations[0], HOLDING)
    assert read_request(write_request(request)) == request
    assert read_answer(write_answer(Answer({"host": "cas1"}, HOLDING))) == Answer({"host": "cas1"}, HOLDING)
    assert read_holdings(write_holdings((HOLDING, HOLDING))) == (HOLDING, HOLDING)


def test_a_frame_says_how_long_it_is() -> None:
    assert frame_length(frame(b"bc" * 40)[:4]) == 80


@pytest.mark.parametrize(("length", "kind"), [(0, "empty"), (LARGEST + 1, "oversize"), (0xFFFFFFFF, "oversize")])
def test_a_length_that_cannot_be_ends_the_stream(length: int, kind: str) -> None:
    with pytest.raises(WireError) as wrong:
        frame_length(length.to_bytes(4, "big"))
    assert wrong.value.kind == kind


def spoilt(**changed: object) -> bytes:
    """A message to take a holding, in which the fields of that name say this."""

    def put(found: object) -> object:
        if isinstance(found, dict):
            return {name: changed.get(name, put(inner)) for name, inner in found.items()}
        return [put(one) for one in found] if isinstance(found, list) else found

    return json.dumps(put(json.loads(write_request(Request(Op.TAKE, "asa$", "LAB", holding=HOLDING))))).encode()


@pytest.mark.parametrize(
    "changed",
    [
        {"value": TEXT + "!"},
        {"value": ""},
        {"value": [TEXT]},
        {"value": b64encode(bytes(500)).decode()},
        {"enctype": 99},
        {"enctype": TEXT},
        {"version": -1},
        {"version": 1 << 32},
        {"made": float("nan")},
        {"until": float("inf")},
        {"lifetime": 1e300},
        {"account": "a\nb"},
        {"realm": "\ud800"},
        {"names": ["http"]},
        {"names": ["http/a"] * 1025},
        {"principal": "http/\ud800"},
        {"op": TEXT * 100},
        {"generations": TEXT},
        {"keys": [TEXT]},
    ],
)
def test_what_cannot_be_is_refused_without_a_word_of_the_keys(changed: dict[str, object]) -> None:
    with pytest.raises(WireError) as wrong:
        read_request(spoilt(**changed))
    if "op" not in changed:
        assert TEXT[:8] not in str(wrong.value)
    assert len(str(wrong.value)) < 300


@pytest.mark.parametrize("data", [b"", b"[", b"\xff", b"[" * 100_000, b"1", b'"' + TEXT.encode() + b'"'])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    for read in (read_request, read_answer, read_holdings):
        with pytest.raises(WireError) as wrong:
            read(data)
        assert TEXT not in str(wrong.value)
