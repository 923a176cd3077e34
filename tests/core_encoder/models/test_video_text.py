"""The video head: padding, pooling, unit length."""

from __future__ import annotations

import pytest
import torch

from core_encoder.models.model_configs import VideoHeadConfig, VideoTextConfig, ViViTConfig
from core_encoder.models.video_text import VideoHead, VideoTextModel, l2_normalize
from tests.core_encoder.checkpoint_files import scatter

VISION = ViViTConfig(
    width=24, heads=3, mlp_dim=40, spatial_layers=1, temporal_layers=1, patch_size=4, image_size=12, num_frames=5
)


@pytest.fixture(scope="module")
def head() -> VideoHead:
    return scatter(VideoHead(VISION, VideoHeadConfig(2, 60))).requires_grad_(False)  # type: ignore[no-any-return]


def test_padded_frames_do_not_influence_the_embedding(head: VideoHead) -> None:
    tokens = torch.randn(3, 5, 9, 24, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 0, 1]], dtype=torch.bool)
    together = head(tokens, mask)
    for sample in range(3):
        alone = head(tokens[sample : sample + 1, mask[sample]])
        torch.testing.assert_close(together[sample : sample + 1], alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3))


def test_a_model_without_a_head_embeds_nothing() -> None:
    model = scatter(VideoTextModel(VideoTextConfig(VISION)))
    assert model.embedding_dim is None
    assert not model.has_text
    assert model(torch.rand(1, 2, 3, 12, 12), embed=True)[2] is None
    with pytest.raises(ValueError, match="no text tower"):
        model.embed_token_ids(torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_unit_length_in_every_precision(dtype: torch.dtype) -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [300.0, -400.0]], dtype=dtype)
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.6, -0.8]], dtype=dtype)
    torch.testing.assert_close(l2_normalize(x), expected)
