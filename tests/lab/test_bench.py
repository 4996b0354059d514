"""The benchmark measures what it says, on its smallest scale, and leaves nothing behind. Times are not judged here."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from casarray.core.dcerpc.association import Reply, RpcClient
from casarray.core.dcerpc.interfaces.epm import EPM, EPT_MAP, EptMapReply
from casarray.lab.bench import __main__ as entry
from casarray.lab.bench import report, scale
from casarray.lab.bench.figure import Check, Figure, Scale
from casarray.lab.bench.kernel import pins_of
from casarray.lab.bench.load import Requests
from casarray.lab.bench.mapper_load import script
from casarray.lab.bench.topology import client
from casarray.lab.netns import here, missing

NEEDED = ("haproxy", "nginx", "wrk", "iperf3", "nft")
LACKING = [program for program in NEEDED if not shutil.which(program)]
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def _root() -> None:
    if reason := missing():
        pytest.skip(reason)
    if LACKING:
        pytest.skip(f"not installed: {', '.join(LACKING)} (script/setup --bench)")


def bench(*arguments: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(here())}
    return subprocess.Popen(
        [sys.executable, "-m", "casarray.lab.bench", "--quick", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def left_behind(pid: int) -> list[str]:
    """Namespaces of the benchmark with this pid, and processes in them."""
    namespaces = [name for name in os.listdir("/run/netns") if name.startswith(f"ca{pid}x")]
    running = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "casarray-bench-" in words or "casarray.lab.bench" in words:
            running.append(words.replace("\0", " "))
    return namespaces + running


def folders() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("casarray-bench-*")}


@pytest.mark.root
@pytest.mark.usefixtures("_root")
@pytest.mark.parametrize("figure", ["requests", "connections", "bulk", "latency"])
def test_every_peer_carries_traffic(figure: str, tmp_path: Path) -> None:
    before = folders()
    process = bench("--only", figure, "--json", str(tmp_path / "out.json"))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found = json.loads((tmp_path / "out.json").read_text())["figures"][0]
    assert set(found["samples"]) == {"routing", "tracked", "haproxy", "nginx", "kernel", "netfilter", "userspace"}
    assert all(value >= 0 for values in found["samples"].values() for value in values)
    assert "errors" not in err
    assert found["title"] in out
    assert left_behind(process.pid) == []
    assert folders() <= before


@pytest.mark.root
@pytest.mark.usefixtures("_root")
@pytest.mark.parametrize("figure", ["pins", "restore", "verdict", "mapper", "start"])
def test_the_program_and_its_table_are_measured(figure: str, tmp_path: Path) -> None:
    process = bench("--only", figure, "--json", str(tmp_path / "out.json"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found = json.loads((tmp_path / "out.json").read_text())["figures"][0]
    assert found["checks"]
    assert all(value > 0 for values in found["samples"].values() for value in values)
    assert left_behind(process.pid) == []


@pytest.mark.root
@pytest.mark.usefixtures("_root")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("after", ["-- requests", "plain routing:"])
def test_an_interrupted_run_leaves_nothing(sign: signal.Signals, after: str) -> None:
    before = folders()
    process = bench("--only", "requests")
    assert process.stderr is not None
    while after not in (line := process.stderr.readline()):
        assert line, "it ended before it could be interrupted"
    time.sleep(0.7)  # in the midst of building, or of the next peer's turn
    process.send_signal(sign)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert left_behind(process.pid) == []
    assert folders() <= before


def test_without_root_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entry, "missing", lambda: "network namespaces need root")
    monkeypatch.setattr(sys, "argv", ["bench"])
    assert entry.main() == 1
    assert "network namespaces need root" in capsys.readouterr().err


def test_ratios_are_taken_within_a_round() -> None:
    figure = Figure("x", "x", "1/s", {"a": [1.0, 20.0, 300.0], "b": [2.0, 10.0, 300.0]})
    assert figure.ratio("a", "b") == 1.0
    assert figure.median("a") == 20.0


@pytest.mark.parametrize(("value", "at_least", "met"), [(0.97, True, True), (0.96, True, False), (0.96, False, True)])
def test_a_goal_is_met_or_not(value: float, at_least: bool, met: bool) -> None:
    assert Check("of routing", value, 0.97, at_least).met is met


def test_percentiles_count_every_request() -> None:
    seen = Requests(1.0, 0, Counter({10: 50, 20: 49, 1000: 1}))
    assert [seen.percentile(share) for share in (0.5, 0.99, 1.0)] == [10, 20, 1000]


def test_the_page_tells_what_was_missed(tmp_path: Path) -> None:
    figure = Figure(
        "requests", "keep-alive requests", "requests/s", {"routing": [100.0, 110.0], "kernel": [50.0, 60.0]}
    )
    figure.at_least("of routing", figure.ratio("kernel", "routing"), 0.97)
    page = tmp_path / "performance.md"
    report.write_page(page, [figure], Scale(), 60.0)
    assert "| keep-alive requests: of routing | 0.523 | >= 0.97 | **no** |" in page.read_text()
    assert json.loads((tmp_path / "performance" / "results.json").read_text())["figures"][0]["median"]["kernel"] == 55.0


def test_figures_of_an_earlier_run_fill_in_what_was_not_measured_now(tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.json"
    old = [Figure("requests", "x", "1/s", {"kernel": [1.0]}), Figure("start", "x", "s", {"kernel": [2.0]})]
    old[1].at_most("s", 2.0, 1.0)
    earlier.write_text(json.dumps(report.as_json(old, Scale(), 1.0)))
    found = entry.with_earlier([Figure("requests", "x", "1/s", {"kernel": [3.0]})], earlier)
    assert [(figure.name, figure.median("kernel")) for figure in found] == [("requests", 3.0), ("start", 2.0)]
    assert found[1].checks == old[1].checks
    assert "earlier" in found[1].notes[-1]


def test_made_up_pins_are_in_the_form_that_is_restored() -> None:
    data = pins_of(3, 2)
    assert data[:8] == b"CAP1\x03\0\0\0"
    assert len(data) == 4 + 4 + 3 * (4 + 2 + 4) + 4
    assert ip_address(data[8:12]) == ip_address("100.64.0.0")


def test_the_canned_mapper_conversation_is_a_real_one() -> None:
    words = script()
    asker = RpcClient()
    assert asker.bind(EPM) == words.bind
    asker.receive(words.bound)
    asker.call(EPM, EPT_MAP, b"")
    (reply,) = asker.receive(words.answer)
    assert isinstance(reply, Reply)
    assert EptMapReply.decode(reply.stub).towers[0].port == 50213


def test_client_addresses_are_in_their_net_and_differ() -> None:
    addresses = {client(number) for number in range(5000)}
    assert len(addresses) == 5000
    assert all(ip_address(address) in ip_network("10.32.0.0/16") for address in addresses)


def test_a_lost_member_moves_nobody_in_vain() -> None:
    moved, due, vain = scale.moved_by_member(scale.Site(clients=100_000, slots=16381), 16)
    assert vain == 0
    assert moved == pytest.approx(due, rel=0.1)


def test_a_lost_gateway_moves_its_own_clients_where_routers_hash_resiliently() -> None:
    site = scale.Site(clients=200_000, gateways=10)
    gateway, member = scale.moved_share(site, resilient=True)
    assert gateway == pytest.approx(0.1, rel=0.05)
    assert member == pytest.approx(0.1 * site.strays, rel=0.2)
    assert scale.moved_share(site, resilient=False)[0] > 0.8
