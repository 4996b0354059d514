"""Text files as Windows writes them: UTF-16 from regedit and PowerShell, UTF-8, or some code page from cmd."""

from enum import StrEnum
from typing import Final


class Encoding(StrEnum):
    """How a text is, or shall be, encoded."""

    UTF_16 = "utf-16"  # little-endian with a mark, as regedit writes it
    UTF_8 = "utf-8"  # without a mark


_MARKS: Final = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", "utf-8"))


def encoding_of(data: bytes) -> tuple[str, bytes]:
    """The codec of these bytes and the mark they start with, by the mark or, without one, by where the zeros are."""
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return codec, mark
    if data[1:2] == b"\0":
        return "utf-16-le", b""
    if data[:1] == b"\0":
        return "utf-16-be", b""
    return "utf-8", b""


def decode(data: bytes) -> str:
    """The text. Any bytes are some text: what we look for is ASCII, and the rest is passed over."""
    codec, mark = encoding_of(data)
    body = data[len(mark) :]
    if codec == "utf-8":
        try:
            return body.decode(codec)
        except UnicodeDecodeError:
            return body.decode("latin-1")  # some code page; all of them share what we look for
    return body.decode(codec, errors="replace")


def encode(text: str, encoding: Encoding) -> bytes:
    """The text with CRLF at the ends of its lines, as Windows wants it."""
    windows = text.replace("\r\n", "\n").replace("\n", "\r\n")
    if encoding is Encoding.UTF_16:
        return b"\xff\xfe" + windows.encode("utf-16-le")
    return windows.encode("utf-8")


def printable(text: str, longest: int = 60) -> str:
    """Text from a file, short and harmless enough for a message."""
    cut = text if len(text) <= longest else f"{text[: longest - 3]}..."
    return "".join(c if c.isprintable() else "?" for c in cut)
