"""Windows cover a shot exactly, chain by their overlap, and are what the model takes, whatever takes it had before."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from scail2_farm.windows import Window, continued, windows

LENGTHS = [(length, overlap) for length in range(5, 82, 4) for overlap in (1, 5, 9, 77) if overlap < length]


@given(count=st.integers(1, 5000), lengths=st.sampled_from(LENGTHS))
def test_windows_cover_and_chain(count, lengths):
    length, overlap = lengths
    found = windows(count, length=length, overlap=overlap)
    kept = [frame for window in found for frame in window.keep.numbers]
    assert kept == list(range(count)), "frames in = frames out"
    assert len({window.frames.count for window in found}) == 1
    for index, window in enumerate(found):
        assert window.frames.count % 4 == 1
        assert window.frames.count <= length
        assert window.keep.count >= 1
        assert window.frames.covers(window.keep)
        assert window.keep.first == window.frames.first + window.overlap
        if index:
            assert window.overlap == overlap
            assert window.frames.first == found[index - 1].frames.last - overlap + 1
            assert found[index - 1].keep.last >= window.frames.first + overlap - 1, "the history is rendered already"


@given(count=st.integers(1, 5000), lengths=st.sampled_from(LENGTHS))
def test_no_fewer_windows_would_do(count, lengths):
    length, overlap = lengths
    number = len(windows(count, length=length, overlap=overlap))
    assert number == 1 or (number - 1) * (length - overlap) + overlap < count


def test_the_lengths_of_the_specification():
    def shape(count):
        found = windows(count, length=81, overlap=5)
        return len(found), found[0].frames.count

    assert shape(81) == (1, 81)
    assert shape(82) == (2, 45)
    assert shape(157) == (2, 81)
    assert shape(161) == (3, 57)
    assert shape(1) == (1, 1)


# --------------------------------------------------------------------------- windows of earlier takes


def chains(found: Sequence[Window], count: int, *, length: int, overlap: int) -> None:
    """Windows cover exactly, are of lengths the model takes, and each starts from frames that are rendered already."""
    assert [frame for window in found for frame in window.keep.numbers] == list(range(count)), "frames in = frames out"
    assert found[0].overlap == 0
    for window in found:
        assert window.frames.count % 4 == 1
        assert window.frames.count <= length
        assert window.keep.count >= 1
        assert window.frames.covers(window.keep)
        assert window.keep.first == window.frames.first + window.overlap
    for before, after in pairwise(found):
        assert after.overlap == overlap
        assert after.keep.first == before.keep.last + 1, "its history is the last frames that are valid"
        assert after.frames.first >= 0, "as many as it takes"


@given(counts=st.lists(st.integers(1, 700), min_size=2, max_size=6), lengths=st.sampled_from(LENGTHS))
def test_a_shot_that_changes_its_length_again_and_again(counts, lengths):
    length, overlap = lengths
    grid = windows(counts[0], length=length, overlap=overlap)
    for before, count in pairwise(counts):
        found = continued(grid, count, length=length, overlap=overlap)
        if found is None:
            assert before < overlap < count, "its history is shorter than the overlap"
            found = windows(count, length=length, overlap=overlap)
            chains(found, count, length=length, overlap=overlap)
            grid = found
            continue
        chains(found, count, length=length, overlap=overlap)
        if count == before:
            assert found == grid
        if count > before:
            assert found[: len(grid)] == grid, "all that was rendered stays"
            run = windows(count - before + overlap, length=length, overlap=overlap)
            assert [window.frames.count for window in found[len(grid) :]] == [window.frames.count for window in run]
        if count < before:
            whole = [window for window in grid if window.keep.last < count]
            assert list(found[: len(whole)]) == whole, "what lies before the cut stays"
            assert len(found) - len(whole) <= 1
            cut = found[len(whole) :]
            assert all(window.frames.count - window.overlap - window.keep.count < 4 for window in cut), "no longer"
        grid = found


def test_an_extension_is_a_run_of_its_own():
    grid = windows(100, length=81, overlap=5)
    assert [window.frames.count for window in grid] == [53, 53]
    found = continued(grid, 110, length=81, overlap=5)
    assert found is not None
    assert (found[2].frames.first, found[2].frames.count) == (95, 17), "10 frames and the 5 before, as 4n + 1"
    assert (found[2].keep.first, found[2].keep.count, found[2].overlap) == (100, 10, 5)
    trimmed = continued(grid, 60, length=81, overlap=5)
    assert trimmed is not None
    assert trimmed[0] == grid[0]
    assert (trimmed[1].frames.first, trimmed[1].frames.count, trimmed[1].keep.count) == (48, 13, 7)
