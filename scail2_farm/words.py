"""Numbers in words, as everything here says them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """So many of a thing: 1 shot, 2 shots."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds as a clock on the wall counts them: 12 s, 3 min 05 s, 2 h 05 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
