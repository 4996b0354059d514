"""The steps of a roll in words, for whoever watches: no secrets in them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from casarray.core.kerberos import roll_steps as steps


def said(step: steps.Step) -> str:
    """What a step does."""
    return _WORDS[type(step)](step)


def _named(members: Sequence[str]) -> str:
    return ", ".join(members)


_WORDS: Mapping[type, Callable[[Any], str]] = {
    steps.Prove: lambda step: f"get a ticket with key {step.number} of {step.member}",
    steps.Confirm: lambda step: (
        f"tell {_named([name for name, _ in step.members])} that key {step.actual} is in the directory"
    ),
    steps.CopyTo: lambda step: f"give what {step.source} holds to {_named(step.members)}",
    steps.Ask: lambda _: "ask whether to go on",
    steps.Make: lambda _: "make a password and its keys",
    steps.Push: lambda step: f"give {_named(step.members)} the new keys, pending",
    steps.Check: lambda step: f"let {_named(step.members)} confirm the old and the new keys",
    steps.SetPassword: lambda _: "set the password in the directory",
    steps.Reread: lambda _: "ask the directory whether it took the password",
    steps.ProveNew: lambda _: "get a ticket with the new keys",
    steps.DeriveAgain: lambda _: "make the new keys again, by the salt that the directory tells now",
    steps.Restore: lambda step: f"give {_named(step.members)} the keys that the directory has",
    steps.End: lambda step: step.text,
}
