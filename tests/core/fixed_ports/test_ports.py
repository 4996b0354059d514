"""The two ports and the ranges that Windows gives out."""

import pytest

from casarray.core.errors import Conflict
from casarray.core.fixed_ports.ports import (
    DEFAULT_PORTS,
    EXCHANGE_RANGE,
    WINDOWS_RANGE,
    DynamicRange,
    FixedPorts,
    RpcService,
    check_ports,
)


def test_the_ranges_are_a_start_and_a_count() -> None:
    assert (EXCHANGE_RANGE.start, EXCHANGE_RANGE.last) == (6005, 65534)
    assert (WINDOWS_RANGE.start, WINDOWS_RANGE.last) == (49152, 65535)
    assert 59531 in EXCHANGE_RANGE
    assert 65535 not in EXCHANGE_RANGE


def test_the_default_ports_are_right_and_lie_below_every_range() -> None:
    check_ports(DEFAULT_PORTS)
    assert (DEFAULT_PORTS.rpc, DEFAULT_PORTS.ab) == (5001, 5000)
    assert not any(port in EXCHANGE_RANGE or port in WINDOWS_RANGE for _, port in DEFAULT_PORTS)


@pytest.mark.parametrize("port", [0, 135, 1023, 65536])
@pytest.mark.parametrize("service", RpcService)
def test_a_port_out_of_bounds_is_refused_with_the_bounds_and_a_better_one(service: RpcService, port: int) -> None:
    ports = FixedPorts(rpc=port) if service is RpcService.RPC else FixedPorts(ab=port)
    with pytest.raises(Conflict, match=f"{port} cannot be the port of {service.windows_name}.*1024 to 65535, best 500"):
        check_ports(ports)


def test_the_bounds_themselves_are_ports() -> None:
    check_ports(FixedPorts(1024, 65535))


def test_two_services_cannot_have_one_port() -> None:
    with pytest.raises(Conflict, match="both services cannot have port 5001"):
        check_ports(FixedPorts(5001, 5001))


def test_a_service_without_a_port_is_passed_over() -> None:
    check_ports(FixedPorts(None, None))
    assert list(FixedPorts(None, 5000)) == [(RpcService.AB, 5000)]


def test_a_range_of_one_port_holds_that_port_alone() -> None:
    assert [port for port in (4999, 5000, 5001) if port in DynamicRange(5000, 1)] == [5000]
