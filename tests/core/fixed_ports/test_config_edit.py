"""A port set in the text of a configuration file: that line changes, and nothing else."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.errors import ConfigError
from casarray.core.fixed_ports.config_edit import with_ports

TEXT = """\
# ours
[gateway]
name = "gw1"   # the first

[[array]]
name = "CAS"
addresses = [
    "10.11.0.100",  # the one
]

# the second one
[[array]]
name = "B"

[[server]]
name = "cas1"
"""
BLOCK = '\n[[array.service]]\nname = "rpc"\nport = 5002\n'
GIVEN = '[[array.service]]\n  name = "rpc"   # MAPI\n'


def test_a_service_is_added_at_the_end_of_its_array() -> None:
    wanted = TEXT.replace("]\n\n# the second", f"]\n{BLOCK}\n# the second")
    assert with_ports(TEXT, "f", "CAS", [("rpc", 5002)]) == wanted


def test_the_second_array_gets_it_before_what_follows() -> None:
    assert with_ports(TEXT, "f", "B", [("rpc", 5002)]) == TEXT.replace('"B"\n', f'"B"\n{BLOCK}')


def test_at_the_end_of_a_file_that_does_not_end_its_last_line() -> None:
    text = '[[array]]\nname = "CAS"'
    assert with_ports(text, "f", "CAS", [("rpc", 5002)]) == f"{text}\n{BLOCK}"


def test_two_services_stand_in_the_order_given() -> None:
    text = with_ports(TEXT, "f", "CAS", [("rpc", 5002), ("ab", 5003)])
    assert tomllib.loads(text)["array"][0]["service"] == [{"name": "rpc", "port": 5002}, {"name": "ab", "port": 5003}]


def test_a_port_that_stands_there_is_changed_in_its_place() -> None:
    text = f"{TEXT}\n[[array.service]]\n  name = 'rpc'\n  port   =   5001   # fixed in 2011\n"
    assert with_ports(text, "f", "B", [("rpc", 5002)]) == text.replace("5001", "5002")


def test_a_port_that_is_missing_comes_below_the_name() -> None:
    text = TEXT.replace("# the second", f"{GIVEN}\n# the second")
    assert with_ports(text, "f", "CAS", [("rpc", 5002)]) == text.replace("# MAPI\n", "# MAPI\n  port = 5002\n")


def test_line_ends_of_windows_stay() -> None:
    text = TEXT.replace("\n", "\r\n")
    changed = with_ports(text, "f", "CAS", [("rpc", 5002)])
    assert changed.replace("\r\n", "\n") == with_ports(TEXT, "f", "CAS", [("rpc", 5002)])
    assert changed.count("\n") == changed.count("\r\n")


def test_a_service_after_other_tables_still_belongs_to_the_last_array() -> None:
    text = f'{TEXT}[[array.service]]\nname = "rpc"\nport = 7\n'
    assert with_ports(text, "f", "B", [("rpc", 5002)]) == text.replace("= 7", "= 5002")


@pytest.mark.parametrize(
    "text",
    [
        '[[array]]\nname = "CAS"\nservice = [{name = "rpc", port = 5001}]\n',
        '[[array]]\nname = "CAS"\nservice = [{name = "app"}]\n',
        'array = [{name = "CAS"}]\n',
    ],
    ids=["a port in one line", "another service in one line", "an array in one line"],
)
def test_a_file_that_is_written_otherwise_is_left_alone_and_told_what_to_write(text: str) -> None:
    with pytest.raises(ConfigError, match="f is written in a way.*\n.*\n.*\nport = 5002"):
        with_ports(text, "f", "CAS", [("rpc", 5002)])


PIECES = st.sampled_from([
    "", "# [[array]]\n", '[array.health]\nrise = 3\n', '[[array.service]]\nname = "rpc"\n', "port = 5001\n", "x = 1\n",
    '[[array.service]]\nname = "app"\nport = 1\n', '[[array]]\nname = "B"\n', '[[server]]\nname = "s"\n', "\n",
    'y = """\n[[array]]\nport = 3\n"""\n', "z = [\n  1,\n]\n",
])  # fmt: skip


@given(st.lists(PIECES, max_size=8), st.integers(1024, 65535))
def test_the_changed_file_says_that_port_and_all_the_rest_as_before(pieces: list[str], port: int) -> None:
    text = '[[array]]\nname = "CAS"\n' + "".join(pieces)
    try:
        before = tomllib.loads(text)
        names = [service["name"] for service in before["array"][0].get("service", [])]
    except ValueError:
        return
    try:
        after = tomllib.loads(with_ports(text, "f", "CAS", [("rpc", port)]))
    except ConfigError:
        return
    tables = after["array"][0]["service"]
    assert next(t["port"] for t in tables if t["name"] == "rpc") == port
    for table in (t for t in tables if t["name"] == "rpc"):
        del table["port"]
        break
    if "rpc" not in names:
        tables.pop()
        if not tables and "service" not in before["array"][0]:
            del after["array"][0]["service"]
    else:
        next(t for t in before["array"][0]["service"] if t["name"] == "rpc").pop("port", None)
    assert after == before
