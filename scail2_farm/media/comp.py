"""The matte comp: generated pixels over the plate, and nothing else touched.

The plate's untouched pixels are copied, never computed: even `plate + (generated - plate) * 0` loses -0.0 and NaN
payloads (colour.md §2). Bits outside the matte are the writer's affair; here values are.
"""

from __future__ import annotations

import numpy as np

from scail2_farm.media.mattes import Box


def comp(plate_rgb: np.ndarray, generated_rgb: np.ndarray, matte: np.ndarray, *, box: Box | None = None) -> np.ndarray:
    """`generated_rgb` over `plate_rgb` (H, W, 3) by `matte` (H, W) in 0..1, as float32 in the plate's encoding.

    Where the matte is 0 the plate's value is copied, where it is 1 the generated one; between, they are mixed. A
    plate value that is not finite cannot be mixed: there the generated one is taken. With `box` (`mattes.reach` of
    this matte) `generated_rgb` (h, w, 3) is of that part alone, and the rest is the plate's.
    """
    left, top, width, height = box or (0, 0, matte.shape[1], matte.shape[0])
    inside = slice(top, top + height), slice(left, left + width)
    weight = matte[inside]
    if matte.shape != plate_rgb.shape[:2] or generated_rgb.shape != (*weight.shape, 3):
        raise ValueError(
            f"plate {plate_rgb.shape}, generated {generated_rgb.shape}, matte {matte.shape} and box {box} differ"
        )
    result = np.array(plate_rgb, np.float32)
    full = weight >= 1.0
    edge = np.nonzero((weight > 0.0) & ~full)
    over_part = weight[edge].astype(np.float32, copy=False)
    for index in range(3):
        plate, generated = result[inside][..., index], generated_rgb[..., index]
        under, over = plate[edge], generated[edge].astype(np.float32, copy=False)
        under = np.where(np.isfinite(under), under, over)
        plate[edge] = under * (np.float32(1.0) - over_part) + over * over_part
        np.copyto(plate, generated, where=full, casting="same_kind")
    return result
