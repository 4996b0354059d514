"""The manual lists every trouble of the walk in the words that are said."""

import re
from pathlib import Path

import pytest

from casarray.core.outlook.verdicts import WARNINGS, WORDS, Trouble

PAGE = (Path(__file__).parents[3] / "docs/operate/outlook-test.md").read_text()


def shown(text: str) -> str:
    """Places for names, as the manual has them."""
    return re.sub(r"\{(\w+)\}", lambda place: place[1].upper(), text)


@pytest.mark.parametrize("trouble", Trouble)
def test_the_manual_has_the_words_of_each_trouble(trouble: Trouble) -> None:
    words = WORDS[trouble]
    weight = "warning" if trouble in WARNINGS else ""
    said = " | ".join(map(shown, (words.says, words.sees, words.next)))
    assert f"| `{trouble}` | {weight} | {said} |" in PAGE
