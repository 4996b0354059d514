"""The steps of a roll in words, for whoever watches: no secrets in them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from casarray.core.kerberos import roll as rules


def said(step: rules.Step) -> str:
    """What a step does."""
    return _WORDS[type(step)](step)


def _named(members: Sequence[str]) -> str:
    return ", ".join(members)


_WORDS: Mapping[type, Callable[[Any], str]] = {
    rules.Prove: lambda step: f"get a ticket with key {step.number} of {step.member}",
    rules.Confirm: lambda step: (
        f"tell {_named([name for name, _ in step.members])} that key {step.actual} is in the directory"
    ),
    rules.CopyTo: lambda step: f"give what {step.source} holds to {_named(step.members)}",
    rules.Ask: lambda _: "ask whether to go on",
    rules.Make: lambda _: "make a password and its keys",
    rules.Push: lambda step: f"give {_named(step.members)} the new keys, pending",
    rules.Check: lambda step: f"let {_named(step.members)} confirm the old and the new keys",
    rules.SetPassword: lambda _: "set the password in the directory",
    rules.Reread: lambda _: "ask the directory whether it took the password",
    rules.ProveNew: lambda _: "get a ticket with the new keys",
    rules.DeriveAgain: lambda _: "make the new keys again, by the salt that the directory tells now",
    rules.Restore: lambda step: f"give {_named(step.members)} the keys that the directory has",
    rules.End: lambda step: step.text,
}
