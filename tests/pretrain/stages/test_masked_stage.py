"""Stage 2: what the student computes, the decoder against plain loops, and what belongs to the module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core_encoder.errors import InputError
from core_encoder.models.model_configs import VideoTextConfig
from core_encoder.models.video_text import VideoTextModel
from core_encoder.preprocessing import to_video_tensor
from pretrain.recipe import PARTS, MaskedConfig
from pretrain.stages.masked_stage import MaskedStage, cosine_distance
from pretrain.stages.masking import batch_masks, batch_orders, block_mask
from tests.pretrain.processes import in_processes
from tests.pretrain.tiny_models import VISION, random_frames, tiny_model

HIDDEN = round(0.65 * 16)
STAGE = PARTS.index("stage2")


def stage(seed: int = 0, **config: Any) -> MaskedStage:
    """A student with other weights than its teacher, and decoders with random values everywhere."""
    settings = {"num_frames": 4, "decoder_layers": 1, "decoder_width": 24, "decoder_heads": 2, "decoder_mlp": 32}
    module = MaskedStage(
        tiny_model(1).vision, tiny_model(2, auxiliary_layers=1), MaskedConfig(**settings | config), seed
    )
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not name.startswith("student."):
                parameter.normal_(0.0, 0.3, generator=generator)
    return module


def masks(seed: int, step: int, positions: range) -> Tensor:
    return batch_masks(lambda rng: block_mask(4, 2, 2, 0.65, rng), seed, STAGE, step, positions)


def test_the_student_computes_visible_tokens_only() -> None:
    module, frames = stage(), random_frames(3)
    entering: list[int] = []
    for layer in (*module.student.spatial_layers, *module.student.temporal_layers):
        layer.register_forward_pre_hook(lambda module, given: entering.append(given[0].numel() // given[0].shape[-1]))
    module.training_step(frames, (), 0, range(3))
    assert entering == [3 * (16 - HIDDEN)] * 2
    assert module.num_tokens(frames) == 3 * (16 - HIDDEN)


def test_hidden_pixels_cannot_change_what_is_predicted() -> None:
    module = stage(seed=4)
    video = to_video_tensor(random_frames(3))
    visible = masks(4, 9, range(3))
    places = visible.view(3, 4, 1, 2, 2).repeat_interleave(8, 3).repeat_interleave(8, 4)
    seen = module.student(video, visible=visible)[0]
    torch.testing.assert_close(module.student(torch.where(places, video, 1 - video), visible=visible)[0], seen)
    assert not torch.allclose(module.student(torch.where(places, 1 - video, video), visible=visible)[0], seen)


def plain_tokens(module: MaskedStage, seen: Tensor, visible: Tensor, order: Tensor | None) -> Tensor:
    """Sample by sample and slot by slot: a slot gets some token of the sequence and its own position."""
    rows = []
    for sample in range(len(seen)):
        sequence, taken = [], 0
        for frame in range(4):
            for patch in range(4):
                if visible[sample, frame, patch]:
                    sequence.append(module.token_decoder.enter(seen[sample, taken]))
                    taken += 1
                else:
                    sequence.append(module.mask_token)
        slots = []
        for slot in range(16):
            source = slot if order is None else int(order[sample, slot])
            slots.append(sequence[source] + module.slot_positions[slot])
        x = torch.stack(slots)[None]
        for layer in module.token_decoder.layers:
            x = layer(x)
        rows.append(module.to_tokens(module.token_decoder.norm(x))[0])
    return torch.stack(rows)


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_decoder_equals_plain_loops(shuffled: bool) -> None:
    module, visible = stage(), masks(0, 3, range(3))
    seen = module.student(to_video_tensor(random_frames(3)), visible=visible)[0]
    order = batch_orders(16, 0, STAGE, 3, range(3)) if shuffled else None
    predicted = module.predict_tokens(seen, visible, order)
    torch.testing.assert_close(predicted, plain_tokens(module, seen, visible, order), atol=1e-5, rtol=1e-4)
    if shuffled:
        assert not torch.allclose(predicted, module.predict_tokens(seen, visible, None))


@pytest.mark.parametrize("shuffled", [False, True])
def test_slot_i_is_scored_against_the_teachers_token_i(shuffled: bool) -> None:
    module, frames = stage(seed=6, shuffle=shuffled), random_frames(4)
    values = module.training_step(frames, (), 5, range(2, 6))
    video, visible = to_video_tensor(frames), masks(6, 5, range(2, 6))
    order = batch_orders(16, 6, STAGE, 5, range(2, 6)) if shuffled else None
    teacher = tiny_model(2, auxiliary_layers=1)
    with torch.no_grad():
        tokens, _, embedding = teacher(video, embed=True)
        seen = module.student(video, visible=visible)[0]
        predicted = plain_tokens(module, seen, visible, order)
        whole = module.predict_embedding(seen)
    distances = [
        1 - F.cosine_similarity(predicted[b, slot], tokens[b, slot // 4, slot % 4], dim=0)
        for b in range(4)
        for slot in range(16)
    ]
    torch.testing.assert_close(values["token_loss"], torch.stack(distances).mean(), atol=1e-5, rtol=1e-4)
    of_clips = [1 - (w @ e) / (w.norm() * e.norm()) for w, e in zip(whole, embedding, strict=True)]
    torch.testing.assert_close(values["global_loss"], torch.stack(of_clips).mean(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(values["loss"], values["token_loss"] + values["global_loss"])


def test_the_global_decoder_knows_no_places() -> None:
    module = stage()
    seen = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))
    shuffled = seen[:, torch.randperm(6, generator=torch.Generator().manual_seed(1))]
    torch.testing.assert_close(module.predict_embedding(shuffled), module.predict_embedding(seen), atol=1e-5, rtol=1e-4)


def test_cosine_distance_equals_plain_loops() -> None:
    a, b = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)).unbind()
    plain = sum(1 - float(x @ y) / float(x.norm() * y.norm()) for x, y in zip(a, b, strict=True)) / 3
    assert abs(cosine_distance(a, b).item() - plain) < 1e-6
    assert abs(cosine_distance(a, 3 * a).item()) < 1e-6
    assert abs(cosine_distance(a, -a).item() - 2) < 1e-6
    assert cosine_distance(a.bfloat16(), a).dtype == torch.float32


def test_masks_and_orders_depend_on_seed_step_and_position_alone() -> None:
    module, frames = stage(seed=2), random_frames(4)
    both = module.training_step(frames, (), 3, [0, 1, 2, 3])
    first = module.training_step(frames[:2], (), 3, [0, 1])
    second = module.training_step(frames[2:], ("text", ""), 3, [2, 3])
    torch.testing.assert_close((first["loss"] + second["loss"]) / 2, both["loss"], atol=1e-6, rtol=1e-5)
    assert module.training_step(frames, (), 4, [0, 1, 2, 3])["loss"] != both["loss"]
    assert module.training_step(frames, (), 3, [4, 5, 6, 7])["loss"] != both["loss"]
    assert stage(seed=3).training_step(frames, (), 3, [0, 1, 2, 3])["loss"] != both["loss"]


@pytest.mark.parametrize(
    ("switched_off", "gone", "losses"),
    [
        ("token_distillation", ("token_decoder", "mask_token", "slot_positions", "to_tokens"), {"global_loss"}),
        ("global_distillation", ("global_decoder", "pooling", "to_embedding"), {"token_loss"}),
    ],
)
def test_what_is_switched_off_has_no_parameters(switched_off: str, gone: tuple[str, ...], losses: set[str]) -> None:
    module = stage(**{switched_off: False})
    whole = {name.partition(".")[0] for name, _ in stage().named_parameters()}
    assert whole - {name.partition(".")[0] for name, _ in module.named_parameters()} == set(gone)
    values = module.training_step(random_frames(2), (), 0, range(2))
    assert set(values) == losses | {"loss", "embedding_variance"}
    torch.testing.assert_close(values["loss"], values[losses.pop()])


@pytest.mark.parametrize(
    "changes", [{}, {"shuffle": False}, {"token_distillation": False}, {"global_distillation": False}]
)
def test_every_parameter_learns(changes: dict[str, bool]) -> None:
    module = stage(**changes)
    module.training_step(random_frames(3), (), 0, range(3))["loss"].backward()
    for name, parameter in module.named_parameters():
        assert parameter.requires_grad and parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name == "pooling.k.bias" or ".qkv.bias" in name, name


def test_without_global_distillation_the_teacher_needs_no_video_head() -> None:
    bare = VideoTextModel(VideoTextConfig(VISION))
    config = MaskedConfig(num_frames=4, decoder_width=16, decoder_heads=2, global_distillation=False)
    MaskedStage(tiny_model().vision, bare, config, 0).training_step(random_frames(1), (), 0, [0])
    with pytest.raises(ValueError, match="video head"):
        MaskedStage(tiny_model().vision, bare, MaskedConfig(num_frames=4), 0)


def test_the_teacher_is_no_part_of_the_module_and_never_changes() -> None:
    module = stage()
    teacher = module._teacher[0]
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    mine = {id(p) for p in module.parameters()} | {t.data_ptr() for t in module.state_dict().values()}
    for tensor in (*teacher.parameters(), *teacher.buffers()):
        assert id(tensor) not in mine and tensor.data_ptr() not in mine and not tensor.requires_grad
    assert not any(name.startswith(("teacher", "_teacher")) for name in module.state_dict())
    assert teacher not in list(module.modules())
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    module.train()
    for step in range(2):
        optimizer.zero_grad()
        module.training_step(random_frames(2), (), step, range(2))["loss"].backward()
        optimizer.step()
    assert not teacher.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert not torch.equal(module.student.patch_projection.weight, tiny_model(1).vision.patch_projection.weight)


def test_targets_are_the_teachers_tokens_and_embedding() -> None:
    video, teacher = to_video_tensor(random_frames(2)), tiny_model(2, auxiliary_layers=1)
    tokens, embedding = stage().targets(video)
    with torch.no_grad():
        expected, _, pooled = teacher(video, embed=True)
    torch.testing.assert_close(tokens, expected.flatten(1, 2))
    torch.testing.assert_close(embedding, pooled)
    assert not tokens.requires_grad
    assert stage(global_distillation=False).targets(video)[1] is None


@pytest.mark.parametrize("layers", [(0,), (0, 1), (-1,)])
def test_targets_from_several_layers_are_the_mean_of_normalized_ones(layers: tuple[int, ...]) -> None:
    video, teacher = to_video_tensor(random_frames(2)), tiny_model(2, auxiliary_layers=1)
    tokens, embedding = stage(target_layers=layers).targets(video)
    hidden = teacher.vision(video, layers=layers)[1]
    parts = []
    for layer in layers:
        x = hidden[layer].flatten(1, 2)
        x = x - x.mean(-1, keepdim=True)
        parts.append(x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt())
    torch.testing.assert_close(tokens, sum(parts) / len(parts), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(embedding, teacher(video, embed=True)[2])


def test_centered_targets_lose_their_running_mean() -> None:
    module, plain = stage(center_targets=True), stage()
    assert torch.equal(module.target_mean, torch.zeros(16))
    mean = None
    for seed in range(3):
        video = to_video_tensor(random_frames(2, seed=seed))
        tokens = plain.targets(video)[0]
        now = tokens.mean((0, 1))
        mean = now if mean is None else 0.99 * mean + 0.01 * now
        torch.testing.assert_close(module.targets(video)[0], tokens - mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(module.target_mean, mean, atol=1e-6, rtol=1e-5)
    assert "target_mean" in module.state_dict()  # a resume goes on with it
    assert torch.equal(plain.target_mean, torch.zeros(16))


def test_images_are_refused() -> None:
    with pytest.raises(InputError, match="4 frames, not 1") as caught:
        stage().training_step(random_frames(2, frames=1), (), 0, range(2))
    assert "\n" not in str(caught.value) and "tiers" in str(caught.value)


def test_the_exported_model_is_the_student_in_the_teachers_place() -> None:
    module, video = stage(), to_video_tensor(random_frames(2))
    ids, mask = torch.arange(6).view(2, 3), torch.ones(2, 3, dtype=torch.bool)
    model, about = module.exported()
    teacher = tiny_model(2, auxiliary_layers=1)
    assert about == {} and model.config == teacher.config
    with torch.no_grad():
        tokens, _, embedding = model(video, embed=True)
        torch.testing.assert_close(tokens, module.student(video)[0])
        assert teacher.video_head is not None
        torch.testing.assert_close(embedding, teacher.video_head(tokens))
        torch.testing.assert_close(model.embed_token_ids(ids, mask), teacher.embed_token_ids(ids, mask))


def test_decoders_have_their_own_width_and_no_soft_cap() -> None:
    module = stage(decoder_layers=2)
    for decoder in (module.token_decoder, module.global_decoder):
        assert len(decoder.layers) == 2
        assert all(layer.cap is None and layer.norm1.weight.shape == (24,) for layer in decoder.layers)
    assert isinstance(module.to_tokens, nn.Linear) and module.to_tokens.out_features == 16


def loss_and_gradients(first: int, last: int) -> dict[str, Tensor]:
    module = stage(seed=3, center_targets=True)
    values = module.training_step(random_frames(4)[first:last], (), 11, range(first, last))
    values["loss"].backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {**gradients, "loss": values["loss"].detach(), "mean": module.target_mean}


def share_of_the_batch(rank: int, world: int) -> dict[str, Tensor]:
    size = 4 // world
    return loss_and_gradients(rank * size, (rank + 1) * size)


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(tmp_path: Path) -> None:
    halves = in_processes(share_of_the_batch, 2, tmp_path)
    for name, value in loss_and_gradients(0, 4).items():
        mean = (halves[0][name] + halves[1][name]) / 2
        torch.testing.assert_close(mean, value, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
