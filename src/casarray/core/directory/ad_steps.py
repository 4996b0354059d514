"""The single LDAP operations that changes are made of, as values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from casarray.core.directory.active_directory import SMTP

Values = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Edit:
    """Of one attribute: these values go, and must be there; those come, and must not be."""

    attribute: str
    gone: tuple[str, ...] = ()
    come: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Add:
    """Make an object."""

    dn: str
    classes: tuple[str, ...]
    values: Values
    may_exist: bool = False  # somebody else may have made it meanwhile: a container


@dataclass(frozen=True, slots=True)
class Modify:
    """Change attributes of an object, all or none."""

    dn: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Rename:
    """Give an object another name where it stands."""

    dn: str
    name: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an object that has nothing below it."""

    dn: str
    may_lack: bool = False


@dataclass(frozen=True, slots=True)
class Bare:
    """Look, before anything is done: only these stand below the object, so it may be deleted with them."""

    dn: str
    besides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OnlyArray:
    """Look, after an array was made or moved: another administrator may have done the same at the same time."""

    dn: str
    site: str  # its DN
    undo: tuple["Step", ...]  # what takes ours away again


Step = Add | Modify | Rename | Delete | Bare | OnlyArray


def taken_over(attribute: str, there: tuple[str, ...], fresh: tuple[str, ...], *, single: bool) -> Edit:
    """An attribute of a user who becomes an account; of proxyAddresses, further ones that the user has are kept."""
    if single:
        return Edit(attribute, there, fresh)
    gone = tuple(value for value in there if value.startswith(SMTP) and value not in fresh)
    kept = {value.casefold() for value in there if value not in gone}
    return Edit(attribute, gone, tuple(value for value in fresh if value.casefold() not in kept))


def words(step: Step) -> Iterator[str]:
    """The classes and attributes that a step needs in the schema."""
    if isinstance(step, Add):
        yield from step.classes
        yield from step.values
    elif isinstance(step, Modify):
        for edit in step.edits:
            yield edit.attribute
            if edit.attribute == "objectClass":
                yield from edit.come
