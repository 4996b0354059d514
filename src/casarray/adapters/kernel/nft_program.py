"""The nft program: one transaction from text. It is a program of its own, so that its library is not in our process."""

import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager

from casarray.core.errors import Denied, Unavailable

_SECONDS = 60.0


def run(
    text: str, *, program: str = "nft", announced: Callable[[int], AbstractContextManager[None]] | None = None
) -> None:
    """Perform the text as one transaction. Blocks.

    ``announced`` is entered with the child's process id before anything is done: the kernel announces the changes
    under that number. `Unavailable` if there is no such program or it refuses, `Denied` without the right.
    """
    try:
        child = subprocess.Popen(
            [program, "-f", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise Unavailable(
            f'the nft program cannot be run ({error}): install the package nftables, or set mode = "userspace"'
        ) from error
    with child:
        try:
            if announced:
                with announced(child.pid):
                    _, said = child.communicate(text, timeout=_SECONDS)
            else:
                _, said = child.communicate(text, timeout=_SECONDS)
        except subprocess.TimeoutExpired as error:
            child.kill()
            raise Unavailable(f"nft did not finish within {_SECONDS:.0f} s; try again") from error
    if child.returncode:
        reason = said.strip().partition("\n")[0] or f"exit code {child.returncode}"
        if "not permitted" in reason:
            raise Denied(
                "changing the kernel's forwarding table needs CAP_NET_ADMIN: run as root, give casarray the "
                f'capability, or set mode = "userspace" (nft: {reason})'
            )
        raise Unavailable(f'nft refused the forwarding table, so use mode = "userspace" or mend this: {reason}')
