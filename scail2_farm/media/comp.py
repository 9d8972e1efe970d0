"""The matte comp: generated pixels over the plate, and nothing else touched.

The plate's untouched pixels are copied, never computed: even `plate + (generated - plate) * 0` loses -0.0 and NaN
payloads (colour.md §2). Bits outside the matte are the writer's affair; here values are.
"""

from __future__ import annotations

import numpy as np


def comp(plate_rgb: np.ndarray, generated_rgb: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """`generated_rgb` over `plate_rgb` (H, W, 3) by `matte` (H, W) in 0..1, as float32 in the plate's encoding.

    Where the matte is 0 the plate's value is copied, where it is 1 the generated one; between, they are mixed. A
    plate value that is not finite cannot be mixed: there the generated one is taken.
    """
    if plate_rgb.shape != generated_rgb.shape or matte.shape != plate_rgb.shape[:2]:
        raise ValueError(f"plate {plate_rgb.shape}, generated {generated_rgb.shape} and matte {matte.shape} differ")
    result = plate_rgb.astype(np.float32, copy=True)
    full = matte >= 1.0
    result[full] = generated_rgb[full]
    edge = (matte > 0.0) & ~full
    under, over = result[edge], generated_rgb[edge].astype(np.float32, copy=False)
    weight = matte[edge].astype(np.float32, copy=False)[:, None]
    mixable = np.isfinite(under)
    under[~mixable] = over[~mixable]
    result[edge] = under * (np.float32(1.0) - weight) + over * weight
    return result
