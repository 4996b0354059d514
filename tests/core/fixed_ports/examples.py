"""A site with two members and a mailbox server, and what its servers say."""

from collections.abc import Mapping

from casarray.core.directory.model import (
    CLIENT_ACCESS,
    MAILBOX,
    Array,
    Directory,
    RpcClientAccess,
    Server,
    Site,
)
from casarray.core.fixed_ports.asking import Answers
from casarray.core.fixed_ports.ports import FixedPorts, RpcService
from casarray.core.fixed_ports.rules import Finding, Severity
from casarray.core.fixed_ports.subject import Subject, Target, Why

RPC, AB = RpcService
BOTH = tuple(RpcService)
CAS1 = Target("cas1", ("10.12.0.21",), BOTH)
CAS2 = Target("cas2", ("10.12.0.22",), BOTH)
MBX1 = Target("mbx1", ("mbx1.domain.tld",), (RPC,), Why.PUBLIC_FOLDERS)


def subject(rpc: int | None = 5001, ab: int | None = 5000, targets: tuple[Target, ...] = (CAS1, CAS2, MBX1)) -> Subject:
    """The array CAS with these ports."""
    return Subject("CAS", "cas.domain.tld", "Paderborn", FixedPorts(rpc, ab), {RPC: "rpc", AB: "ab"}, targets)


def says(server: str, emsmdb: int = 5001, nspi: int = 5000, rfr: int | None = None) -> Answers:
    """A server whose endpoint mapper says so; 0 is not registered."""
    rfr = nspi if rfr is None else rfr
    named: Mapping[str, int] = {"EMSMDB": emsmdb, "NSPI": nspi, "RFR": rfr}
    return Answers(server, {interface: (port,) if port else () for interface, port in named.items()})


def codes(findings: tuple[Finding, ...], severity: Severity | None = None) -> list[tuple[str, str]]:
    """Whom the findings are about, and their codes."""
    return [(f.subject, f.code) for f in findings if severity is None or f.severity is severity]


def directory(settings: Mapping[str, object] | None = None) -> Directory:
    """The same site as a directory; mbx2 is a mailbox server of which nobody said that it has public folders."""
    return Directory().put(
        Site("Paderborn"),
        Site("Berlin"),
        Array("CAS", "cas.domain.tld", "Paderborn", (), settings or {}),
        _server("cas1", CLIENT_ACCESS),
        _server("cas2", CLIENT_ACCESS, MAILBOX),
        _server("cas9", CLIENT_ACCESS, access=False),
        _server("mbx1", MAILBOX, public_folders=True),
        _server("mbx2", MAILBOX),
        Server("far", "far.domain.tld", "Berlin", (MAILBOX,), None, public_folders=True),
    )


def _server(name: str, *roles: str, access: bool = True, public_folders: bool = False) -> Server:
    given = RpcClientAccess() if access and CLIENT_ACCESS in roles else None
    return Server(name, f"{name}.domain.tld", "Paderborn", roles, given, public_folders=public_folders)
