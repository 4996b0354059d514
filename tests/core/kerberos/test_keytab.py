import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casarray.core.errors import WireError
from casarray.core.kerberos.encryption import Enctype
from casarray.core.kerberos.keys import Generation, Holding, Key
from casarray.core.kerberos.keytab import (
    KeytabEntry,
    entries_of,
    merge,
    read_keytab,
    spellings,
    without,
    write_keytab,
)

RECORD = bytes.fromhex(
    "0002"  # two components
    "0003" "4c4142"  # realm LAB
    "0004" "68747470"  # http
    "0003" "636173"  # cas
    "00000001"  # name type: principal
    "6923a000"  # timestamp
    "05"  # key version, its low eight bits
    "0011" "0010" "000102030405060708090a0b0c0d0e0f"  # aes128, 16 octets
)  # fmt: skip
LONG_VERSION = bytes.fromhex("00000105")  # 261: its low eight bits are 5
ENTRY = KeytabEntry(("http", "cas"), "LAB", 1, 0x6923A000, 261, 17, bytes(range(16)))


def sized(record: bytes) -> bytes:
    return len(record).to_bytes(4, "big") + record


FILE = b"\x05\x02" + sized(RECORD + LONG_VERSION)


def test_an_entry_is_read_with_its_whole_key_version() -> None:
    assert read_keytab(FILE) == (ENTRY,)
    assert ENTRY.principal == "http/cas@LAB"


def test_an_entry_is_written_as_it_was_read() -> None:
    assert write_keytab([ENTRY]) == FILE


def test_without_a_long_version_the_short_one_counts() -> None:
    assert read_keytab(b"\x05\x02" + sized(RECORD))[0].version == 5


def test_a_long_version_of_zero_only_fills_up() -> None:
    """MIT krb5 puts an entry into a larger hole and zeros behind it."""
    assert read_keytab(b"\x05\x02" + sized(RECORD + bytes(8)))[0].version == 5


def test_what_comes_behind_the_long_version_is_not_looked_at() -> None:
    assert read_keytab(b"\x05\x02" + sized(RECORD + LONG_VERSION + b"\0\0\0\1")) == (ENTRY,)


def test_a_hole_is_skipped_and_nothing_in_it_read() -> None:
    hole = (-len(RECORD) & 0xFFFFFFFF).to_bytes(4, "big") + RECORD
    assert read_keytab(FILE + hole + FILE[2:]) == (ENTRY, ENTRY)


def test_a_size_of_zero_ends_the_file() -> None:
    assert read_keytab(FILE + bytes(4) + b"anything") == (ENTRY,)


def test_an_empty_keytab_has_no_entries() -> None:
    assert read_keytab(write_keytab([])) == ()


@pytest.mark.parametrize("cut", set(range(len(FILE))) - {2})  # behind the version it is an empty keytab
def test_a_cut_keytab_is_a_wire_error(cut: int) -> None:
    with pytest.raises(WireError) as caught:
        read_keytab(FILE[:cut])
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x05\x01" + sized(RECORD), "version"),  # the old format, in the byte order of whoever wrote it
        (b"PK\x03\x04", "version"),
        (b"\x05\x02\x80\x00\x00\x00", "truncated"),  # a hole of 2 GiB
        (b"\x05\x02\x7f\xff\xff\xff", "truncated"),
        (b"\x05\x02" + sized(b"\0\0" + RECORD[2:]), "range"),  # no component
        (b"\x05\x02" + sized(b"\xff\xff" + RECORD[2:]), "range"),
        (b"\x05\x02" + sized(RECORD.replace(b"LAB", b"\xff\xfe\xfd")), "text"),
        (b"\x05\x02" + sized(RECORD.replace(b"\x00\x11\x00\x10", b"\x00\x11\x01\x10")), "range"),  # a key of 272 octets
        (bytes((16 << 20) + 1), "oversize"),
    ],
)
def test_garbage_is_refused_by_kind(data: bytes, kind: str) -> None:
    with pytest.raises(WireError) as caught:
        read_keytab(data)
    assert caught.value.kind == kind


@given(st.binary(max_size=200))
def test_any_bytes_end_in_entries_or_a_wire_error(data: bytes) -> None:
    for prefix in (b"", b"\x05\x02", FILE):
        try:
            entries = read_keytab(prefix + data)
        except WireError:
            continue
        assert read_keytab(write_keytab(entries)) == entries


def test_a_key_is_never_shown() -> None:
    secret = b"open sesame"
    entry = KeytabEntry(("a",), "R", 1, 0, 1, 18, secret)
    assert "sesame" not in f"{entry!r} {entry}"
    with pytest.raises(WireError) as caught:
        write_keytab([KeytabEntry(("a",), "R", 1, 0, 1, 18, secret * 100)])
    assert "sesame" not in str(caught.value)


def test_merging_puts_the_new_key_in_the_place_of_the_old_and_keeps_the_others() -> None:
    host = KeytabEntry(("host", "cas1"), "LAB", 1, 0, 3, 18, b"h" * 32)
    old, new = (KeytabEntry(("http", "cas"), "LAB", 1, 0, 5, 18, letter * 32) for letter in (b"o", b"n"))
    before = KeytabEntry(("http", "cas"), "LAB", 1, 0, 4, 18, b"b" * 32)
    assert merge([old, host, before], [new]) == (new, host, before)
    assert without([old, host, before], ["http/cas@LAB"]) == (host,)


def key(version: int, enctype: Enctype = Enctype.AES256, principal: str = "") -> Key:
    return Key(enctype, version, os.urandom(32 if enctype is Enctype.AES256 else 16), principal)


def test_a_member_writes_every_name_type_and_generation_the_pending_one_too() -> None:
    keys = {(n, e): key(n, e) for n in (6, 5, 4) for e in (Enctype.AES256, Enctype.AES128)}
    generations = tuple(
        Generation(n, tuple(keys[n, e] for e in (Enctype.AES256, Enctype.AES128)), made=1000.5 + n, pending=n == 6)
        for n in (6, 5, 4)
    )
    names = ("exchangeMDB/cas.lab.example", "imap/cas.lab.example")
    entries = entries_of(Holding("asa$", "LAB.EXAMPLE", names, generations))
    assert {(e.principal, e.version, e.enctype) for e in entries} == {
        (f"{name}@LAB.EXAMPLE", number, int(enctype)) for name in names for number, enctype in keys
    }
    assert len(entries) == 12
    assert entries[0].version == 6
    assert all(e.key == keys[e.version, Enctype(e.enctype)].value for e in entries)
    assert {e.timestamp for e in entries} == {1004, 1005, 1006}


def test_an_account_s_names_stand_as_clients_spell_them() -> None:
    generation = Generation(2, (key(2),), made=0.0)
    entries = entries_of(Holding("asa$", "LAB", ("http/Mail.lab", "exchangeMDB/cas"), (generation,)))
    assert [e.components for e in entries] == [
        ("http", "Mail.lab"), ("http", "mail.lab"), ("HTTP", "mail.lab"), ("exchangeMDB", "cas"),
    ]  # fmt: skip


def test_a_key_with_a_principal_is_for_that_name_as_it_is_spelt() -> None:
    generation = Generation(3, (key(2, principal="http/mail"), key(3, principal="imap/mail")), made=0.0)
    entries = entries_of(Holding("asa", "LAB", ("http/mail", "imap/mail"), (generation,)))
    assert [(e.principal, e.version) for e in entries] == [("http/mail@LAB", 2), ("imap/mail@LAB", 3)]


def test_of_two_generations_that_use_a_version_the_newer_counts() -> None:
    """A principal that was deleted and made anew counts from 1 again."""
    new, old = key(2, principal="http/mail"), key(2, principal="http/mail")
    generations = tuple(Generation(number, (one,), made=0.0) for number, one in ((9, new), (8, old)))
    assert [e.key for e in entries_of(Holding("asa", "LAB", ("http/mail",), generations))] == [new.value]


def test_spellings_keep_ports_and_further_names() -> None:
    assert spellings("HTTP/A:8080") == ("HTTP/A:8080", "http/a:8080", "HTTP/a:8080")
    assert spellings("GC/dc1/Forest") == ("GC/dc1/Forest", "GC/dc1/forest")


def outside(program: str, *arguments: str, text: str = "") -> str:
    if not shutil.which(program):
        pytest.skip(f"{program} (Debian package krb5-user) is missing")
    done = subprocess.run([program, *arguments], input=text, capture_output=True, text=True, check=True)
    return done.stdout


def test_klist_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "keytab"
    path.write_bytes(write_keytab([ENTRY, KeytabEntry(("host", "cas1"), "LAB", 1, 0, 3, 18, bytes(32))]))
    shown = outside("klist", "-k", "-e", "-K", str(path))
    assert " 261 http/cas@LAB (aes128-cts-hmac-sha1-96)  (0x000102030405060708090a0b0c0d0e0f)" in shown
    assert "   3 host/cas1@LAB (aes256-cts-hmac-sha1-96)" in shown


def test_what_ktutil_wrote_and_deleted_is_read(tmp_path: Path) -> None:
    path = tmp_path / "keytab"
    password = "made for this test"
    commands = "".join(
        f"addent -password -p {name}@LAB -k {version} -e aes256-cts\n{password}\n"
        for name, version in (("http/cas", 7), ("imap/cas", 300))
    )
    outside("ktutil", text=f"{commands}wkt {path}\nq\n")
    first, second = read_keytab(path.read_bytes())
    assert (first.principal, first.version, first.enctype, len(first.key)) == ("http/cas@LAB", 7, 18, 32)
    assert (second.principal, second.version) == ("imap/cas@LAB", 300)
    assert first.key != second.key  # the salt is the principal's


def test_a_hole_that_krb5_left_is_skipped(tmp_path: Path) -> None:
    krb5 = pytest.importorskip("krb5", reason="pykrb5 is not installed")
    path = tmp_path / "keytab"
    path.write_bytes(write_keytab([ENTRY, KeytabEntry(("host", "cas1"), "LAB", 1, 0, 3, 18, bytes(32))]))
    context = krb5.init_context()
    table = krb5.kt_resolve(context, f"FILE:{path}".encode())
    gone = krb5.kt_get_entry(context, table, krb5.parse_name_flags(context, b"http/cas@LAB"), 261, 17)
    krb5.kt_remove_entry(context, table, gone)
    assert path.stat().st_size >= len(FILE)
    assert [entry.principal for entry in read_keytab(path.read_bytes())] == ["host/cas1@LAB"]
