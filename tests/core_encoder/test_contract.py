"""Every encoder keeps the contract, and the contract notices one that does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core_encoder.contract import CHECKS, ContractBroken, check_encoder
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.models.frame_models import FrameModel, Seen
from core_encoder.preprocessing import Preprocessing
from tests.core_encoder.checkpoint_files import save, video_text_model, vision_model
from tests.core_encoder.foreign_models import BUILDERS, foreign_folder

ENCODERS = ("nano", "videoprism", "videoprism-lvt", *BUILDERS)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Encoder]:
    """Each of the encoders by its name, loaded once."""
    folder, loaded = tmp_path_factory.mktemp("encoders"), {}

    def encoder_of(name: str) -> Encoder:
        if name not in loaded:
            source: Any = name
            if name.startswith("videoprism"):
                source = save(vision_model() if name == "videoprism" else video_text_model(), folder / name)
            elif name in BUILDERS:
                source = foreign_folder(name, folder / name)
            loaded[name] = load_encoder(source)
        return loaded[name]

    return encoder_of


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ENCODERS)
def test_contract(encoders: Callable[[str], Encoder], name: str, check: Callable[[Encoder], None]) -> None:
    check(encoders(name))


class Plain(FrameModel):
    """The smallest image model: a linear map of each patch."""

    image_size, patch_size, dim, num_layers, embedding_dim = 16, 8, 12, 1, None

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, self.dim, self.patch_size, stride=self.patch_size)
        nn.init.normal_(self.projection.weight, generator=torch.Generator().manual_seed(0))

    def describe(self) -> dict[str, Any]:
        return {"kind": "plain", "dim": self.dim}

    def see(self, images: Tensor, grid: tuple[int, int], with_hidden: bool) -> Seen:
        patches = self.projection(images).flatten(2).transpose(1, 2)  # (b, N, D)
        return Seen(patches, [patches], None)


class Mixed(Plain):
    """Its frames see each other, padding too."""

    def see(self, images: Tensor, grid: tuple[int, int], with_hidden: bool) -> Seen:
        patches, hidden, _ = super().see(images, grid, with_hidden)
        return Seen(patches + patches.mean(), hidden, None)


class Short(Plain):
    """It forgets a patch."""

    def see(self, images: Tensor, grid: tuple[int, int], with_hidden: bool) -> Seen:
        return Seen(super().see(images, grid, with_hidden).patches[:, 1:], [], None)


class Restless(Plain):
    """It draws numbers."""

    def see(self, images: Tensor, grid: tuple[int, int], with_hidden: bool) -> Seen:
        patches = super().see(images, grid, with_hidden).patches
        return Seen(patches + torch.rand_like(patches), [patches], None)


class Boastful(Plain):
    """It says that it makes embeddings."""

    embedding_dim = 4  # type: ignore[assignment]


class Undescribed(Plain):
    """Its description is not JSON."""

    def describe(self) -> dict[str, Any]:
        return {"sizes": (1, 2)}


def encoder_of(model: nn.Module) -> Encoder:
    return Encoder(model, "mine", Preprocessing(16))


def test_the_smallest_encoder_keeps_it() -> None:
    check_encoder(encoder_of(Plain()))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Mixed, ["never_sees_padding: padding changes no token", "has_halves_that_fit: the spatial half sees one"]),
        (Short, ["gives_tokens: tokens of", "gives_layers: IndexError"]),
        (Restless, ["gives_tokens: the same video gives the same tokens"]),
        (Boastful, ["gives_embeddings: AssertionError"]),
        (Undescribed, ["says_its_sizes: describe() gives names and values that JSON gives back"]),
    ],
)
def test_what_breaks_it_is_named(model: type[Plain], said: list[str]) -> None:
    with pytest.raises(ContractBroken, match="encoder 'mine' breaks its contract") as caught:
        check_encoder(encoder_of(model()))
    for part in said:
        assert part in str(caught.value)


def test_a_check_leaves_the_encoder_as_it_was() -> None:
    encoder = encoder_of(Plain())
    before = encoder._fingerprint_now()
    check_encoder(encoder)
    assert encoder._fingerprint_now() == before
