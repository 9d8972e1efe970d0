"""Prompts to ids to rows (engine.md §6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scail2_farm.engine import Engine
from scail2_farm.engine.tokenizer import PromptTokenizer, clean
from scail2_farm.engine.umt5 import position_buckets


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("  a  man\n\twalks ", "a man walks"),
        ("rock &amp;amp; roll", "rock & roll"),
        ("&lt;b&gt;", "<b>"),
        ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("ﬁlm ‘noir’", "film 'noir'"),
        ("schÃ¶n", "schön"),
        ("", ""),
    ],
)
def test_cleaning(written: str, read: str) -> None:
    """Encodings mended, escapes undone twice, white space collapsed."""
    assert clean(written) == read


def test_position_buckets() -> None:
    """The check values of the published table."""
    grid = position_buckets(256, num_buckets=32, max_distance=128)
    expected = {0: 0, 1: 17, -1: 1, 7: 23, 8: 24, -8: 8, 16: 26, -16: 10, 32: 28, 64: 30, -64: 14, 128: 31, -128: 15}
    expected[200] = 31
    assert {r: int(grid[0, r] if r >= 0 else grid[-r, 0]) for r in expected} == expected


def test_an_empty_prompt_is_one_token(loaded: Engine) -> None:
    """Exactly `</s>`, and so one context row."""
    assert loaded.snapshot.tokenizer("") == [1]
    assert loaded.snapshot.tokenizer(" \n ") == [1]
    assert loaded.snapshot.umt5()([1]).shape == (1, 64)


def test_a_long_prompt_keeps_its_end(snapshot_folder: Path) -> None:
    """Cut to the text length, the last id is still `</s>` and the others are the first of the text."""
    path = snapshot_folder / "tokenizer.json"
    short, whole = PromptTokenizer(path, text_len=8), PromptTokenizer(path, text_len=512)
    text = "the camera follows her along the harbour"
    ids = whole(text)
    assert len(ids) > 8
    assert ids[-1] == 1
    assert short(text) == [*ids[:7], 1]
    assert len(whole("walk " * 4000)) == 512


def test_prompts_have_rows_of_their_own(loaded: Engine) -> None:
    """Different prompts have different rows; the same prompt has the same."""
    encoder, tokenizer = loaded.snapshot.umt5(), loaded.snapshot.tokenizer
    one, two = (np.array(encoder(tokenizer(text))) for text in ("a knight", "a clown"))
    assert not np.array_equal(one[:2], two[:2])
    assert np.array_equal(one, np.array(encoder(tokenizer("a knight"))))
    assert np.isfinite(one).all()


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    """Neither a broken file nor one that forgets `</s>` is used."""
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{}")
    with pytest.raises(ValueError, match="not a tokenizer file"):
        PromptTokenizer(broken, text_len=512)
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE(vocab={"</s>": 0}, merges=[])).save(str(broken))
    with pytest.raises(ValueError, match="exactly one </s>"):
        PromptTokenizer(broken, text_len=512)
