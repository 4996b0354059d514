"""The configuration file of the Address Book service, as it was before SP1."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.errors import ConfigError
from casarray.core.fixed_ports.registry_file import Setting
from casarray.core.fixed_ports.service_config import LARGEST, read_service_config, write_service_config

EXISTING = """\
<?xml version="1.0" encoding="utf-8"?>
<!-- Exchange wrote this -->
<configuration>
  <configSections />
  <appSettings>
    <add key="LogEnabled" value="true"/> <!-- keep: a > b -->
    <add key="RpcTcpPort" value="0" />
  </appSettings>
  <runtime><gcServer enabled="true"/></runtime>
</configuration>
"""


def test_a_fresh_file_has_the_key_and_nothing_else() -> None:
    text = write_service_config(5000, None).decode()
    assert text.splitlines() == [
        '<?xml version="1.0" encoding="utf-8" ?>',
        "<configuration>",
        "    <appSettings>",
        '        <add key="RpcTcpPort" value="5000" />',
        "    </appSettings>",
        "</configuration>",
    ]
    assert text.count("\r\n") == text.count("\n")


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_of_an_existing_file_only_the_value_changes(end: str) -> None:
    existing = EXISTING.replace("\n", end)
    assert write_service_config(5000, existing.encode()).decode() == existing.replace('value="0"', 'value="5000"')


def test_a_key_that_is_not_there_is_added_in_the_manner_of_the_file() -> None:
    existing = EXISTING.replace('    <add key="RpcTcpPort" value="0" />\n', "")
    wanted = EXISTING.replace('value="0"', 'value="5000"')
    assert write_service_config(5000, existing.encode()).decode() == wanted


@pytest.mark.parametrize(
    ("existing", "wanted"),
    [
        (
            "<configuration/>",
            '<configuration>\n    <appSettings>\n        <add key="RpcTcpPort" value="5000" />\n    </appSettings>\n'
            "</configuration>",
        ),
        (
            "<configuration><appSettings/></configuration>",
            '<configuration><appSettings>\n    <add key="RpcTcpPort" value="5000" />\n</appSettings></configuration>',
        ),
        (
            "<configuration><appSettings><add value='1' key='rpctcpport'/></appSettings></configuration>",
            "<configuration><appSettings><add value=\"5000\" key='rpctcpport'/></appSettings></configuration>",
        ),
        (
            '<configuration><appSettings><add key="RpcTcpPort"/></appSettings></configuration>',
            '<configuration><appSettings><add key="RpcTcpPort" value="5000" /></appSettings></configuration>',
        ),
    ],
    ids=["nothing in it", "empty settings", "other quotes and letters", "no value"],
)
def test_odd_files_get_the_key_as_well(existing: str, wanted: str) -> None:
    assert write_service_config(5000, existing.encode()).decode() == wanted


def test_of_two_keys_both_are_changed() -> None:
    existing = EXISTING.replace("  </appSettings>", '    <add key="RpcTcpPort" value="7" />\n  </appSettings>')
    changed = write_service_config(5000, existing.encode()).decode()
    assert changed.count('value="5000"') == 2


@pytest.mark.parametrize("taken_back", ["<clear/>", '<remove key="RpcTcpPort"/>', '<remove key="rpctcpport" />'])
def test_what_was_taken_back_is_added_behind(taken_back: str) -> None:
    existing = EXISTING.replace("  </appSettings>", f"    {taken_back}\n  </appSettings>").replace('"0"', '"4999"')
    assert read_service_config(existing.encode(), "f") == Setting(None)
    changed = write_service_config(5000, existing.encode())
    assert changed.index(taken_back.encode()) < changed.index(b'value="5000"')
    assert read_service_config(changed, "f") == Setting(5000)


@pytest.mark.parametrize(
    ("encoding", "codec"),
    [("utf-16", "utf-16"), ("utf-8", "utf-8-sig"), ("iso-8859-1", "latin-1"), ("windows-1252", "cp1252")],
)
def test_the_encoding_stays(encoding: str, codec: str) -> None:
    existing = EXISTING.replace("utf-8", encoding).replace("this", "dies für Köln")
    changed = write_service_config(5000, existing.encode(codec))
    assert changed.decode(codec) == existing.replace('value="0"', 'value="5000"')
    assert changed[:2] == existing.encode(codec)[:2]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (EXISTING, Setting(None)),
        (EXISTING.replace('"0"', '"5000"'), Setting(5000)),
        (EXISTING.replace("RpcTcpPort", "Other"), Setting(None)),
        (
            "<configuration><x><appSettings><add key='RpcTcpPort' value='1'/></appSettings></x></configuration>",
            Setting(None),
        ),
    ],
    ids=["0 is dynamic", "a port", "not there", "elsewhere"],
)
def test_what_is_set_is_read(text: str, wanted: Setting) -> None:
    assert read_service_config(text.encode(), "f") == wanted


@pytest.mark.parametrize("value", ["", "50 00", "0x1389", "65536", "5000x"])
def test_a_value_that_is_no_port_is_reported_with_its_line(value: str) -> None:
    found = read_service_config(EXISTING.replace('"0"', f'"{value}"').encode(), "f.config")
    assert found.port is None
    assert found.problem.startswith("f.config:7: RpcTcpPort is")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('<!DOCTYPE c [<!ENTITY a "b">]><configuration>&a;</configuration>', "f:1: a document type has no place here"),
        ('<!DOCTYPE c SYSTEM "file:///etc/passwd"><configuration/>', "f:1: a document type has no place here"),
        ("<configuration>&a;</configuration>", "f:1: not XML: undefined entity"),
        ("<configuration>\n<a>\n</configuration>", "f:3: not XML: mismatched tag"),
        ("", "f:1: not XML: no element found"),
        ("<other/>", "f: this is no configuration file of .NET"),
        ("<configuration>" + "<a>" * 100 + "</a>" * 100 + "</configuration>", "f:1: this is nested too deeply"),
        ('<?xml version="1.0" encoding="ebcdic"?><configuration/>', 'f: its encoding "ebcdic" is not known'),
    ],
    ids=[
        "an entity",
        "an outer entity",
        "an unknown entity",
        "a tag left open",
        "nothing",
        "another root",
        "too deep",
        "encoding",
    ],
)
def test_what_cannot_be_right_is_refused(text: str, what: str) -> None:
    for use in (read_service_config, lambda data, file: write_service_config(5000, data, file)):
        with pytest.raises(ConfigError) as refused:
            use(text.encode(), "f")
        assert str(refused.value).startswith(what)


def test_a_file_that_is_far_too_large_is_not_parsed() -> None:
    with pytest.raises(ConfigError, match="too many"):
        read_service_config(b" " * (LARGEST + 1), "f")


def test_bytes_that_are_not_in_their_encoding_are_refused() -> None:
    with pytest.raises(ConfigError, match="not utf-8"):
        read_service_config(b"<configuration>\xff</configuration>", "f")


def test_settings_that_stand_in_another_file_are_left_to_it() -> None:
    text = b'<configuration><appSettings configSource="other.config"/></configuration>'
    assert "other.config" in read_service_config(text, "f").problem
    with pytest.raises(ConfigError, match=r"other.config; change that file"):
        write_service_config(5000, text, "f")


PIECES = st.sampled_from([
    "<configuration>", "</configuration>", "<appSettings>", "</appSettings>", "<appSettings/>", "<clear/>", " ", "\n",
    '<add key="RpcTcpPort" value="1"/>', "<add key='RpcTcpPort'>", "</add>", "<!-- <add -->", "<![CDATA[<add]]>",
    "&lt;",
    '<remove key="RpcTcpPort"/>', "<?pi <add ?>", "<a b='>' value=''/>", "ä", '<add\tvalue=">"\nkey="RpcTcpPort"\n/>',
])  # fmt: skip


@given(
    st.binary(max_size=300)
    | st.lists(PIECES, max_size=12).map(lambda parts: "".join(parts).encode())
    | st.lists(PIECES, max_size=8).map(
        lambda parts: f"<configuration><appSettings>{''.join(parts)}</appSettings></configuration>".encode()
    )
)
def test_any_bytes_end_in_a_setting_or_a_config_error_and_what_was_written_is_read(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        read_service_config(data, "f")
    with contextlib.suppress(ConfigError):
        assert read_service_config(write_service_config(5000, data, "f"), "f") == Setting(5000)
