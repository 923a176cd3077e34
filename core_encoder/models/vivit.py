"""The video encoder: a vision transformer factorized in space and time, one token per patch of every frame.

Source: VideoPrism (arXiv 2402.13217), a ViViT "model 2" (arXiv 2103.15691) without the pooling between the halves.

Shapes, for `base` and 16 frames of 288 x 288:

    video (B, 16, 3, 288, 288) -> patches (B*16, 256, 972) -> projected, + spatial positions (B*16, 256, 768)
    -> 12 spatial layers, each frame alone -> norm -> regrouped, + temporal positions (B*256, 16, 768)
    -> 4 temporal layers, each patch place alone -> norm -> tokens (B, 16, 256, 768)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core_encoder.models.attention import TokenGroups
from core_encoder.models.layers import LayerNorm, TransformerLayer
from core_encoder.models.model_configs import ViViTConfig
from core_encoder.models.resampling import resampling_weights


class ViViT(nn.Module):
    """Factorized video transformer; layers are counted spatial first, `0 .. spatial + temporal - 1`."""

    def __init__(self, config: ViViTConfig) -> None:
        super().__init__()
        self.config = config

        def layer() -> TransformerLayer:
            return TransformerLayer(config.width, config.heads, config.mlp_dim, activation="gelu", cap=config.cap)

        self.patch_projection = nn.Linear(3 * config.patch_size**2, config.width)
        self.spatial_positions = nn.Parameter(torch.zeros(config.grid**2, config.width))
        self.spatial_layers = nn.ModuleList(layer() for _ in range(config.spatial_layers))
        self.spatial_norm = LayerNorm(config.width)
        self.temporal_positions = nn.Parameter(torch.zeros(config.num_frames, config.width))
        self.temporal_layers = nn.ModuleList(layer() for _ in range(config.temporal_layers))
        self.temporal_norm = LayerNorm(config.width)

    def forward(
        self,
        video: Tensor,
        frame_mask: Tensor | None = None,
        visible: Tensor | None = None,
        layers: Sequence[int] = (),
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Encode `video` (B, T, 3, H, W), float RGB in [0, 1], into tokens (B, T, N, D) and the asked hidden layers.

        `frame_mask` (B, T) is True for real frames, wherever they are: what padding shows changes nothing for them, and
        real frame i keeps temporal position i of T. `visible` (B, T, N) keeps the same number V of tokens per sample:
        only they are computed, and tokens and hidden layers are (B, V, D), frame by frame. `hidden[i]` is the raw
        output of layer i for every i in `layers`, negative ones counted from the end.

        Raises:
            ValueError: a shape, mask or layer that does not fit; `frame_mask` and `visible` together.
        """
        wanted = resolve_layers(layers, self.config.num_layers)
        if visible is not None:
            if frame_mask is not None:
                raise ValueError("give either frame_mask or visible: leave padded frames out of visible instead")
            return self._forward_visible(video, visible, wanted)
        hidden: dict[int, Tensor] = {}
        spatial = self._spatial(video, wanted, hidden)
        tokens = self._temporal(spatial, frame_mask, wanted, hidden)
        return tokens, hidden

    def encode_spatial(self, video: Tensor, visible: Tensor | None = None) -> Tensor:
        """The half that sees one frame alone: video (B, T, 3, H, W) -> (B, T, N, D), or (B, V, D) of `visible` tokens.

        Raises:
            ValueError: a shape or mask that does not fit.
        """
        if visible is None:
            return self._spatial(video, {}, {})
        return self._spatial_visible(video, _Places.of(video, visible, self.config.patch_size), {}, {})

    def encode_temporal(self, spatial: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """The half that mixes frames: output of `encode_spatial` (B, T, N, D) -> tokens (B, T, N, D)."""
        return self._temporal(spatial, frame_mask, {}, {})

    def _spatial(self, video: Tensor, wanted: dict[int, list[int]], hidden: dict[int, Tensor]) -> Tensor:
        batch, frames, rows, columns = patch_grid(video, self.config.patch_size)
        x = self.patch_projection(self._patches(video).flatten(-3))  # (B, T, gh, gw, D)
        x = x.flatten(0, 1).flatten(1, 2)  # (B*T, N, D)
        x = x + self._spatial_positions(rows, columns).to(x.dtype)
        for number, layer in enumerate(self.spatial_layers):
            x = layer(x)
            for name in wanted.get(number, ()):
                hidden[name] = x.unflatten(0, (batch, frames))  # (B, T, N, D)
        return self.spatial_norm(x).unflatten(0, (batch, frames))  # (B, T, N, D)

    def _temporal(
        self,
        spatial: Tensor,
        frame_mask: Tensor | None,
        wanted: dict[int, list[int]],
        hidden: dict[int, Tensor],
    ) -> Tensor:
        batch, frames, patches, _ = spatial.shape
        mask = frames_to_mask(frame_mask, batch, frames)
        if mask is not None:
            mask = mask.to(spatial.device).repeat_interleave(patches, dim=0)  # (B*N, T)
        # As in the public JAX code, real frame i has position i of the T given: padding is masked, never counted out.
        positions = self._temporal_positions(frames).to(spatial.dtype)[:, None]  # (T, 1, D)
        x = (spatial + positions).transpose(1, 2).flatten(0, 1)  # (B*N, T, D)
        for number, layer in enumerate(self.temporal_layers, start=self.config.spatial_layers):
            x = layer(x, mask=mask)
            for name in wanted.get(number, ()):
                hidden[name] = x.unflatten(0, (batch, patches)).transpose(1, 2)  # (B, T, N, D)
        x = self.temporal_norm(x)
        return x.unflatten(0, (batch, patches)).transpose(1, 2).contiguous()  # (B, T, N, D)

    def _forward_visible(
        self, video: Tensor, visible: Tensor, wanted: dict[int, list[int]]
    ) -> tuple[Tensor, dict[int, Tensor]]:
        places = _Places.of(video, visible, self.config.patch_size)
        hidden: dict[int, Tensor] = {}
        x = self._spatial_visible(video, places, wanted, hidden).flatten(0, 1)  # (B*V, D)
        x = x + self._temporal_positions(visible.shape[1]).to(x.dtype)[places.frame]
        groups = TokenGroups.from_ids(places.sample * visible.shape[2] + places.patch)
        x = self._run_visible(self.temporal_layers, self.config.spatial_layers, groups, x, wanted, hidden, len(video))
        return self.temporal_norm(x).unflatten(0, (len(video), -1)), hidden  # (B, V, D)

    def _spatial_visible(
        self, video: Tensor, places: _Places, wanted: dict[int, list[int]], hidden: dict[int, Tensor]
    ) -> Tensor:
        batch, frames, rows, columns = patch_grid(video, self.config.patch_size)
        sample, frame, patch = places.sample, places.frame, places.patch
        x = self._patches(video)[sample, frame, patch // columns, patch % columns].flatten(1)  # (B*V, 3*p*p)
        x = self.patch_projection(x)  # (B*V, D)
        x = x + self._spatial_positions(rows, columns).to(x.dtype)[patch]
        x = self._run_visible(
            self.spatial_layers, 0, TokenGroups.from_ids(sample * frames + frame), x, wanted, hidden, batch
        )
        return self.spatial_norm(x).unflatten(0, (batch, -1))  # (B, V, D)

    @staticmethod
    def _run_visible(
        layers: nn.ModuleList,
        first: int,
        groups: TokenGroups,
        x: Tensor,
        wanted: dict[int, list[int]],
        hidden: dict[int, Tensor],
        batch: int,
    ) -> Tensor:
        for number, layer in enumerate(layers, start=first):
            x = layer(x, groups=groups)
            for name in wanted.get(number, ()):
                hidden[name] = x.unflatten(0, (batch, -1))  # (B, V, D)
        return x

    def _patches(self, video: Tensor) -> Tensor:
        """A view: video (B, T, 3, H, W) -> patches (B, T, gh, gw, 3, p, p)."""
        size = self.config.patch_size
        x = video.unflatten(-2, (-1, size)).unflatten(-1, (-1, size))  # (B, T, 3, gh, p, gw, p)
        return x.permute(0, 1, 3, 5, 2, 4, 6)  # (B, T, gh, gw, 3, p, p)

    def _spatial_positions(self, rows: int, columns: int) -> Tensor:
        """Learned positions (N, D), resized when the grid differs from the trained one."""
        grid = self.config.grid
        if (rows, columns) == (grid, grid):
            return self.spatial_positions
        if torch.compiler.is_exporting():
            down, across = (resampling_weights(grid, count, antialias=True) for count in (rows, columns))
            table = self.spatial_positions.float().unflatten(0, (grid, grid))  # (grid, grid, D)
            return torch.einsum("rg,ch,ghd->rcd", down, across, table).flatten(0, 1)  # (N, D)
        image = self.spatial_positions.float().T.reshape(1, -1, grid, grid)  # (1, D, grid, grid)
        image = F.interpolate(image, size=(rows, columns), mode="bilinear", antialias=True)  # (1, D, gh, gw)
        return image.flatten(2)[0].T  # (N, D)

    def _temporal_positions(self, frames: int) -> Tensor:
        """Learned positions (T, D), resized when the frame count differs from the trained one."""
        if torch.compiler.is_exporting():  # also for the trained number of frames: the graph is one for all
            return resampling_weights(self.config.num_frames, frames, antialias=True) @ self.temporal_positions.float()
        if frames == self.config.num_frames:
            return self.temporal_positions
        # The width is an axis of this image, kept as it is: torch 2.13 resamples wrongly when an image is 1 pixel wide.
        image = self.temporal_positions.float()[None, None]  # (1, 1, num_frames, D)
        size = (frames, self.config.width)
        return F.interpolate(image, size=size, mode="bilinear", antialias=True)[0, 0]  # (T, D)


@dataclass(frozen=True)
class _Places:
    """Where the visible tokens of a batch lie, sample by sample and frame by frame: each (B*V,)."""

    sample: Tensor
    frame: Tensor
    patch: Tensor

    @classmethod
    def of(cls, video: Tensor, visible: Tensor, patch_size: int) -> _Places:
        batch, frames, rows, columns = patch_grid(video, patch_size)
        expected = (batch, frames, rows * columns)
        if visible.dtype != torch.bool or visible.shape != expected:
            raise ValueError(f"visible must be bool {expected}, not {visible.dtype} {tuple(visible.shape)}")
        counts = visible.flatten(1).sum(1)
        if not counts.numel() or int(counts.min()) != int(counts.max()) or not int(counts.max()):
            raise ValueError(f"visible must keep the same number of tokens in every sample, not {counts.tolist()}")
        return cls(*visible.nonzero(as_tuple=True))


def resolve_layers(layers: Sequence[int], count: int) -> dict[int, list[int]]:
    """Layer number -> the names it was asked by, negative ones counted from the end.

    Raises:
        ValueError: a layer that does not exist.
    """
    wanted: dict[int, list[int]] = {}
    for index in layers:
        if not -count <= index < count:
            raise ValueError(f"layer {index} does not exist: this encoder has layers 0 to {count - 1}")
        wanted.setdefault(index % count, []).append(index)
    return wanted


def patch_grid(video: Tensor, size: int) -> tuple[int, int, int, int]:
    """(B, T, patch rows, patch columns) of a video (B, T, 3, H, W).

    Raises:
        ValueError: not such a shape, or H and W are not multiples of the patch size.
    """
    if video.ndim != 5 or video.shape[2] != 3 or 0 in video.shape:
        raise ValueError(f"a video is (B, T, 3, H, W), not {tuple(video.shape)}")
    batch, frames, _, height, width = video.shape
    if height % size or width % size:
        raise ValueError(f"height and width must be multiples of the patch size {size}, not {height} x {width}")
    return batch, frames, height // size, width // size


def frames_to_mask(frame_mask: Tensor | None, batch: int, frames: int) -> Tensor | None:
    """The frame mask where it masks anything, None when all frames are real.

    Raises:
        ValueError: the mask is not bool (B, T), or a sample has no real frame.
    """
    if frame_mask is None or torch.compiler.is_exporting():  # a graph has no branch that depends on values
        return frame_mask
    if frame_mask.dtype != torch.bool or frame_mask.shape != (batch, frames):
        raise ValueError(f"frame_mask must be bool {(batch, frames)}, not {frame_mask.dtype} {tuple(frame_mask.shape)}")
    if not bool(frame_mask.any(1).all()):
        raise ValueError("frame_mask must be True for the real frames of a sample, at least one")
    return None if bool(frame_mask.all()) else frame_mask


@torch.no_grad()
def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """Fresh weights in place: linear maps keep unit variance (LeCun normal), biases and norm offsets are zero.

    Learned positions get the standard deviation of the JAX code, the inverse root of their count. Queries of attention
    pooling have unit scale: weaker ones sit at the mean of all tokens for hundreds of steps of training. The patch
    projection takes pixels as `4 * (pixel - 0.5)`, about unit variance: else their common brightness drowns what
    differs between patches (accuracy of a head on fresh features, 8 classes of the synthetic world: 0.75 without,
    0.88 with it).
    """
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2:
            parameter.zero_()
        else:
            fan_in = parameter.shape[0] if name.endswith("_positions") else parameter.shape[-1]
            fan_in = 1 if name.endswith("query") else fan_in
            parameter.normal_(0.0, fan_in**-0.5, generator=generator)
    for part in module.modules():
        if isinstance(part, ViViT):
            part.patch_projection.weight.mul_(4.0)
            part.patch_projection.bias.copy_(-0.5 * part.patch_projection.weight.sum(1))
