"""Where everything of a farm lies."""

from scail2_farm.farm.places import Places


def test_a_free_job_has_the_files_of_no_other(tmp_path):
    places = Places(root=tmp_path, state=tmp_path / ".farm")
    places.make()
    assert places.free_job("Cut") == "Cut"
    for taken in ("cut", "CUT.r2", "reel.r5"):
        (places.accepted / taken).mkdir()
    assert places.free_job("Cut") == "Cut.r3", "folders of two jobs never differ by case alone"
    assert places.free_job("reel") == "reel"
    assert places.free_job("reel.r5") == "reel.r6"
