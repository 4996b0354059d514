"""One gateway per address and network namespace."""

import os
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from casarray.adapters.kernel.lock import AddressLock
from casarray.core.errors import Conflict

if TYPE_CHECKING:
    from tests.adapters.kernel.conftest import Lab

# Documentation addresses, so that a real gateway on this host is not in the way.
FIRST, SECOND, THIRD = ip_address("192.0.2.235"), ip_address("192.0.2.236"), ip_address("2001:db8::eb")


def test_a_second_gateway_with_the_same_address_is_refused_and_told_who_has_it() -> None:
    with AddressLock([FIRST]), pytest.raises(Conflict, match=rf"process {os.getpid()}\) already serves {FIRST}"):
        AddressLock([FIRST])


def test_an_address_is_free_again_when_its_holder_is_gone() -> None:
    AddressLock([FIRST]).close()
    AddressLock([FIRST]).close()


def test_a_refused_gateway_keeps_none_of_its_other_addresses() -> None:
    with AddressLock([SECOND]):
        with pytest.raises(Conflict):
            AddressLock([THIRD, SECOND, FIRST])
        AddressLock([THIRD, FIRST]).close()


def test_a_hundred_refusals_do_not_wear_the_lock_out() -> None:
    with AddressLock([FIRST]):
        for _ in range(100):
            with pytest.raises(Conflict, match=f"already serves {FIRST}"):
                AddressLock([FIRST])


@pytest.mark.root
def test_another_network_namespace_is_another_host(lab: "Lab") -> None:
    with lab.gateway.call(lambda: AddressLock([FIRST])), lab.client.call(lambda: AddressLock([FIRST])):
        pass
