"""The sizes of the four networks. Each part owns one frozen dataclass; the defaults are the published 14B snapshot.

What the snapshot's config.json does not say is read from tensor shapes by `weights`; what neither says is fixed here
(engine.md §1.2): patches of 1x2x2, VAE stride 4x8x8, 16 latent channels, global attention, rotary theta 10000.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DiTConfig:
    """The diffusion transformer."""

    dim: int = 5120
    ffn_dim: int = 13824
    num_layers: int = 40
    num_heads: int = 40
    in_dim: int = 20
    mask_dim: int = 28
    out_dim: int = 16
    freq_dim: int = 256
    text_len: int = 512
    text_dim: int = 4096
    clip_dim: int = 1280
    eps: float = 1e-6
    packed: tuple[tuple[str, int], ...] = ()
    """Linears stored packed, by name, with their bits; read from the tensors, never from config.json."""

    @property
    def head_dim(self) -> int:
        """The width of one attention head."""
        return self.dim // self.num_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class VAEConfig:
    """The Wan 2.1 video autoencoder; `mean` and `std` are the statistics of its latent (engine.md §5.1)."""

    dim: int = 96
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    mean: tuple[float, ...] = (
        *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
        *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
    )
    std: tuple[float, ...] = (
        *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
        *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UMT5Config:
    """The text encoder."""

    vocab_size: int = 256384
    dim: int = 4096
    dim_attn: int = 4096
    dim_ffn: int = 10240
    num_heads: int = 64
    num_layers: int = 24
    num_buckets: int = 32
    max_distance: int = 128
    eps: float = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class CLIPConfig:
    """The vision tower; `num_layers` counts the stored blocks, of which the last is never run."""

    dim: int = 1280
    mlp_dim: int = 5120
    num_heads: int = 16
    num_layers: int = 32
    patch_size: int = 14
    image_size: int = 224
    out_dim: int = 1024
    eps: float = 1e-5
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    @property
    def tokens(self) -> int:
        """The class token and one token a patch."""
        return (self.image_size // self.patch_size) ** 2 + 1
