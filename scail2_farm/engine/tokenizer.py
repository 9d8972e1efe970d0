"""Prompts to token ids: text cleaning and the snapshot's tokenizer (engine.md §6.3)."""

from __future__ import annotations

import html
from pathlib import Path

import ftfy
from tokenizers import Tokenizer

EOS = "</s>"


def clean(text: str) -> str:
    """Mend broken encodings, undo HTML escapes (twice: some are escaped twice), collapse white space."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


class PromptTokenizer:
    """The tokenizer of a snapshot; every list of ids ends with `</s>`, also one that was cut."""

    def __init__(self, path: Path, *, text_len: int) -> None:
        """Read tokenizer.json; raises ValueError when it is not a tokenizer or does not append `</s>`."""
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"not a tokenizer file: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._text_len = text_len
        eos = self._tokenizer.token_to_id(EOS)
        if eos is None or self._tokenizer.encode("").ids != [eos]:
            raise ValueError(f"the tokenizer does not make exactly one {EOS} of an empty prompt")
        self._eos = eos

    @property
    def vocab_size(self) -> int:
        """One more than the largest id the tokenizer can give."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def __call__(self, text: str) -> list[int]:
        """At most `text_len` ids of the cleaned text; the empty prompt is exactly one `</s>`."""
        ids = self._tokenizer.encode(clean(text)).ids
        return ids if len(ids) <= self._text_len else [*ids[: self._text_len - 1], self._eos]
