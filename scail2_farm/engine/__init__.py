"""SCAIL-2: arrays in, arrays out.

    engine = load(folder)
    steps = engine.render(SegmentInputs(...))      # a generator of Step that returns a SegmentResult

Everything public is here, numpy at the door; `pipeline` is where to start reading. The engine knows nothing of
timelines, colour spaces, queues or paths other than the weights'. Importing it opens the array backend, and raises
HostUnsupported when there is none.
"""

# isort: off - the backend is opened before anything that imports mlx
from scail2_farm.engine import backend as backend

# isort: on
from scail2_farm.engine.masks import IDENTITIES, driving_background, paint, reference_background
from scail2_farm.engine.memory import Forecast, Shape, available_bytes
from scail2_farm.engine.pipeline import (
    Conditioning,
    Engine,
    Sampling,
    SegmentInputs,
    SegmentResult,
    Step,
    load,
    peak_bytes,
)
from scail2_farm.engine.precision import PRECISIONS, Precision
from scail2_farm.engine.tiny import write_tiny_snapshot

__all__ = [
    "IDENTITIES",
    "PRECISIONS",
    "Conditioning",
    "Engine",
    "Forecast",
    "Precision",
    "Sampling",
    "SegmentInputs",
    "SegmentResult",
    "Shape",
    "Step",
    "available_bytes",
    "driving_background",
    "load",
    "paint",
    "peak_bytes",
    "reference_background",
    "write_tiny_snapshot",
]
