"""The golden two-segment generation through the farm's own path: plate files in, frames on disk out.

The fixture gives noise, encoder outputs and anti-aliased masks, which no matte sequence can say; these three are put in
at the engine's door. All else takes the road of a farm job: EXR plates, a PNG reference, segment documents, the history
file between the segments, and the model's frames on disk.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from submissions import read_exr, write_exr

from scail2_farm import engine
from scail2_farm.documents import (
    CanvasSize,
    FileDigest,
    Performer,
    PlateColor,
    PlateSource,
    Reference,
    Sampler,
    Segment,
    Span,
)
from scail2_farm.media.spaces import CONFIG
from scail2_farm.render import render

PARITY = Path(__file__).resolve().parents[1] / "parity"
sys.path.insert(0, str(PARITY))

from parity_harness import Golden, write_snapshot  # noqa: E402


class GivenNoise(engine.Engine):
    """The engine, with what a golden file prescribes put in at its door."""

    golden: Golden

    def render(self, inputs, *, noise=None, conditioning=None):
        given = self.golden.group("in.")
        first, end = self.golden.config["segments"][inputs.segment]
        prescribed = dataclasses.replace(
            inputs, driving_mask=given["driving_mask_u8"][first:end], reference_mask=given["ref_mask_u8"]
        )
        encoded = engine.Conditioning(text=given["context"], negative=given["context_null"], image=given["clip_fea"][0])
        return super().render(prescribed, noise=given[f"noise.{inputs.segment}"], conditioning=encoded)


def segments(golden: Golden, folder: Path) -> list[Segment]:
    """The documents of the fixture's segments."""
    plan, count = golden.config["pipeline"], golden.config["frames"]
    height, width = golden.config["H"], golden.config["W"]
    found: list[Segment] = []
    kept = 0
    for index, (first, end) in enumerate(golden.config["segments"]):
        found.append(
            Segment(
                key=f"golden{index}",
                shot="golden",
                index=index,
                count=len(golden.config["segments"]),
                window=Span(first=first, count=end - first),
                overlap=plan["segment_overlap"] if index else 0,
                keep=Span(first=kept, count=end - kept),
                leave=plan["segment_overlap"],
                plate=PlateSource(
                    kind="exr",
                    path=str(folder / "plate.####.exr"),
                    frames=Span(first=0, count=count),
                    width=width,
                    height=height,
                    rate=24,  # pyright: ignore[reportArgumentType]
                    timecode_start=None,
                ),
                color=PlateColor(config=CONFIG, space="sRGB - Display", decided_by="the test"),
                canvas=CanvasSize(width=width, height=height, active=(0, 0, width, height)),
                mode="replacement" if plan["replace_flag"] else "animation",
                prompt="",
                negative_prompt="",
                seed=0,
                sampler=Sampler(
                    preset="quality",
                    solver=plan["solver"],
                    steps=plan["steps"],
                    shift=plan["shift"],
                    guidance=plan["guide_scale"],
                ),
                performers=(
                    Performer(
                        id="x",
                        slot="blue",
                        references=(Reference(image=str(folder / "reference.png"), mask=None),),
                        seen=None,
                        prompt="",
                        matte=str(folder / "matte.####.png"),
                        matte_offset=0,
                    ),
                ),
                weights=FileDigest(path=str(folder / "weights"), sha256=""),
                folder=str(folder / f"segment{index}"),
                history=found[-1].folder if found else None,
            )
        )
        kept = end
    return found


def test_the_golden_video_through_the_farms_path(tmp_path):
    golden = Golden.read(PARITY / "golden" / "cfg_segment.safetensors")
    given = golden.group("in.")
    for n, picture in enumerate(given["pose_video_u8"]):
        write_exr(tmp_path / f"plate.{n:04d}.exr", picture.astype(np.float32) / np.float32(255), frame=n, tag=None)
        Image.fromarray(np.full(picture.shape[:2], 255, np.uint8)).save(tmp_path / f"matte.{n:04d}.png")
    Image.fromarray(given["ref_image_u8"]).save(tmp_path / "reference.png")
    (tmp_path / "weights").mkdir()
    write_snapshot(golden, tmp_path / "weights")
    loaded = GivenNoise(engine.load(tmp_path / "weights").snapshot)
    loaded.golden = golden
    for segment in segments(golden, tmp_path):
        for _ in render(segment, engine=loaded):
            pass

    expected = golden.group("out.")["video"].transpose(1, 2, 3, 0)  # (frames, H, W, 3) in [-1, 1]
    tolerance = golden.tolerance["max_abs_video"]
    worst = 0.0
    for segment in segments(golden, tmp_path):
        for n in range(segment.keep.first, segment.keep.first + segment.keep.count):
            raw = read_exr(Path(segment.folder) / "raw" / f"{n:07d}.exr")
            frame = read_exr(Path(segment.folder) / "frames" / f"{n:07d}.exr")
            assert (raw == frame).all(), "a display plate under a full matte is the model's picture"
            worst = max(worst, float(np.abs(raw * 2 - 1 - expected[n]).max()))
    assert worst <= tolerance, f"{worst} is more than {tolerance}"
