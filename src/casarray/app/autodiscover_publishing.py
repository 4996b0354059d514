"""The service connection points of Autodiscover: looked at, planned, changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from casarray.core.autodiscover.publication import (
    Difference,
    Pointer,
    differences,
    plan_publish,
    plan_unpublish,
)
from casarray.core.directory.active_directory import Partitions
from casarray.core.directory.ad_steps import Step
from casarray.core.directory.model import Array, Directory, Kind
from casarray.core.directory.rules import find
from casarray.core.errors import ConfigError


class Publications(Protocol):
    """Where they stand. Blocking; `Unavailable`, `Denied` with the right that is missing, `MovedOn`."""

    @property
    def partitions(self) -> Partitions:
        """The parts of the forest."""

    def pointers(self) -> Sequence[Pointer]:
        """All that there are."""

    def perform(self, steps: Sequence[Step]) -> None:
        """Carry these out."""


@dataclass(frozen=True, slots=True)
class Publishing:
    """One administrator, one URL, some arrays."""

    publications: Publications
    directory: Directory
    url: str
    arrays: tuple[Array, ...]

    def publish(self) -> tuple[Step, ...]:
        """What would be done."""
        found = self.publications.pointers()
        return plan_publish(found, self.directory, self.arrays, self.url, self.publications.partitions)

    def unpublish(self) -> tuple[Step, ...]:
        """What would be taken away."""
        return plan_unpublish(self.publications.pointers(), self.arrays, self.publications.partitions)

    def check(self) -> tuple[Difference, ...]:
        """What is not as it should be."""
        return tuple(differences(self.publications.pointers(), self.directory, self.arrays, self.url))


def arrays_named(directory: Directory, names: Sequence[str]) -> tuple[Array, ...]:
    """The arrays of these names, or all. `NotFound`."""
    if not names:
        return tuple(directory.arrays.values())
    found = (find(directory, Kind.ARRAY, name) for name in names)
    return tuple(array for array in found if isinstance(array, Array))


def the_url(given: str, configured: str) -> str:
    """The URL to publish. `ConfigError` when nothing says it."""
    if url := given or configured:
        return url
    raise ConfigError(
        "nothing says which URL clients shall ask at: set url under [autodiscover], or give --url "
        "https://autodiscover.domain.tld/autodiscover/autodiscover.xml"
    )
