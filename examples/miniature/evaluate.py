"""How well a snapshot replaces people: drawn clips nobody trained on, rendered by the engine, measured in colour.

    python evaluate.py --seed 7 --characters 2 --mode replacement --size 96x64 --frames 17 --json

Colours are 0..255, mean absolute difference over red, green and blue of a person's mean colour inside the matte, all
frames together. `reference` is the character as drawn in the actor's pose, so that a hidden trouser leg is no error;
`swapped` is the nearest of the other characters. `follows_masks`: with the mask colours of the references exchanged,
the share of people who are nearer to the other character. `--segments N` chains N segments of `--frames`, each from
the last five frames of the one before; `--solvers` and `--packed` compare instead.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scenes import Clip, Scene, scene

from scail2_farm.engine import (
    Engine,
    Sampling,
    SegmentInputs,
    driving_background,
    load,
    paint,
    reference_background,
)
from scail2_farm.engine.quantize import quantize_snapshot

OVERLAP = 5
VISIBLE = 0.003  # of all pixels of a clip: a person less visible than this is not judged
SHIPPED = Path(__file__).resolve().parents[2] / "scail2_farm" / "engine" / "miniature"


@dataclass(frozen=True, slots=True)
class Judged:
    """One person in one rendered clip; errors are 0..255."""

    to_reference: float
    to_picture: float  # to the reference picture as it stands, whatever the pose
    to_actor: float
    to_other: float | None  # the nearest other character


def segment_inputs(clip: Clip, sampling: Sampling, *, seed: int, segment: int = 0) -> SegmentInputs:
    """What the engine is given for a clip, mask colours and all."""
    return SegmentInputs(
        driving=clip.driving,
        driving_mask=paint(clip.labels, background=driving_background(replace=clip.replace)),
        reference=clip.reference,
        reference_mask=paint(clip.reference_labels, background=reference_background(replace=clip.replace)),
        prompt="",
        replace=clip.replace,
        sampling=sampling,
        seed=seed,
        segment=segment,
    )


def render(engine: Engine, inputs: SegmentInputs) -> np.ndarray:
    """The new frames of one segment."""
    steps = engine.render(inputs)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value.frames


def chained(engine: Engine, clip: Clip, sampling: Sampling, *, seed: int, frames: int) -> np.ndarray:
    """All frames of a clip in segments of `frames`, overlapping by five."""
    made = np.empty_like(clip.driving[:0])
    for index, first in enumerate(range(0, len(clip.driving) - OVERLAP, frames - OVERLAP)):
        span = slice(first, first + frames)
        piece = replace(clip, driving=clip.driving[span], labels=clip.labels[span])
        inputs = segment_inputs(piece, sampling, seed=seed, segment=index)
        history = made[-OVERLAP:] if index else None
        made = np.concatenate([made, render(engine, replace(inputs, history=history))])
    return made


def judge(clip: Clip, made: np.ndarray) -> list[Judged]:
    """Every person who can be seen."""
    inside = {slot: clip.labels == slot for slot in clip.slots}
    inside = {slot: mask for slot, mask in inside.items() if mask.mean() >= VISIBLE}
    wanted = {slot: clip.target[mask].mean(axis=0) for slot, mask in inside.items()}
    people: list[Judged] = []
    for slot, mask in inside.items():
        colour = made[mask].mean(axis=0)
        picture = clip.reference[clip.reference_labels == slot].mean(axis=0)
        others = [apart(colour, other) for key, other in wanted.items() if key != slot]
        people.append(
            Judged(
                to_reference=apart(colour, wanted[slot]),
                to_picture=apart(colour, picture),
                to_actor=apart(colour, clip.driving[mask].mean(axis=0)),
                to_other=min(others) if others else None,
            )
        )
    return people


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of two colours, 0..255."""
    return float(255 * np.abs(one - other).mean())


def psnr(made: np.ndarray, wanted: np.ndarray) -> float:
    """Decibels for values in 0..1."""
    return float(-10 * np.log10(np.mean((made - wanted) ** 2) + 1e-12))


def share(flags: list[bool]) -> float | None:
    """The share of what is true; None of nothing."""
    return round(float(np.mean(flags)), 4) if flags else None


def mean(values: list[float]) -> float | None:
    """The mean; None of nothing."""
    return round(float(np.mean(values)), 3) if values else None


def scenes_of(options: argparse.Namespace) -> Iterator[tuple[int, Scene]]:
    """The scenes of a seed; references fill their columns and are letterboxed by turns."""
    width, height = options.size
    for index in range(options.clips):
        yield (
            index,
            scene(
                [options.seed, 977, index],
                characters=options.characters,
                replace=options.mode == "replacement",
                bystanders=options.bystanders,
                aspect=width / height,
                portrait=2 / 3 if index % 2 else None,
            ),
        )


def evaluate(engine: Engine, options: argparse.Namespace) -> dict[str, object]:
    """The figures of a seed."""
    width, height = options.size
    sampling = Sampling(solver=options.solver, steps=options.steps, shift=options.shift, guidance=1.0)
    frames = options.frames + (options.segments - 1) * (options.frames - OVERLAP)
    people: list[Judged] = []
    exchanged: list[Judged] = []
    behind: list[float] = []
    whole: list[float] = []
    strangers: list[float] = []
    ends: list[tuple[float, float]] = []
    rows: list[np.ndarray] = []
    for index, drawn in scenes_of(options):
        clip = drawn.draw(width=width, height=height, frames=frames)
        made = chained(engine, clip, sampling, seed=index, frames=options.frames)
        people += judge(clip, made)
        behind.append(psnr(made[clip.labels == 0], clip.target[clip.labels == 0]))
        whole.append(psnr(made, clip.target))
        if clip.replace and clip.bystanders.mean() >= VISIBLE:
            seen = clip.bystanders
            strangers.append(apart(made[seen].mean(axis=0), clip.target[seen].mean(axis=0)))
        if options.segments > 1:
            head, tail = slice(options.frames), slice(OVERLAP - options.frames, None)
            ends.append((psnr(made[head], clip.target[head]), psnr(made[tail], clip.target[tail])))
        elif options.characters > 1:
            other = drawn.exchanged().draw(width=width, height=height, frames=frames)
            exchanged += judge(other, chained(engine, other, sampling, seed=index, frames=options.frames))
        if len(rows) < options.rows:
            times = (0, frames // 2, frames - 1)
            shown = [video[at] for at in times for video in (clip.driving, made, clip.target)]
            rows.append(np.concatenate([clip.reference, *shown], axis=1))
    if options.sheet:
        Image.fromarray((255 * np.concatenate(rows) + 0.5).astype(np.uint8)).save(options.sheet)
    return {
        "people": len(people),
        "color_error_to_reference": mean([one.to_reference for one in people]),
        "color_error_to_reference_picture": mean([one.to_picture for one in people]),
        "color_error_to_actor": mean([one.to_actor for one in people]),
        "color_error_swapped": mean([one.to_other for one in people if one.to_other is not None]),
        "nearer_reference": share([one.to_reference < one.to_actor for one in people]),
        "not_swapped": share([one.to_reference < one.to_other for one in people if one.to_other is not None]),
        "follows_masks": share([one.to_reference < one.to_other for one in exchanged if one.to_other is not None]),
        "background_psnr_db": mean(behind),
        "frame_psnr_db": mean(whole),
        "bystander_color_error": mean(strangers),
        "first_segment_psnr_db": mean([first for first, _ in ends]),
        "last_segment_psnr_db": mean([last for _, last in ends]),
        "chain_loss_db": mean([first - last for first, last in ends]),
    }


def compare_solvers(engine: Engine, options: argparse.Namespace) -> dict[str, object]:
    """Frame PSNR of each solver on the same clips and noise."""
    return {"frame_psnr_db": {name: _quality(engine, options, name) for name in ("unipc", "dpmpp", "euler")}}


def _quality(engine: Engine, options: argparse.Namespace, solver: str) -> float | None:
    width, height = options.size
    found = []
    for index, drawn in scenes_of(options):
        clip = drawn.draw(width=width, height=height, frames=options.frames)
        sampling = Sampling(solver=solver, steps=options.steps, shift=options.shift, guidance=1.0)  # type: ignore[arg-type]
        found.append(psnr(render(engine, segment_inputs(clip, sampling, seed=index)), clip.target))
    return mean(found)


def compare_packed(weights: Path, options: argparse.Namespace) -> dict[str, object]:
    """Frame PSNR of the snapshot and of a packed copy of it (8 bits, groups of 64), both through the loader."""
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "q8"
        deque(quantize_snapshot(weights, packed, bits=8), maxlen=0)
        stored, rounded = (_quality(load(place), options, options.solver) for place in (weights, packed))
    return {"frame_psnr_db": {"stored": stored, "q8": rounded}}


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--characters", type=int, default=2)
    parser.add_argument("--bystanders", type=int, default=0)
    parser.add_argument("--mode", choices=("replacement", "animation"), default="replacement")
    parser.add_argument("--size", type=lambda text: tuple(int(side) for side in text.split("x")), default=(64, 64))
    parser.add_argument("--frames", type=int, default=9, help="of a segment, 4n+1")
    parser.add_argument("--segments", type=int, default=1)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--solver", choices=("unipc", "dpmpp", "euler"), default="euler")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--shift", type=float, default=3.0)
    parser.add_argument("--weights", type=Path, default=SHIPPED, help="snapshot folder; else the shipped one")
    parser.add_argument("--solvers", action="store_true", help="compare the three solvers")
    parser.add_argument("--packed", action="store_true", help="compare with a packed copy (Q8)")
    parser.add_argument("--sheet", type=Path, help="write a PNG: reference; driving, made, wanted at three times")
    parser.add_argument("--rows", type=int, default=8, help="clips on the sheet")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a list")
    return parser.parse_args(arguments)


def main() -> None:
    options = parsed()
    began = time.monotonic()
    if options.packed:
        figures = compare_packed(options.weights, options)
    else:
        figures = (compare_solvers if options.solvers else evaluate)(load(options.weights), options)
    width, height = options.size
    asked = {name: getattr(options, name) for name in ("seed", "characters", "mode", "frames", "segments", "clips")}
    asked |= {"size": f"{width}x{height}", "solver": options.solver, "steps": options.steps, "shift": options.shift}
    figures = asked | figures | {"seconds": round(time.monotonic() - began, 1)}
    if options.json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{name:>34}  {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
