"""The manual's list of cmdlets is made from the cmdlets. CASARRAY_UPDATE_GOLDEN=1 writes it anew."""

import os
import re
from pathlib import Path

from tests.app.cmdlets.typed import Desk

from casarray.core.shell.cmdlet import Cmdlet, Impact, Parameter, ParameterKind

PAGE = Path(__file__).parents[3] / "docs" / "operate" / "directory.md"


def syntax(cmdlet: Cmdlet) -> str:
    """As Get-Help shows it."""
    shown = [parameter for parameter in cmdlet.parameters if not parameter.help.startswith("Taken for the sake")]
    return " ".join([cmdlet.name, *map(_parameter, shown)])


def _parameter(parameter: Parameter) -> str:
    name = f"-{parameter.name}" if parameter.position is None else f"[-{parameter.name}]"
    text = name if parameter.kind is ParameterKind.SWITCH else f"{name} <{parameter.kind}>"
    return text if parameter.mandatory else f"[{text}]"


def section(noun: str, cmdlets: list[Cmdlet]) -> str:
    """All verbs of a noun."""
    parts = [f"### {noun}\n"]
    for cmdlet in cmdlets:
        asks = " Asks first." if cmdlet.impact is Impact.HIGH else ""
        examples = "\n".join(cmdlet.examples)
        parts.append(f"{cmdlet.synopsis}{asks}\n\n```powershell\n# {syntax(cmdlet)}\n{examples}\n```\n")
    return "\n".join(parts)


def test_the_manual_lists_every_cmdlet_as_it_is() -> None:
    nouns: dict[str, list[Cmdlet]] = {}
    for cmdlet in Desk().cmdlets.values():
        nouns.setdefault(cmdlet.name.partition("-")[2], []).append(cmdlet)
    listed = "\n".join(section(noun, cmdlets) for noun, cmdlets in nouns.items())
    wanted = f"<!-- cmdlets: generated, see tests/app/cmdlets -->\n\n{listed}\n<!-- end of cmdlets -->"
    text = PAGE.read_text()
    if "CASARRAY_UPDATE_GOLDEN" in os.environ:
        text = re.sub(r"<!-- cmdlets: .*?<!-- end of cmdlets -->", lambda _: wanted, text, flags=re.DOTALL)
        PAGE.write_text(text)
    assert wanted in text
