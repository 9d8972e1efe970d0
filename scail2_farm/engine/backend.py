"""The array backend, opened before any other module of the engine.

Hides two facts of Linux. The CPU wheel of MLX links a reference BLAS of one thread; a system OpenBLAS put in the
process beforehand takes over its matrix products (2 becomes 200 GFLOP/s on two cores), so one is loaded here when the
machine has one, and all is well without. And plain `mlx` has no backend there at all: its import fails, which is
answered with the two commands that mend it. This is the one import of the package that is not free of effects.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable
from typing import Any, cast

from scail2_farm.errors import HostUnsupported

FIX = "install one backend, never both: pip install 'scail2-farm[cpu]' or pip install 'scail2-farm[cuda]'"

if sys.platform == "linux":
    with contextlib.suppress(OSError):
        ctypes.CDLL("libopenblas.so.0", mode=ctypes.RTLD_GLOBAL)

try:
    import mlx.core as mx
except ImportError as error:
    raise HostUnsupported(f"mlx cannot be imported: {error}", fix=FIX) from error

Layer = Callable[[mx.array], mx.array]

evaluate = cast("Callable[..., None]", mx.eval)  # pyright: ignore[reportUnknownMemberType]


def require_working() -> None:
    """Multiply two small matrices; raises HostUnsupported when the device MLX chose cannot."""
    try:
        evaluate(mx.ones((8, 8)) @ mx.ones((8, 8)))
    except RuntimeError as error:
        raise HostUnsupported(f"mlx cannot compute on {mx.default_device()}: {error}", fix=FIX) from error


def flat(tree: Any) -> dict[str, mx.array]:
    """The arrays of a module's parameter tree by dotted name."""
    from mlx.utils import tree_flatten  # pyright: ignore[reportUnknownVariableType]

    return cast("dict[str, mx.array]", tree_flatten(tree, destination={}))
