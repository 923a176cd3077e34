"""Stage 2: a student that sees a third of the tokens learns what the frozen stage-1 encoder says of the whole clip.

    visible tokens (b, V, D) + mask tokens -> shuffled (b, L, W) -> + positions -> decoder -> tokens (b, L, D)
    visible tokens (b, V, D) -> decoder without positions -> attention pooling -> embedding (b, D)
    teacher, whole clip: tokens (b, L, D) and embedding (b, D); both are approached by the cosine, with equal weights

Source: VideoPrism (arXiv 2402.13217), section 3.3; the masks are BEVT's (arXiv 2112.01529). L = T * N.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core_encoder.errors import InputError
from core_encoder.models.layers import LayerNorm, TransformerLayer
from core_encoder.models.pooling import AttentionPooling
from core_encoder.models.video_text import VideoTextModel
from core_encoder.models.vivit import ViViT
from core_encoder.preprocessing import to_video_tensor
from fit.contrastive import spread
from pretrain.recipe import PARTS, MaskedConfig
from pretrain.stages.masking import batch_masks, batch_orders, block_mask, hidden_tokens

_STAGE = PARTS.index("stage2")


class MaskedStage(L.LightningModule):
    """Token-wise and global distillation of masked clips; the decoders are thrown away afterwards.

    The student starts from the teacher's weights. The teacher is no part of the module's parameters or checkpoints.
    """

    target_mean: Tensor

    def __init__(self, student: ViViT, teacher: VideoTextModel, config: MaskedConfig, seed: int) -> None:
        super().__init__()
        if config.global_distillation and teacher.video_head is None:
            raise ValueError("global distillation needs a teacher with a video head")
        vision = student.config
        self.student, self.config, self.seed = student, config, seed
        self._teacher = [teacher.requires_grad_(False).eval()]  # in a list: not a submodule
        self.student.requires_grad_(True)
        width = vision.width
        if config.token_distillation:
            self.token_decoder = Decoder(config, width)
            self.mask_token = nn.Parameter(torch.zeros(config.decoder_width))
            self.slot_positions = nn.Parameter(torch.zeros(config.num_frames * vision.grid**2, config.decoder_width))
            self.to_tokens = nn.Linear(config.decoder_width, width)
        if config.global_distillation:
            self.global_decoder = Decoder(config, width)
            self.pooling = AttentionPooling(config.decoder_width, config.decoder_heads)
            self.to_embedding = nn.Linear(config.decoder_width, width)
        self.register_buffer("target_mean", torch.zeros(width))

    def training_step(
        self, frames: Tensor, captions: Sequence[str], step: int, positions: Sequence[int]
    ) -> dict[str, Tensor]:
        """The loss of one process's share of a batch, uint8 frames (b, T, H, W, 3), its halves, and what is watched.

        `step` and the samples' `positions` in the global batch seed masks and shuffling; captions are not looked at.

        Raises:
            InputError: clips of another length, such as images.
        """
        config = self.config
        if frames.shape[1] != config.num_frames:
            raise InputError(
                f"stage2 learns from clips of {config.num_frames} frames, not {frames.shape[1]}: "
                "name the tiers of videos in stage2's `tiers`"
            )
        video = to_video_tensor(frames.to(self.device))  # (b, T, 3, H, W)
        tokens, embedding = self.targets(video)
        rows, columns = (side // self.student.config.patch_size for side in video.shape[-2:])
        visible = batch_masks(
            lambda rng: block_mask(video.shape[1], rows, columns, config.mask, rng), self.seed, _STAGE, step, positions
        ).to(self.device)  # (b, T, N)
        seen = self.student(video, visible=visible)[0]  # (b, V, D)
        losses = {"embedding_variance": spread(seen.mean(1))}
        if config.token_distillation:
            order = None
            if config.shuffle:
                order = batch_orders(tokens.shape[1], self.seed, _STAGE, step, positions).to(self.device)
            losses["token_loss"] = cosine_distance(self.predict_tokens(seen, visible, order), tokens)
        if config.global_distillation:
            assert embedding is not None
            losses["global_loss"] = cosine_distance(self.predict_embedding(seen), embedding)
        losses["loss"] = sum(
            (losses[name] for name in ("token_loss", "global_loss") if name in losses), video.new_zeros(())
        )
        return losses

    @torch.no_grad()
    def targets(self, video: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the teacher says of a whole clip (b, T, 3, H, W): tokens (b, L, D) and embedding (b, D)."""
        teacher, config = self._teacher[0].to(video.device), self.config
        tokens, hidden = teacher.vision(video, layers=config.target_layers)
        embedding = None
        if config.global_distillation:
            assert teacher.video_head is not None
            embedding = teacher.video_head(tokens)
        if config.target_layers:
            width = (tokens.shape[-1],)
            tokens = torch.stack([F.layer_norm(hidden[layer], width) for layer in config.target_layers]).mean(0)
        tokens = tokens.flatten(1, 2)  # (b, L, D)
        if config.center_targets:
            tokens = tokens - self._running_mean(tokens)
        return tokens, embedding

    def _running_mean(self, tokens: Tensor) -> Tensor:
        mean = tokens.float().mean((0, 1))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(mean)
            mean = mean / torch.distributed.get_world_size()
        fresh = not bool(self.target_mean.any())
        self.target_mean.copy_(mean if fresh else self.target_mean.lerp(mean, 0.01))
        return self.target_mean

    def predict_tokens(self, seen: Tensor, visible: Tensor, order: Tensor | None) -> Tensor:
        """Visible tokens (b, V, D), where they lie (b, T, N) and the shuffling (b, L) -> the clip's tokens (b, L, D).

        Slot i of the decoder has position i and is to become token i of the clip, whatever token was put there.
        """
        inner = self.token_decoder.enter(seen)  # (b, V, W)
        place = visible.flatten(1)  # (b, L)
        x = self.mask_token.to(inner.dtype).expand(*place.shape, -1).clone()  # (b, L, W)
        x[place] = inner.flatten(0, 1)
        if order is not None:
            x = x.gather(1, order[..., None].expand_as(x))
        x = self.token_decoder(x + self.slot_positions.to(x.dtype))  # (b, L, W)
        return self.to_tokens(x)

    def predict_embedding(self, seen: Tensor) -> Tensor:
        """Visible tokens (b, V, D) -> the teacher's embedding of the whole clip (b, D)."""
        return self.to_embedding(self.pooling(self.global_decoder(self.global_decoder.enter(seen))))

    def num_tokens(self, frames: Tensor) -> int:
        """Tokens of frames (b, T, H, W, 3) that the student sees."""
        clips, times, height, width, _ = frames.shape
        size = self.student.config.patch_size
        tokens = times * (height // size) * (width // size)
        return clips * (tokens - hidden_tokens(tokens, self.config.mask))

    def exported(self) -> tuple[VideoTextModel, Mapping[str, Any]]:
        """The teacher's video head and text tower around the student."""
        model = VideoTextModel(self._teacher[0].config)
        model.load_state_dict(self._teacher[0].state_dict())
        model.vision = self.student
        return model, {}


class Decoder(nn.Module):
    """Transformer layers of their own width on the student's tokens."""

    def __init__(self, config: MaskedConfig, dim: int) -> None:
        super().__init__()
        width = config.decoder_width
        self.enter = nn.Linear(dim, width)
        self.layers = nn.ModuleList(
            TransformerLayer(width, config.decoder_heads, config.decoder_mlp, cap=None)
            for _ in range(config.decoder_layers)
        )
        self.norm = LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, L, W) -> (b, L, W)"""
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


def cosine_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over all rows of 1 - cosine; (..., D) each."""
    return 1.0 - F.cosine_similarity(prediction.float(), target.float(), dim=-1).mean()
