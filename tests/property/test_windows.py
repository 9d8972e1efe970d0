"""Windows cover a shot exactly, chain by their overlap, and are what the model takes."""

from hypothesis import given
from hypothesis import strategies as st

from scail2_farm.shots import windows

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
