"""Conform a cut in Blender's sequence editor and render it: BPY_PYTHON blender_conform.py CUT.otio WIDTHxHEIGHT OUT.

Writes OUT/0000.exr, OUT/0001.exr ...: one picture for each record frame, as 32-bit floats. Every colour step is the
identity, so that a picture is what Blender read.
"""

import sys
from pathlib import Path

import bpy  # pyright: ignore[reportMissingImports]  # Blender's own Python has it
from strips import read_strips


def conform(edit: Path, size: tuple, out: Path) -> None:
    scene = bpy.context.scene
    strips = read_strips(edit)
    sequencer = scene.sequence_editor_create()
    scene.sequencer_colorspace_settings.name = "Non-Color"
    for strip in strips:
        _place(sequencer, strip)
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = *size, 100
    render.use_sequencer, render.use_compositing, render.dither_intensity = True, False, 0.0
    render.image_settings.file_format = "OPEN_EXR"
    render.image_settings.color_mode = "RGB"
    render.image_settings.color_depth = "32"
    scene.view_settings.view_transform = "Raw"
    render.filepath = str(out / "####")
    scene.frame_start, scene.frame_end = 0, max(strip.record + strip.count for strip in strips) - 1
    bpy.ops.render.render(animation=True)


def _place(sequencer, strip) -> None:
    """A strip of all the files of the media, its handles trimmed away as an editor's import does."""
    first, *rest = strip.files
    placed = sequencer.strips.new_image(strip.name, str(first), strip.channel, strip.record - strip.index)
    for file in rest:
        placed.elements.append(file.name)
    placed.frame_offset_start = strip.index
    placed.frame_offset_end = len(strip.files) - strip.index - strip.count
    placed.colorspace_settings.name = "Non-Color"


if __name__ == "__main__":
    width, height = sys.argv[2].split("x")
    conform(Path(sys.argv[1]), (int(width), int(height)), Path(sys.argv[3]))
