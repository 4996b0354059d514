"""When a certificate runs out and for whom it is, read without judging it."""

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from tests.core.health.certificates import self_signed

from casarray.core.health.certificate import expires, names

DER = self_signed(datetime(2036, 1, 1, tzinfo=UTC))[0].public_bytes(Encoding.DER)


@pytest.mark.parametrize("year", [2021, 2049, 2050, 2200])  # from 2050 on the time is written with four digits of year
def test_the_end_of_a_certificate_is_read(year: int) -> None:
    until = datetime(year, 2, 28, 12, 30, tzinfo=UTC)
    assert expires(self_signed(until)[0].public_bytes(Encoding.DER)) == until.timestamp()


def test_a_cut_certificate_has_no_end() -> None:
    assert all(expires(DER[:cut]) is None for cut in range(len(DER)))


NAMED = self_signed(datetime(2036, 1, 1, tzinfo=UTC), "mail.domain.tld", "*.domain.tld")[0].public_bytes(Encoding.DER)


def test_the_names_of_a_certificate_are_its_subject_and_those_beside_it() -> None:
    assert names(NAMED) == ("cas.example", ("mail.domain.tld", "*.domain.tld"))
    assert names(DER) == ("cas.example", ())
    assert all(names(NAMED[:cut]) == ("", ()) for cut in range(len(NAMED)))


@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_bytes_raise(noise: bytes, at: int) -> None:
    expires(noise)
    names(noise)
    end = NAMED[-at:] if at else b""
    names(NAMED[: len(NAMED) - at - len(noise)] + noise + end)
    names(NAMED[:at] + noise + NAMED[at + len(noise) :])
    expires(DER[:at] + noise + DER[at + len(noise) :])
