"""Policies of arithmetic, and the self-test that grants them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scail2_farm import engine

# isort: split
import mlx.core as mx
import numpy as np

from scail2_farm.engine.pipeline import noise_for
from scail2_farm.engine.precision import Findings, Kernels, Precision, findings_here, recalled, record, self_test
from scail2_farm.engine.quantize import quantize_snapshot
from scail2_farm.errors import HostUnsupported

ROWS = 400


def small(**kernels: Callable[..., mx.array]) -> Findings:
    return self_test(rows=ROWS, width=64, compared=32, at_once=128, kernels=Kernels(**kernels))


@pytest.fixture(scope="module")
def sound() -> Findings:
    return small()


def test_sound_kernels_grant_every_policy(sound: Findings) -> None:
    """Three kernels in three types, in one piece and in several, all near the exact answer."""
    assert len(sound.trials) == 18
    assert all(trial.right for trial in sound.trials)
    for precision in engine.PRECISIONS:
        sound.require(precision)
    assert {trial.at_once for trial in sound.trials} == {128, ROWS}


def test_a_broken_product_is_refused_by_name() -> None:
    """bf16 products that lose their leading rows: bf16 is refused with the figures, f16 and f32 are not."""

    def broken(x: mx.array, weight: mx.array) -> mx.array:
        answer = x @ weight.T
        return mx.concatenate([answer[:9] * 0, answer[9:]]) if x.dtype == mx.bfloat16 else answer

    findings = small(gemm=broken)
    with pytest.raises(HostUnsupported, match=r"cannot be trusted with bf16: gemm in bf16, 400 rows") as caught:
        findings.require("bf16")
    assert caught.value.fix == "use precision f32 or f16"
    findings.require("f16")
    findings.require("f32")


def test_what_the_engine_does_not_rely_on_is_told_and_forgiven() -> None:
    """A packed product that is wrong is found, and used by nobody."""
    findings = small(packed=lambda x, weight, scales, biases: mx.zeros((x.shape[0], weight.shape[0]), x.dtype))
    assert {trial.kernel for trial in findings.trials if not trial.right} == {"packed"}
    assert "packed in f32, 400 rows 400 at a time: wrong, off by 1.0e+00" in str(findings)
    for precision in engine.PRECISIONS:
        findings.require(precision)


def test_attention_that_is_no_number_refuses_everything() -> None:
    """An answer that is not finite is infinitely wrong; where f32 fails nothing is left."""
    findings = small(attention=lambda q, keys, values: q * np.nan)
    assert all(trial.error == float("inf") for trial in findings.trials if trial.kernel == "attention")
    with pytest.raises(HostUnsupported) as caught:
        findings.require("f16")
    assert "update mlx" in caught.value.fix


def test_findings_are_kept_for_a_machine(sound: Findings, tmp_path: Path) -> None:
    """They come back as they were; a damaged file and another machine's are as good as none."""
    path = tmp_path / "cache" / "self-test.json"
    assert recalled(path) is None
    record(sound, path)
    assert recalled(path) == sound
    assert [file.name for file in path.parent.iterdir()] == ["self-test.json"]
    written = path.read_text()
    for spoilt in (written[:100], "[]", "{}", written.replace(sound.machine, "mlx 0.1, another")):
        path.write_text(spoilt)
        assert recalled(path) is None


@pytest.mark.skipif(mx.default_device().type != mx.DeviceType.cpu, reason="on a GPU it is not skipped")
def test_a_cpu_is_not_tried_and_that_is_said(tmp_path: Path) -> None:
    """Every policy may be used, and nothing is written."""
    findings = findings_here(tmp_path)
    assert str(findings).startswith("self-test skipped: mlx computes on the CPU")
    findings.require("bf16")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def answer(
    snapshot_folder: Path, segment: Callable[..., engine.SegmentInputs], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Precision, int | None], np.ndarray]:
    """The tiny network's velocity for a segment under a policy, from dense weights or from packed ones."""
    packed = tmp_path_factory.mktemp("packed")
    for bits in (8, 4):
        for _ in quantize_snapshot(snapshot_folder, packed / f"q{bits}", bits=bits):
            pass

    def velocity(precision: Precision, bits: int | None) -> np.ndarray:
        own = engine.load(packed / f"q{bits}" if bits else snapshot_folder, precision=precision)
        inputs = segment(9)
        latents = own.encode(inputs)
        answered = own.velocity(latents, own.condition(inputs), inputs=inputs)
        return np.array(answered(noise_for(seed=1, segment=0, shape=latents.shape), 700.0, 0))

    return velocity


@pytest.mark.parametrize(
    ("precision", "bits", "most"),
    [("bf16", None, 1.5e-2), ("f16", None, 2e-3), ("f32", 8, 2e-2), ("f32", 4, 0.2), ("f16", 8, 2e-2)],
)
def test_the_error_of_a_policy_on_the_tiny_snapshot(
    answer: Callable[[Precision, int | None], np.ndarray], precision: Precision, bits: int | None, most: float
) -> None:
    """Its gains are lively, so it errs more than a trained network would; Q8 stays within 2e-2."""
    exact, made = answer("f32", None), answer(precision, bits)
    assert made.dtype == np.float32
    assert most / 20 < np.linalg.norm(made - exact) / np.linalg.norm(exact) < most


def test_the_safe_policy_is_float32(
    snapshot_folder: Path, segment: Callable[..., engine.SegmentInputs], render: Callable[..., engine.SegmentResult]
) -> None:
    """What is rendered carefully by an engine of 16 bits is what one of 32 bits renders; then it is as before."""
    exact = engine.load(snapshot_folder)
    half = engine.load(snapshot_folder, precision="bf16")
    plain = render(segment(), half)
    with half.careful(), exact.careful():
        np.testing.assert_array_equal(render(segment(), half).frames, render(segment(), exact).frames)
    again = render(segment(), half)
    np.testing.assert_array_equal(again.frames, plain.frames)
    assert 0 < np.abs(plain.frames - render(segment(), exact).frames).max() < 0.1
