"""What a server issued, and to whom it counts."""

from tests.core.referral.talk import numbered

from casarray.core.referral.handles import Handles


def test_a_handle_counts_in_its_group_and_in_no_other() -> None:
    handles: Handles[str] = Handles(numbered())
    handle = handles.issue(1, "alice")
    assert handle is not None
    assert handles.value(handle, 1) == "alice"
    assert handles.value(handle, 2) is None


def test_another_group_cannot_take_a_handle_back() -> None:
    handles: Handles[str] = Handles(numbered())
    handle = handles.issue(1, "alice")
    assert handle is not None
    assert handles.take_back(handle, 2) is None
    assert handles.take_back(handle, 1) == "alice"
    assert handles.take_back(handle, 1) is None
    assert len(handles) == 0


def test_with_a_group_goes_everything_that_was_issued_to_it() -> None:
    handles: Handles[str] = Handles(numbered())
    kept = handles.issue(2, "bob")
    for _ in range(3):
        handles.issue(1, "alice")
    handles.forget_group(1)
    handles.forget_group(1)
    assert kept is not None
    assert (len(handles), handles.value(kept, 2)) == (1, "bob")


def test_no_more_are_issued_than_there_is_room_for() -> None:
    handles: Handles[str] = Handles(numbered(), most=2)
    first = handles.issue(1, "a")
    handles.issue(1, "b")
    assert handles.issue(1, "c") is None
    assert first is not None
    handles.take_back(first, 1)
    assert handles.issue(1, "c") is not None
