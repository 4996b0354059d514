"""What an administrator's commands and a member's agent say to each other, inside the sealed channel.

Each message is one JSON object. On the wire it stands sealed, behind its length in four octets (network order); the
tokens by which both sides prove who they are stand in the same frames before it. Keys are base64 in it, and nowhere
else.
"""

import json
import math
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from enum import StrEnum

from casarray.core.errors import WireError
from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keys import MOST_GENERATIONS, Generation, Holding, Key
from casarray.core.kerberos.principal import is_spn
from casarray.core.records import from_json, to_json

LARGEST = 1 << 20  # octets of one frame
MOST_NAMES = 1024
MOST_KEYS = 4096
LONGEST_KEY = 256  # octets, as in a keytab
LONGEST_TEXT = 256


class Op(StrEnum):
    """What is asked of an agent."""

    STATE = "state"
    HOLD = "hold"
    CONFIRM = "confirm"
    RENAME = "rename"
    GIVE = "give"
    TAKE = "take"
    DROP = "drop"


CHANGING = frozenset({Op.HOLD, Op.CONFIRM, Op.RENAME, Op.TAKE, Op.DROP})


@dataclass(frozen=True, slots=True)
class Request:
    """One question; what a question has no use for is empty."""

    op: Op
    account: str = ""
    realm: str = ""
    names: tuple[str, ...] = ()
    number: int = 0
    actual: int = 0
    lifetime: float = 0.0
    generation: Generation | None = None
    holding: Holding | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Its answer: the agent's state, or a holding with its keys, or why not."""

    state: object = None  # as JSON
    holding: Holding | None = None
    kind: str = ""  # of the error: NotFound, Denied, Conflict, Unavailable
    error: str = ""


def write_request(request: Request) -> bytes:
    """As it goes into the channel."""
    plain = _Request(
        request.op,
        request.account,
        request.realm,
        request.names,
        request.number,
        request.actual,
        request.lifetime,
        None if request.generation is None else _of_generation(request.generation),
        None if request.holding is None else _of_holding(request.holding),
    )
    return json.dumps(to_json(plain)).encode()


def read_request(data: bytes) -> Request:
    """What came out of the channel. `WireError`."""
    plain = from_json(_Request, _json(data))
    _bound(plain.names, MOST_NAMES, "names")
    _texts(plain.account, plain.realm)
    _names(plain.names)
    _numbers(plain.number, plain.actual)
    _seconds(plain.lifetime)
    return Request(
        plain.op,
        plain.account,
        plain.realm,
        plain.names,
        plain.number,
        plain.actual,
        plain.lifetime,
        None if plain.generation is None else _generation(plain.generation),
        None if plain.holding is None else _holding(plain.holding),
    )


def write_answer(answer: Answer) -> bytes:
    """As it goes into the channel."""
    holding = None if answer.holding is None else _of_holding(answer.holding)
    return json.dumps(to_json(_Answer(answer.state, holding, answer.kind, answer.error))).encode()


def read_answer(data: bytes) -> Answer:
    """What came out of the channel. `WireError`."""
    plain = from_json(_Answer, _json(data))
    return Answer(plain.state, None if plain.holding is None else _holding(plain.holding), plain.kind, plain.error)


def write_holdings(holdings: tuple[Holding, ...]) -> bytes:
    """What an agent keeps, before it is encrypted."""
    return json.dumps([to_json(_of_holding(one)) for one in holdings]).encode()


def read_holdings(data: bytes) -> tuple[Holding, ...]:
    """What `write_holdings` gave. `WireError`."""
    found = _json(data)
    if not isinstance(found, list):
        raise WireError("json", "a list of holdings expected")
    return tuple(_holding(from_json(_Holding, one)) for one in found)


def frame(data: bytes) -> bytes:
    """Behind its length. `WireError` (``oversize``)."""
    if len(data) > LARGEST:
        raise WireError("oversize", f"a frame of {len(data)} octets; at most {LARGEST} are sent")
    return len(data).to_bytes(4, "big") + data


def frame_length(head: bytes) -> int:
    """The octets of the frame behind these four. `WireError` (``oversize``, ``empty``) for what ends the stream."""
    length = int.from_bytes(head, "big")
    if length > LARGEST:
        raise WireError("oversize", f"a frame of {length} octets; at most {LARGEST} are taken")
    if not length:
        raise WireError("empty", "a frame of nothing")
    return length


# The same with keys as text.


@dataclass(frozen=True, slots=True)
class _Key:
    enctype: int
    version: int
    value: str = field(repr=False)
    principal: str = ""


@dataclass(frozen=True, slots=True)
class _Generation:
    number: int
    keys: tuple[_Key, ...]
    made: float
    pending: bool = False
    until: float | None = None


@dataclass(frozen=True, slots=True)
class _Holding:
    account: str
    realm: str
    names: tuple[str, ...]
    generations: tuple[_Generation, ...]


@dataclass(frozen=True, slots=True)
class _Request:
    op: Op
    account: str = ""
    realm: str = ""
    names: tuple[str, ...] = ()
    number: int = 0
    actual: int = 0
    lifetime: float = 0.0
    generation: _Generation | None = None
    holding: _Holding | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    state: object = None
    holding: _Holding | None = None
    kind: str = ""
    error: str = ""


def _of_generation(one: Generation) -> _Generation:
    keys = tuple(_Key(int(k.enctype), k.version, b64encode(k.value).decode(), k.principal) for k in one.keys)
    return _Generation(one.number, keys, one.made, one.pending, one.until)


def _of_holding(one: Holding) -> _Holding:
    return _Holding(one.account, one.realm, one.names, tuple(_of_generation(g) for g in one.generations))


def _generation(plain: _Generation) -> Generation:
    _bound(plain.keys, MOST_KEYS, "keys")
    _numbers(plain.number)
    _seconds(plain.made, plain.until or 0.0)
    return Generation(plain.number, tuple(_key(one) for one in plain.keys), plain.made, plain.pending, plain.until)


def _holding(plain: _Holding) -> Holding:
    _bound(plain.names, MOST_NAMES, "names")
    _bound(plain.generations, 4 * MOST_GENERATIONS, "generations")
    _needed(plain.account, plain.realm)
    _texts(plain.account, plain.realm)
    _names(plain.names)
    return Holding(plain.account, plain.realm, plain.names, tuple(_generation(one) for one in plain.generations))


def _key(plain: _Key) -> Key:
    _numbers(plain.version)
    _names((plain.principal,) if plain.principal else ())
    try:
        value = b64decode(plain.value, validate=True)
        if not 1 <= len(value) <= LONGEST_KEY:
            raise WireError("key", "a key of a length that no key has")
        return Key(Enctype(plain.enctype), plain.version, value, plain.principal)
    except ValueError:  # without its text, which may hold the key
        raise WireError("key", "a key that cannot be read") from None


def _json(data: bytes) -> object:
    try:
        found: object = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError):  # without its text, which may hold a key
        raise WireError("json", "a message that is not JSON") from None
    return found


def _bound(items: tuple[object, ...], most: int, what: str) -> None:
    if len(items) > most:
        raise WireError("range", f"{len(items)} {what}; at most {most} are taken")


def _no_number(_text: str) -> float:
    raise ValueError("no number")


def _needed(*texts: str) -> None:
    if not all(texts):
        raise WireError("text", "an account without its name or realm")


def _texts(*texts: str) -> None:
    if any(len(text) > LONGEST_TEXT or not text.isprintable() for text in texts):
        raise WireError("text", "the name of an account or realm that cannot be one")


def _names(names: tuple[str, ...]) -> None:
    if not all(is_spn(name) and name.isprintable() for name in names):
        raise WireError("text", "a name that is no service principal name")


def _numbers(*numbers: int) -> None:
    """Of keys: a keytab has 32 bits for them."""
    if not all(0 <= number <= 0xFFFFFFFF for number in numbers):
        raise WireError("range", "a key version that no keytab can hold")


def _seconds(*seconds: float) -> None:
    if not all(math.isfinite(one) and 0 <= one < 1 << 40 for one in seconds):
        raise WireError("range", "a time that cannot be")
