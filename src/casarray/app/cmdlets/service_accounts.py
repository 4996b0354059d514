"""The alternate service account of a client access server: what Get- and Set-ClientAccessServer say of its keys.

These stand in front of the cmdlets of the same name that know only the directory; what concerns no keys is theirs.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from casarray.app.cmdlets import servers
from casarray.app.cmdlets.identity import CLIENT_ACCESS_SERVER, find_server, identity
from casarray.app.kerberos import member_keys as keys
from casarray.app.kerberos.desk import Desk
from casarray.core.directory.model import Server
from casarray.core.directory.model import key as folded
from casarray.core.errors import Conflict
from casarray.core.shell.cmdlet import Bound, Cmdlet, Credential, Host, Parameter, ParameterKind, Record, Run, Value

PROPERTY = "AlternateServiceAccountConfiguration"
STATUS = "IncludeAlternateServiceAccountCredentialStatus"
PASSWORD = "IncludeAlternateServiceAccountCredentialPassword"
CREDENTIAL = "AlternateServiceAccountCredential"
CLEAN_UP = "CleanUpInvalidAlternateServiceAccountCredentials"
REMOVE = "RemoveAlternateServiceAccountCredentials"
_OURS = (CREDENTIAL, CLEAN_UP, REMOVE)
_COMMON = ("Identity", "DomainController", "Force")


def get(desk: Desk, plain: Run, bounds: Sequence[Bound], host: Host) -> Iterator[Value]:
    """The servers, and with a switch what keys each holds, newest first."""
    if any(bound.flag(PASSWORD) for bound in bounds):
        host.warn(
            "passwords of shared accounts are kept nowhere, so none can be shown: members hold keys, and the next roll "
            "makes another password"
        )
    found = list(plain([_without(bound, STATUS, PASSWORD) for bound in bounds], host))
    wanted = any(bound.flag(name) for bound in bounds for name in (STATUS, PASSWORD))
    known = _configurations(desk, found) if wanted else {}
    for value in found:
        assert isinstance(value, Record)
        yield replace(value, properties={**value.properties, PROPERTY: known.get(folded(str(value)))})


def _configurations(desk: Desk, found: Sequence[Value]) -> dict[str, str]:
    directory = desk.directory.directory()
    named = [directory.servers[folded(str(value))] for value in found]
    return {folded(name): keys.configuration(state) for name, state in keys.states(desk, named).items()}


def set_(desk: Desk, plain: Run, bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    """Change servers, or the keys they hold."""
    about_keys = [bound for bound in bounds if any(bound.given(name) for name in _OURS)]
    if not about_keys:
        return plain(bounds, host)
    directory = desk.directory.directory()
    chosen = [(find_server(directory, CLIENT_ACCESS_SERVER, identity(b, CLIENT_ACCESS_SERVER)), b) for b in bounds]
    for _, bound in chosen:
        _refuse_mixture(bound)
    for server, bound in chosen:
        if bound.given(CREDENTIAL):
            _give(desk, server, bound, host)
        if bound.flag(CLEAN_UP):
            _clean_up(desk, server, host)
        if bound.flag(REMOVE):
            _remove(desk, server, host)
    return ()


def _refuse_mixture(bound: Bound) -> None:
    others = [name for name in bound.values if name not in _OURS and name not in _COMMON]
    if others:
        raise Conflict(f"-{others[0]} does not go together with what changes keys: run two commands")
    if bound.given(CREDENTIAL) and bound.flag(REMOVE):
        raise Conflict(f"-{CREDENTIAL} does not go together with -{REMOVE}: run two commands")


def _give(desk: Desk, server: Server, bound: Bound, host: Host) -> None:
    credential = bound.values[CREDENTIAL]
    if not isinstance(credential, Credential):
        raise Conflict(f"-{CREDENTIAL} takes a credential; write (Get-Credential)")
    if not host.may(f"Set-ClientAccessServer -{CREDENTIAL} {credential.user}", server.name):
        return
    given = keys.keys_of_password(desk, credential.user, credential.password, time.time)
    keys.hold(desk, server, given)
    if given.generation.pending:
        host.warn(
            f"the directory has another password for {given.account}: {server.name} holds the keys of this one as "
            f"pending, under the number {given.generation.number}. Give them to every member before you set it there, "
            f"or let casarray account roll do all of it"
        )


def _clean_up(desk: Desk, server: Server, host: Host) -> None:
    for gone in keys.clean_up(desk, server, time.time, dry_run=True):
        host.verbose(f"{server.name}: {gone} is of no use any more")
    if host.may(f"Set-ClientAccessServer -{CLEAN_UP}", server.name):
        keys.clean_up(desk, server, time.time)


def _remove(desk: Desk, server: Server, host: Host) -> None:
    if not host.may(f"Set-ClientAccessServer -{REMOVE}", server.name):
        return
    for account in keys.drop(desk, server):
        host.warn(
            f"{server.name} no longer reads tickets of {account}: as long as the account has names, clients that "
            f"insist on Kerberos fail there. Take the names away, or take the server out of the array"
        )


def cmdlets(desk: Desk) -> tuple[Cmdlet, ...]:
    """What this file offers: the two cmdlets with more parameters."""
    plain = {cmdlet.name: cmdlet for cmdlet in servers.cmdlets(desk.directory)}
    getting, setting = plain["Get-ClientAccessServer"], plain["Set-ClientAccessServer"]
    switch = ParameterKind.SWITCH
    return (
        replace(
            getting,
            run=partial(get, desk, getting.run),
            parameters=(
                *getting.parameters,
                Parameter(STATUS, switch, help=f"Ask each server's agent which keys it holds: {PROPERTY}."),
                Parameter(PASSWORD, switch, help="The same: no password is kept anywhere, so none is shown."),
            ),
            examples=(*getting.examples, f"Get-ClientAccessServer cas1 -{STATUS} | fl Name,{PROPERTY}"),
        ),
        replace(
            setting,
            run=partial(set_, desk, setting.run),
            parameters=(
                *setting.parameters,
                Parameter(
                    CREDENTIAL,
                    ParameterKind.CREDENTIAL,
                    help="Let it hold the keys that this password of a shared account gives, besides those it has.",
                ),
                Parameter(CLEAN_UP, switch, help="Take away keys that no ticket can need any more."),
                Parameter(REMOVE, switch, help="Let it forget all shared accounts."),
            ),
            examples=(*setting.examples, f"Set-ClientAccessServer cas1 -{CREDENTIAL} (Get-Credential)"),
        ),
    )


def _without(bound: Bound, *names: str) -> Bound:
    return replace(bound, values={name: value for name, value in bound.values.items() if name not in names})
