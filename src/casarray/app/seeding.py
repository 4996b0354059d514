"""Whole directories: seeded from a configuration file, or copied from one store to another. A plan first, always."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from casarray.app.directory import DirectoryService, Edit, Outcome
from casarray.core.config import Config
from casarray.core.directory import rules
from casarray.core.directory.changes import difference
from casarray.core.directory.model import DEFAULT_ORGANIZATION, Directory, Organization
from casarray.core.directory.serving import pruned, seed
from casarray.core.errors import CasarrayError


@dataclass(frozen=True, slots=True)
class Seeding:
    """What a file or another store would make of a directory."""

    edit: Edit
    what: str  # for the audit trail


def from_file(config: Config, tables: Mapping[str, Any], name: str, *, prune: bool = False) -> Seeding:
    """What `casarray apply` does: everything the file names is made or changed; with ``prune``, the rest goes."""

    def edit(before: Directory) -> Directory:
        after = seed(config, tables, before)
        return pruned(config, after) if prune else after

    return Seeding(edit, f"apply {name}{' --prune' if prune else ''}")


def from_directory(source: Directory, name: str, *, prune: bool = False) -> Seeding:
    """What `casarray directory copy` does: everything of the source; with ``prune``, nothing else is left."""

    def edit(before: Directory) -> Directory:
        after = before.put(*source)
        fresh = before.organization == DEFAULT_ORGANIZATION and not any(before)
        if fresh:  # one that has a name keeps it, and with it the legacyExchangeDN of everything in it
            after = after.put(Organization(source.organization, source.admin_group))
        if prune:
            after = after.without(*(thing for thing in before if source.get(thing.KIND, thing.name) is None))
        return after

    return Seeding(edit, f"directory copy --from {name}{' --prune' if prune else ''}")


def plan(service: DirectoryService, seeding: Seeding, *, force: bool = False) -> Outcome:
    """What it would change. Raises what breaks a rule."""
    return service.plan(seeding.edit, force=force)


def carry_out(service: DirectoryService, seeding: Seeding, *, force: bool = False) -> Outcome:
    """Do it. Interrupted, it is done the rest of the way by doing it again."""
    return service.change(seeding.edit, seeding.what, force=force)


def broken_rules(directory: Directory) -> tuple[str, ...]:
    """What in a directory that others made breaks our rules, a sentence each; empty when all is well."""
    found = []
    for change in difference(Directory(), directory):
        try:
            rules.check(Directory(), directory, (change,))
        except CasarrayError as error:
            found.append(f"{change.kind} {change.name}: {error}")
    return tuple(found)
