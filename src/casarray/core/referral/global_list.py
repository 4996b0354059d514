"""The Global Address List as one server shows it: everybody in one order, each with a number of the server's own.

Numbers (minimal entry ids) are given when somebody is first seen and never again to anybody else while the server
lives: a client may keep them as long as it keeps its handle. [MS-OXNSPI] 2.2.9.1, 3.1.4.5.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from casarray.core.dcerpc.interfaces.nspi import Stat
from casarray.core.dcerpc.interfaces.nspi_entry_ids import FIRST_MINIMAL_ID, Place
from casarray.core.directory.model import key
from casarray.core.referral.entries import bare_name, begin, exact_names, search_text
from casarray.core.referral.guide import Person


class GlobalList:
    """The table, made anew when the directory has become another; numbers stay."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # folded DN -> minimal id
        self._names: list[str] = []  # the other way round
        self._people: Sequence[Person] = ()
        self._rows: dict[str, int] = {}  # folded DN -> row
        self._exact: dict[str, list[int]] = {}  # folded name -> rows
        self._texts: list[str] = []  # what a name check looks through, by row

    def show(self, people: Sequence[Person]) -> None:
        """This is everybody now; the same object as before costs nothing."""
        if people is self._people:
            return
        self._people = people
        self._rows = {key(person.legacy_dn): row for row, person in enumerate(people)}
        self._texts = [search_text(person) for person in people]
        self._exact = {}
        for row, person in enumerate(people):
            for name in exact_names(person):
                rows = self._exact.setdefault(name, [])
                if rows[-1:] != [row]:
                    rows.append(row)

    def __len__(self) -> int:
        return len(self._people)

    def at(self, row: int) -> Person:
        """Who stands there."""
        return self._people[row]

    def number(self, person: Person) -> int:
        """The person's minimal id."""
        dn = key(person.legacy_dn)
        known = self._numbers.get(dn)
        if known is None:
            known = self._numbers[dn] = FIRST_MINIMAL_ID + len(self._names)
            self._names.append(dn)
        return known

    def row_of(self, minimal_id: int) -> int | None:
        """Where the person of that number stands; None for nobody's, or of somebody who is gone."""
        place = minimal_id - FIRST_MINIMAL_ID
        return self._rows.get(self._names[place]) if 0 <= place < len(self._names) else None

    def row_of_dn(self, dn: str) -> int | None:
        """Where the person of that DN stands."""
        return self._rows.get(key(dn))

    def named(self, typed: str, most: int) -> list[int]:
        """The rows of whom somebody may mean; at most so many. Who is called exactly so goes before all others."""
        text, exact = bare_name(typed)
        if not text:
            return []
        if found := self._exact.get(text):
            return found[:most]
        return [] if exact else list(islice(begin(self._texts, text), most))

    def place(self, stat: Stat) -> int | None:
        """The row at which a client stands, its delta counted in; the number of rows is the end, None nowhere."""
        total = len(self)
        match stat.current_record:
            case Place.BEGINNING:
                row: int | None = 0
            case Place.END:
                row = total
            case Place.CURRENT:  # so far in as the position is in the client's idea of the table
                row = total * min(stat.position, stat.total_records) // stat.total_records if stat.total_records else 0
            case number:
                row = self.row_of(number)
        return None if row is None else max(0, min(total, row + stat.delta))

    def standing(self, stat: Stat, row: int) -> Stat:
        """The client's STAT, standing at that row."""
        total = len(self)
        record = int(Place.END) if row >= total else self.number(self.at(row))
        return replace(stat, current_record=record, delta=0, position=row, total_records=total)
