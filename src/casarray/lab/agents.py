"""Members' agents for the lab: real ones, each with its own machine keytab, vault and keytab files.

They run as threads of this process, as fifty would not fit beside each other as programs on two cores; where a test
wants a program of its own (to kill it), `program` starts one.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from casarray.agent import RunningAgent
from casarray.core.kerberos.agent_config import AgentSettings, KeytabFile


@dataclass(frozen=True, slots=True)
class Place:
    """Where one member's agent is."""

    fqdn: str
    address: str  # to listen on
    machine_keytab: Path
    folder: Path  # of its vault, its key and its keytab


def settings_of(
    place: Place,
    administrators: Sequence[str],
    *,
    port: int = 7135,
    health_port: int = 7136,
    keytabs: Sequence[KeytabFile] | None = None,
    members: Sequence[str] = (),
    peers: Sequence[str] = (),
    check_interval: float = 60.0,
) -> AgentSettings:
    """What that agent's file would say; by itself it keeps one keytab, ``array.keytab`` in its folder."""
    place.folder.mkdir(parents=True, exist_ok=True)
    own = (KeytabFile(str(place.folder / "array.keytab")),)
    return AgentSettings(
        tuple(administrators),
        fqdn=place.fqdn,
        listen=f"{place.address}:{port}",
        health=f"{place.address}:{health_port}",
        keytab=str(place.machine_keytab),
        state=str(place.folder / "state"),
        key_file=str(place.folder / "agent.key"),
        members=tuple(members),
        peers=tuple(peers),
        check_interval=check_interval,
        keytabs=own if keytabs is None else tuple(keytabs),
    )


class LabAgents:
    """Several agents in this process; a context manager."""

    def __init__(self, settings: Sequence[AgentSettings]) -> None:
        """Each listens on an address of its own; make this inside the network it is of."""
        self.running: dict[str, RunningAgent] = {}
        try:
            for one in settings:
                self.running[one.fqdn] = RunningAgent(one)
        except BaseException:
            self.close()
            raise
        for agent in self.running.values():
            agent.start()

    def __enter__(self) -> "LabAgents":
        """They run."""
        return self

    def __exit__(self, *_: object) -> None:
        """They are ended."""
        self.close()

    def stop(self, fqdn: str) -> AgentSettings:
        """End one; its settings, to start it again."""
        agent = self.running.pop(fqdn)
        agent.close()
        return agent.settings

    def start(self, settings: AgentSettings) -> None:
        """Start one more."""
        agent = self.running[settings.fqdn] = RunningAgent(settings)
        agent.start()

    def close(self) -> None:
        """End all."""
        while self.running:
            self.running.popitem()[1].close()


def written(settings: AgentSettings, path: Path) -> Path:
    """The settings as a file, for `program`."""
    lines = ["[agent]"]
    for name in ("fqdn", "listen", "health", "keytab", "state", "key_file"):
        lines.append(f'{name} = "{getattr(settings, name)}"')
    for name in ("administrators", "members", "peers"):
        lines.append(f"{name} = [{', '.join(_quoted(one) for one in getattr(settings, name))}]")
    lines.append(f'check_interval = "{settings.check_interval:.0f}s"')
    for one in settings.keytabs:
        lines += ["", "[[keytab]]", f'path = "{one.path}"', f'owner = "{one.owner}"']
        lines.append(f"services = [{', '.join(_quoted(word) for word in one.services)}]")
        lines.append(f"with_own = {str(one.with_own).lower()}")
        lines.append(f"reload = [{', '.join(_quoted(word) for word in one.reload)}]")
    path.write_text("\n".join([*lines, ""]))
    return path


def program(config: Path, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    """`casarray agent run` as a process of its own, when it is ready; inside the network of whoever calls."""
    with (config.parent / f"{config.stem}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "casarray.main", "agent", "run", "-c", str(config)],
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
