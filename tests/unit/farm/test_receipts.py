"""What stands in STATUS/ of a name."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from farm_shots import StandingClock, fault, new_job, new_shot

from scail2_farm.farm.hotfolder import HotFolder
from scail2_farm.farm.ledger import Ledger, NewHeld
from scail2_farm.farm.receipts import Receipts, on_a_farm


@pytest.fixture
def receipts(tmp_path: Path) -> Iterator[Receipts]:
    clock = StandingClock()
    hotfolder = HotFolder(tmp_path, clock=clock, network=False, suffixes=(".otio",), unreadable=lambda path: None)
    ledger = Ledger(tmp_path / "ledger.db", clock=clock)
    yield Receipts(hotfolder=hotfolder, ledger=ledger, clock=clock)
    ledger.close()


def test_the_receipt_is_the_newest_jobs_whatever_it_is_called(receipts: Receipts):
    """A job has another name than its number when one before it still waits, or is of a ledger that is gone."""
    for revision, job in enumerate(("CUT.r3", "CUT", "CUT.r9"), 1):
        receipts.ledger.accept(new_job("CUT", job), [new_shot("SH010", "abc"[:revision])], supersede=False)
        receipts.write(now=True)
        told = receipts.hotfolder.status("CUT")
        assert (told["job"], told["revision"], told["state"]) == (job, revision, "open")
    receipts.changed("CUT.r3")
    receipts.duplicate("CUT", "CUT")
    receipts.write(now=True)
    told = receipts.hotfolder.status("CUT")
    assert (told["job"], told["state"]) == ("CUT", "duplicate")
    receipts.duplicate("CUT", "CUT.r9")
    receipts.write(now=True)
    assert receipts.hotfolder.status("CUT")["job"] == "CUT.r9"


def test_two_shows_with_cuts_of_one_name_have_a_receipt_each(receipts: Receipts):
    """Delivered elsewhere, a cut of the same name is no revision: neither takes anything from the other."""
    ours, theirs = new_job("CUT", "CUT"), replace(new_job("CUT", "CUT.r2"), deliver_to="/other/CUT.scail2")
    receipts.ledger.accept(ours, [new_shot("SH010", "a")], supersede=False)
    receipts.planning("CUT", "CUT.r2")
    told = receipts.ledger.accept(theirs, [new_shot("SH010", "b"), new_shot("SH020", "c")], supersede=True)
    receipts.changed("CUT.r2", name="CUT")
    receipts.write(now=True)
    assert (told.superseded, told.removed) == ((), ())
    assert (receipts.hotfolder.status("CUT")["job"], receipts.hotfolder.status("CUT")["state"]) == ("CUT", "open")
    assert receipts.hotfolder.status("CUT.r2")["shots"] == {"open": 2}
    again = replace(new_job("CUT", "CUT.r3"), deliver_to="/other/CUT.scail2", sha256="0" * 64)
    assert receipts.ledger.accept(again, [new_shot("SH010", "d")], supersede=False).superseded == ("CUT.r2/SH010",)
    receipts.changed("CUT.r3", name="CUT")
    receipts.write(now=True)
    assert receipts.hotfolder.status("CUT.r2")["job"] == "CUT.r3"
    assert receipts.hotfolder.status("CUT")["job"] == "CUT"


def test_a_cut_that_cannot_be_returned_is_told(receipts: Receipts):
    receipts.ledger.accept(new_job("CUT"), [], [NewHeld(shot="SH010", fault=fault("a plate is gone"))], supersede=False)
    assert receipts.ledger.to_return() is not None
    receipts.ledger.return_failed("CUT", fault("its folder is no folder", "SF-SHARE-UNAVAILABLE"))
    receipts.write(now=True)
    assert "could not be returned: its folder is no folder" in str(receipts.hotfolder.status("CUT")["why"])
    assert not any("about to be returned" in line for line in receipts.ledger.why("CUT"))
    assert [event.what for event in receipts.ledger.events()][-1] == "held"


@pytest.mark.parametrize(
    ("fix", "by_itself", "told"),
    [
        ("free space and submit again; all is kept", True, "free space and wait: it goes on by itself; all is kept"),
        ("submit again: it is rendered anew", False, "run `scail2-farm job retry CUT/SH010`: it is rendered anew"),
        ("put the file there", False, "put the file there"),
    ],
)
def test_advice_is_a_farms(fix: str, by_itself: bool, told: str):
    advised = on_a_farm(fault("x").model_copy(update={"fix": fix}), ref="CUT/SH010", by_itself=by_itself)
    assert advised.fix == told
