"""Stage 1: videos and their texts pulled together, against all other texts of the batch.

    frames (b, T, H, W, 3) -> half of the tokens (b, V, D) -> attention pooling -> unit vectors (b, D) \\
    captions -> token ids (b, L) -> text tower -> unit vectors (b, D)                                   > cross entropy

Source: VideoPrism (arXiv 2402.13217), section 3.2; images join as clips of one frame. The same module tunes video head
and text tower to a locked encoder after stage 2 (LiT, arXiv 2111.07991).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core_encoder.models.text_tower import Tokenizer
from core_encoder.models.video_text import VideoTextModel
from core_encoder.preprocessing import to_video_tensor
from fit.contrastive import contrastive_loss, spread, uniformity
from pretrain.recipe import PARTS, ContrastiveConfig
from pretrain.stages.masking import batch_masks, tube_mask, visible_patches


class ContrastiveStage(L.LightningModule):
    """Symmetric cross entropy over the similarities of a batch, with a learned, clamped temperature.

    `part` is `images` (the spatial half alone sees single frames), `stage1`, or `alignment` (the encoder is locked).
    """

    def __init__(
        self, model: VideoTextModel, tokenizer: Tokenizer, config: ContrastiveConfig, part: str, seed: int
    ) -> None:
        super().__init__()
        if model.video_head is None or model.text_tower is None:
            raise ValueError("contrast needs a model with a video head and a text tower")
        self.model, self.config, self.part, self.seed = model, config, part, seed
        self.tokenizer = tokenizer
        self.log_scale = nn.Parameter(torch.full((1,), -math.log(config.temperature)))  # FSDP2 takes no scalars
        model.requires_grad_(True)
        if part == "alignment":
            model.vision.requires_grad_(False)
        if part == "images":
            for name, parameter in model.vision.named_parameters():
                parameter.requires_grad_(not name.startswith("temporal_"))

    @property
    def temperature(self) -> Tensor:
        """What similarities are divided by, never below the clamp."""
        return (-self.log_scale.clamp(max=-math.log(self.config.min_temperature))).exp()[0]

    def training_step(
        self, frames: Tensor, captions: Sequence[str], step: int, positions: Sequence[int]
    ) -> dict[str, Tensor]:
        """The loss of one process's share of a batch, uint8 frames (b, T, H, W, 3) and captions, and what is watched.

        `step` and the samples' `positions` in the global batch seed the masks.
        """
        video = self.embed_video(to_video_tensor(frames.to(self.device)), step, positions)
        text = self.model.embed_token_ids(*(part.to(self.device) for part in self.tokenizer(captions)))
        loss = contrastive_loss(video, text, 1.0 / self.temperature)
        if self.config.text_uniformity and self.config.text_uniformity_from <= step < self.config.curriculum_steps:
            loss = loss + self.config.text_uniformity * uniformity(text)
        return {"loss": loss, "temperature": self.temperature.detach(), "embedding_variance": spread(video)}

    @torch.no_grad()
    def on_before_zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
        """After each step of the optimizer clamp the parameter too: a clamped value has no gradient to come back by."""
        self.log_scale.clamp_(max=-math.log(self.config.min_temperature))

    def embed_video(self, video: Tensor, step: int, positions: Sequence[int]) -> Tensor:
        """The visible tokens of videos (b, T, 3, H, W), pooled: (b, D)."""
        vision, head = self.model.vision, self.model.video_head
        assert head is not None
        if self.part == "alignment":
            with torch.no_grad():  # images too: all tokens, with the positions of one frame, as after export
                tokens = vision(video)[0]  # (b, T, N, D)
            return head(tokens)
        visible = self.draw_visible(video, step, positions)
        if self.part == "images":
            tokens = vision.encode_spatial(video, visible)  # (b, V, D), or (b, 1, N, D) when nothing is dropped
        else:
            if visible is not None and video.shape[1] == 1 < self.config.num_frames:
                # An image is the first frame of a clip that shows nothing else: temporal positions are cropped.
                video = video.expand(-1, self.config.num_frames, -1, -1, -1)
                visible = F.pad(visible, (0, 0, 0, self.config.num_frames - 1))
            tokens = vision(video, visible=visible)[0]  # (b, V, D), or (b, T, N, D)
        return head(tokens if tokens.ndim == 4 else tokens[:, None])

    def draw_visible(self, video: Tensor, step: int, positions: Sequence[int]) -> Tensor | None:
        """Tube masks of videos (b, T, 3, H, W): bool (b, T, N), True = visible; None where nothing is dropped."""
        frames, drop, stage = video.shape[1], self.config.drop, PARTS.index(self.part)
        if not drop and frames == self.config.num_frames:
            return None
        patches = (video.shape[-2] // self.model.patch_size) * (video.shape[-1] // self.model.patch_size)
        masks = batch_masks(lambda rng: tube_mask(frames, patches, drop, rng), self.seed, stage, step, positions)
        return masks.to(video.device)

    def num_tokens(self, frames: Tensor) -> int:
        """Visible tokens of frames (b, T, H, W, 3)."""
        clips, times, height, width, _ = frames.shape
        patches = (height // self.model.patch_size) * (width // self.model.patch_size)
        kept = patches if self.part == "alignment" else visible_patches(patches, self.config.drop)
        return clips * times * kept

    def exported(self) -> tuple[VideoTextModel, Mapping[str, Any]]:
        """The model this stage made, and what a later part or the card wants to know."""
        return self.model, {"temperature": float(self.temperature.detach())}
