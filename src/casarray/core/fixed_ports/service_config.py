"""The Address Book service's port before SP1: ``RpcTcpPort`` among the appSettings of its .NET configuration file.

    <configuration>
        <appSettings>
            <add key="RpcTcpPort" value="5000" />
        </appSettings>
    </configuration>

An existing file is changed in the one place, and every other character of it stays. Expat says where things are; a
document type is refused, and with it every entity that could grow.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from xml.parsers import expat

from casarray.core.errors import ConfigError
from casarray.core.fixed_ports.ports import LAST_PORT
from casarray.core.fixed_ports.registry_file import Setting
from casarray.core.fixed_ports.text import encoding_of, printable

FILE_NAME: Final = "microsoft.exchange.addressbook.service.exe.config"
LARGEST: Final = 1024 * 1024  # bytes; Exchange's has a few hundred
DEEPEST: Final = 64
KEY: Final = "RpcTcpPort"

_FRESH: Final = (
    b'<?xml version="1.0" encoding="utf-8" ?>\r\n<configuration>\r\n    <appSettings>\r\n    </appSettings>\r\n'
    b"</configuration>\r\n"
)
_ENCODINGS: Final = {"utf-8": "utf-8", "us-ascii": "ascii", "iso-8859-1": "latin-1", "windows-1252": "cp1252"}

_DECLARED = re.compile(r"""\A<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_VALUE = r"""(?:"[^"]*+"|'[^']*+')"""
_TAG = re.compile(rf"<([^\s/>]+)((?:\s+[^\s=/>]+\s*=\s*{_VALUE})*+)\s*(/?)>")
_VALUE_OF = re.compile(rf"""(\svalue\s*=\s*)({_VALUE})""")
_END_TAG = re.compile(r"</[^\s>]+\s*>")


@dataclass(slots=True)
class _Places:
    """Where in the text (counted in octets of UTF-8) things begin, and what the file says."""

    root: int | None = None
    settings: int | None = None  # <appSettings>
    settings_end: int | None = None  # </appSettings>
    root_end: int | None = None  # </configuration>
    elsewhere: str = ""  # the file that holds the settings instead
    ours: list[tuple[int, str | None, int]] = field(
        default_factory=list
    )  # each <add key="RpcTcpPort">: place, value, line
    taken_back: bool = False  # a <remove> or <clear> after the last of them


def read_service_config(data: bytes, file: str) -> Setting:
    """What the file sets. Raises nothing but `ConfigError`."""
    return _setting(_places(_Text.of(data, file), file), file)


def write_service_config(port: int, existing: bytes | None, file: str = FILE_NAME) -> bytes:
    """The file with this port: a fresh one, or the existing one changed in that place alone."""
    text = _Text.of(_FRESH if existing is None else existing, file)
    places = _places(text, file)
    changed = text.with_octets(_changed(text.octets, places, port, file))
    if _setting(_places(changed, file), file) != Setting(port):
        raise ConfigError(f'{file}: the port cannot be set here; write <add key="{KEY}" value="{port}" /> by hand')
    return changed.encoded()


@dataclass(frozen=True, slots=True)
class _Text:
    """The file's text as octets of UTF-8, and how it was encoded."""

    octets: bytes
    codec: str
    mark: bytes

    @classmethod
    def of(cls, data: bytes, file: str) -> "_Text":
        if len(data) > LARGEST:
            raise ConfigError(f"{file}: {len(data)} bytes are too many for this file; name {FILE_NAME}")
        codec, mark = encoding_of(data)
        body = data[len(mark) :]
        if codec == "utf-8" and not mark:
            declared = _DECLARED.match(body[:200].decode("latin-1"))
            name = declared[1].lower() if declared else "utf-8"
            if name not in _ENCODINGS:
                raise ConfigError(f'{file}: its encoding "{name}" is not known here; save it as UTF-8')
            codec = _ENCODINGS[name]
        try:
            return cls(body.decode(codec).encode(), codec, mark)
        except (UnicodeDecodeError, UnicodeEncodeError):
            raise ConfigError(f"{file}: this is not {codec}, as it says it is; save it as UTF-8") from None

    def with_octets(self, octets: bytes) -> "_Text":
        return _Text(octets, self.codec, self.mark)

    def encoded(self) -> bytes:
        return self.mark + self.octets.decode().encode(self.codec)


def _places(text: _Text, file: str) -> _Places:
    """Walk through the file and note where what matters begins."""
    places, path = _Places(), list[str]()
    parser = expat.ParserCreate("utf-8")
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def refuse(*_: Any) -> None:
        raise ConfigError(f"{file}:{parser.CurrentLineNumber}: a document type has no place here; take <!DOCTYPE out")

    def start(name: str, attributes: dict[str, str]) -> None:
        path.append(name)
        if len(path) > DEEPEST:
            raise ConfigError(f"{file}:{parser.CurrentLineNumber}: this is nested too deeply for this file")
        _note(places, path, attributes, parser.CurrentByteIndex, parser.CurrentLineNumber)

    def end(_name: str) -> None:
        if path == ["configuration"]:
            places.root_end = parser.CurrentByteIndex
        elif path == ["configuration", "appSettings"] and places.settings_end is None:
            places.settings_end = parser.CurrentByteIndex
        path.pop()

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    _parse(parser.Parse, text.octets, file)
    if places.root is None:
        raise ConfigError(
            f"{file}: this is no configuration file of .NET: its root is <configuration>; name {FILE_NAME}"
        )
    return places


def _parse(parse: Callable[[bytes, bool], object], octets: bytes, file: str) -> None:
    try:
        parse(octets, True)
    except expat.ExpatError as error:
        what = expat.errors.messages.get(error.code, "not XML")
        raise ConfigError(
            f"{file}:{error.lineno}: not XML: {what}; mend it, or take the file of another server"
        ) from None


def _note(places: _Places, path: list[str], attributes: dict[str, str], at: int, line: int) -> None:
    match path:
        case ["configuration"]:
            places.root = at
        case ["configuration", "appSettings"]:
            places.settings = at if places.settings is None else places.settings
            places.elsewhere = attributes.get("configSource", "") or places.elsewhere
        case ["configuration", "appSettings", "add"] if attributes.get("key", "").casefold() == KEY.casefold():
            places.ours.append((at, attributes.get("value"), line))
            places.taken_back = False
        case ["configuration", "appSettings", "remove"] if attributes.get("key", "").casefold() == KEY.casefold():
            places.taken_back = True
        case ["configuration", "appSettings", "clear"]:
            places.taken_back = True


def _setting(places: _Places, file: str) -> Setting:
    if places.elsewhere:
        return Setting(None, f"{file}: its appSettings are in {printable(places.elsewhere)}; look there")
    if not places.ours or places.taken_back:
        return Setting(None)
    _, value, line = places.ours[-1]  # of several, .NET takes the last
    text = value or ""
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > LAST_PORT:
        return Setting(None, f'{file}:{line}: {KEY} is "{printable(text)}", which is no port; write one like 5000')
    return Setting(int(text) or None)


def _changed(octets: bytes, places: _Places, port: int, file: str) -> bytes:
    """The text with the port in it."""
    if places.elsewhere:
        raise ConfigError(f"{file}: its appSettings are in {printable(places.elsewhere)}; change that file instead")
    if places.ours and not places.taken_back:
        for at, _, _ in reversed(places.ours):  # from behind, so that the places before stay right
            octets = _with_value(octets, at, port)
        return octets
    newline = "\r\n" if b"\r\n" in octets else "\n"
    line = f'<add key="{KEY}" value="{port}" />'
    if places.settings is not None and places.settings_end is not None:
        return _with_child(octets, places.settings, places.settings_end, line, newline)
    assert places.root is not None
    assert places.root_end is not None
    inner = f"<appSettings>{newline}        {line}{newline}    </appSettings>"
    return _with_child(octets, places.root, places.root_end, inner, newline)


def _with_value(octets: bytes, at: int, port: int) -> bytes:
    """The start tag at this place with another value."""
    tag = _tag(octets, at)
    whole = tag.group()
    if _VALUE_OF.search(whole):
        fresh = _VALUE_OF.sub(lambda found: f'{found[1]}"{port}"', whole, count=1)
    else:
        fresh = f'<{tag[1]}{tag[2]} value="{port}" {tag[3]}>'
    return octets[:at] + fresh.encode() + octets[at + len(whole.encode()) :]


def _with_child(octets: bytes, start: int, end: int, child: str, newline: str) -> bytes:
    """The element that begins and ends there with one more child, on a line of its own, at its end."""
    tag = _tag(octets, start)
    whole = tag.group().encode()
    indent = _indent(octets, start)
    deeper = 2 * indent or "    "  # what is one level deep shows how wide a level is
    if tag[3]:  # <appSettings/>: it gets a body
        opened = f"<{tag[1]}{tag[2]}>{newline}{deeper}{child}{newline}{indent}</{tag[1]}>"
        return octets[:start] + opened.encode() + octets[start + len(whole) :]
    before = octets[:end]
    kept = before.rstrip(b" \t")
    lead = "" if kept.endswith(b"\n") else newline
    return kept + f"{lead}{deeper}{child}{newline}{indent}".encode() + octets[end:]


def _indent(octets: bytes, at: int) -> str:
    """The blanks before what begins there, if nothing else stands on its line."""
    line = octets[octets.rfind(b"\n", 0, at) + 1 : at]
    return line.decode() if not line.strip(b" \t") else ""


def _tag(octets: bytes, at: int) -> re.Match[str]:
    """The start tag that begins there: expat has seen that it is one."""
    end = octets.find(b"<", at + 1)  # no tag has another < in it
    found = _TAG.match(octets[at : end if end > 0 else len(octets)].decode())
    assert found is not None
    return found
