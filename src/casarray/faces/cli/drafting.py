"""The work of `init`: what was said and what was seen become a file."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from casarray.core.config_file import describe, examine
from casarray.core.errors import ConfigError, Denied
from casarray.core.forwarding.table import Address
from casarray.core.survey import CANDIDATES, Conclusion, Offer, Wanted, conclude, write_config
from casarray.faces.cli.output import complain, print_json, say
from casarray.faces.cli.world import World


def draft(around: World, wanted: Wanted, profile: str | None, output: str, *, look: bool, as_json: bool) -> None:
    """Look at the servers, write the file (``-`` is stdout), and tell what was seen."""
    offers: Sequence[Offer] = ()
    if look:
        if not as_json:
            complain(f"looking at {len(wanted.servers)} servers, {len(CANDIDATES)} questions each ...")
        servers: Mapping[str, Address] = {name: addresses[0] for name, addresses in wanted.servers}
        offers = around.survey(servers)
    conclusion = conclude(offers, profile)
    if not conclusion.profile and not conclusion.services:
        raise ConfigError("the servers have no service in common that is known here; choose one with --profile")
    text = write_config(wanted, conclusion)
    examined = examine(text, output if output != "-" else "the configuration")
    if examined.config is None:
        raise ConfigError(f"what was said makes no configuration, nothing was written:\n{describe(examined.problems)}")
    _deliver(output, text)
    _tell(output, text, offers, conclusion, as_json=as_json)


def _deliver(output: str, text: str) -> None:
    """Write the file in one piece: a broken-off write leaves the old one."""
    if output == "-":
        return
    target = Path(output)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(target)
    except PermissionError:
        raise Denied(f"no right to write {output}; write another file with -o, or use sudo") from None
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}; write another file with -o") from None
    finally:
        draft.unlink(missing_ok=True)


def _tell(output: str, text: str, offers: Sequence[Offer], conclusion: Conclusion, *, as_json: bool) -> None:
    if as_json:
        file = None if output == "-" else output
        print_json({"file": file, "text": text, "offers": offers, "conclusion": conclusion})
        return
    for offer in offers:
        names = [found.service for found in offer.found if found.up]
        known = f", {len(offer.interfaces)} RPC interfaces on TCP" if offer.interfaces else ""
        complain(f"{offer.server} ({offer.address}): {', '.join(names) or 'nothing answers'}{known}")
        if offer.mapper_reason:
            complain(f"{offer.server}: {offer.mapper_reason}")
    for remark in conclusion.remarks:
        complain(remark)
    if output == "-":
        print(text, end="")
    else:
        say(f"wrote {output}; next: casarray check -c {output}, then casarray run -c {output}")
