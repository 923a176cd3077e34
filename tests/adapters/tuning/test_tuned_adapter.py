"""A head and its encoder in training: what it computes, what trains how fast, and what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.adapter import Adapter
from adapters.features import Batch
from adapters.head_options import LinearConfig
from adapters.tuning.encoder_lora import EncoderLora
from adapters.tuning.own_encoder import OwnEncoder
from adapters.tuning.tuned_adapter import TunedAdapter, Tuning
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import EncoderMismatch, InputError
from core_encoder.preprocessing import to_video_tensor
from fit.augmentation.mixup import MixUp
from fit.parameter_groups import parameter_groups
from tests.adapters.tuning.frames import features_of, frames_of, head_on, spec_of, tuning_on, write_clips
from tests.core_encoder.foreign_models import foreign_folder


@pytest.fixture(scope="module")
def nano() -> Encoder:
    return load_encoder("nano")


def batch_of(count: int = 3, frames: int = 4, size: int = 48, seed: int = 0) -> Batch:
    pixels = torch.randint(0, 256, (count, frames, size, size, 3), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(count, frames, dtype=torch.bool)
    mask[0, -1] = False
    names = [f"clip {i}" for i in range(count)]
    return Batch(pixels.to(torch.uint8), mask, torch.arange(count) % 2, names)


def around(nano: Encoder, kind: str = "map_classifier", layers: tuple[int, ...] = (), **options: Any) -> TunedAdapter:
    spec = spec_of(nano, "clip" if kind == "linear" else "tokens", layers)
    head = head_on(spec, nano.dim, kind, **({"layers": spec.layers} if layers else {}))
    return TunedAdapter.around(head, tuning_on(spec, **options), seed=0)


@pytest.mark.parametrize(("how", "kind"), [("lora", "map_classifier"), ("full", "linear")])
def test_before_the_first_step_it_answers_as_the_frozen_head_does(
    nano: Encoder, how: str, kind: str, tmp_path: Path
) -> None:
    spec = spec_of(nano, "clip" if kind == "linear" else "tokens", views=2)
    features = features_of(write_clips(tmp_path, 4), nano, spec, tmp_path / "store")
    frames = frames_of(features, spec, "crop", "flip")
    frozen, tuned = (head_on(spec, nano.dim, kind).eval() for _ in range(2))
    adapter = TunedAdapter.around(tuned, tuning_on(spec, tune=how), seed=0).eval()
    frozen.calibrate(features)
    adapter.calibrate(frames)
    for name, tensor in frozen.state_dict().items():
        torch.testing.assert_close(adapter.head.state_dict()[name], tensor, atol=1e-6, rtol=1e-6)
    places = list(range(len(frames)))
    wanted, seen = (
        one.answer_with_loss(data.read_batch(places)) for one, data in ((frozen, features), (adapter, frames))
    )
    for ours, theirs in zip(seen[0], wanted[0], strict=True):
        torch.testing.assert_close(ours.scores, theirs.scores, atol=1e-5, rtol=1e-5)  # type: ignore[attr-defined]
    torch.testing.assert_close(seen[1].value, wanted[1].value, atol=1e-5, rtol=1e-5)


def test_an_untrained_lora_answers_bit_for_bit_as_the_frozen_adapter(nano: Encoder, tmp_path: Path) -> None:
    """Asked as saved adapters are asked, it goes the same way through the same numbers."""
    from adapters.card import AdapterInfo

    spec = spec_of(nano, views=2)
    info = AdapterInfo(features=spec, encoder_source="nano")
    frozen = head_on(spec, nano.dim).described_as(info).eval()
    tuned = TunedAdapter.around(head_on(spec, nano.dim).eval(), tuning_on(spec, tune="lora"), seed=0)
    finished = tuned.described_as(info).finished()
    clips = write_clips(tmp_path, 4)
    wanted, seen = frozen.predict(clips, encoder=nano), finished.predict(clips)
    assert all(torch.equal(one.scores, other.scores) for one, other in zip(wanted, seen, strict=True))
    assert finished.info.features is not None and finished.info.features.fingerprint != spec.fingerprint


@pytest.mark.parametrize("options", [{"tune": "lora"}, {"tune": "full"}, {"tune": "lora", "lora_targets": ("mlp",)}])
def test_gradients_are_those_of_the_plain_formulation(nano: Encoder, options: dict[str, Any]) -> None:
    """One step of the tuned adapter against the model and the head called by hand."""
    adapter, batch = around(nano, **options).train(), batch_of()
    adapter.loss(batch).value.backward()
    seen = {name: one.grad.clone() for name, one in adapter.named_parameters() if one.grad is not None}
    adapter.zero_grad()
    video = batch.features.float().permute(0, 1, 4, 2, 3) / 255
    tokens = adapter.encoder.model(video, batch.mask, (), False)[0]
    logits = adapter.head(tokens, batch.mask)
    torch.nn.functional.cross_entropy(logits, batch.targets, label_smoothing=0.1).backward()
    wanted = {name: one.grad for name, one in adapter.named_parameters() if one.grad is not None}
    assert seen.keys() == wanted.keys() and any("encoder." in name for name in seen)
    for name, grad in wanted.items():
        torch.testing.assert_close(seen[name], grad, atol=1e-6, rtol=1e-4)
    trains = [name for name, one in adapter.encoder.named_parameters() if one.requires_grad]
    if options["tune"] == "lora":
        assert all("lora_" in name for name in trains)
        assert options.get("lora_targets") is None or all(".fc" in name for name in trains)
    else:
        assert all(name.startswith("model.vision.") for name in trains)


def test_hidden_layers_get_gradients_too(nano: Encoder) -> None:
    adapter = around(nano, layers=(-2, -1), tune="lora").train()
    adapter.loss(batch_of()).value.backward()
    grads = [one.grad for name, one in adapter.named_parameters() if "lora_B" in name]
    assert all(grad is not None and float(grad.abs().max()) > 0 for grad in grads)


def test_activations_computed_again_change_no_gradient(nano: Encoder) -> None:
    found = []
    for again in (False, True):
        adapter = around(nano, tune="full", recompute=again).train()
        adapter.loss(batch_of()).value.backward()
        found.append([one.grad for one in adapter.parameters() if one.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("targets", [torch.tensor([0, 1, 0]), torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])])
def test_mixup_is_the_loss_against_both_targets(nano: Encoder, targets: torch.Tensor) -> None:
    """For single labels against soft targets written out; for several labels too."""
    many = targets.ndim == 2
    spec = spec_of(nano)
    head = head_on(spec, nano.dim, multi_label=many, label_smoothing=0.0)
    adapter = TunedAdapter.around(head, tuning_on(spec, tune="lora", augment=("mixup",)), seed=0).train()
    batch = batch_of()
    batch.targets = targets
    torch.manual_seed(5)
    loss = adapter.loss(batch)
    torch.manual_seed(5)
    mix = MixUp.drawn(3, torch.device("cpu"))
    video = batch.features.float().permute(0, 1, 4, 2, 3) / 255
    share = mix.share[:, None, None, None, None]
    mixed = share * video + (1 - share) * video[mix.partner]
    logits = adapter.head(adapter.encoder.model(mixed, batch.mask, (), False)[0], batch.mask)
    plain = targets if many else torch.nn.functional.one_hot(targets, 2).float()
    soft = mix.share[:, None] * plain + (1 - mix.share[:, None]) * plain[mix.partner]
    if many:
        wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, soft)
    else:
        wanted = torch.nn.functional.cross_entropy(logits, soft)
    torch.testing.assert_close(loss.value, wanted, atol=1e-5, rtol=1e-5)
    assert loss.weight == 3
    adapter.eval()
    assert float((adapter.loss(batch).value - loss.value).detach().abs()) > 1e-6  # judged unmixed


@pytest.mark.parametrize(("how", "kind"), [("full", "map_classifier"), ("lora", "linear")])
def test_lower_layers_learn_slower(nano: Encoder, how: str, kind: str) -> None:
    adapter = around(nano, kind, tune=how, encoder_lr=0.2, layer_decay=0.5)
    shares = {name: adapter.learning_rate_share(name) for name, one in adapter.named_parameters() if one.requires_grad}
    assert {share for name, share in shares.items() if name.startswith("head.")} == {1.0}
    depth = len(adapter._trunk.layers)
    for name, share in shares.items():
        if ".spatial_layers." in name:
            number = int(name.split(".spatial_layers.")[1].split(".")[0])
            assert share == pytest.approx(0.2 * 0.5 ** (depth - number))
        if ".temporal_layers.1." in name:
            assert share == pytest.approx(0.2 * 0.5)
    if how == "full":
        assert shares["encoder.model.vision.patch_projection.weight"] == pytest.approx(0.2 * 0.5 ** (depth + 1))
        assert shares["encoder.model.vision.temporal_norm.weight"] == pytest.approx(0.2)
    groups = parameter_groups(adapter, 0.01, share=adapter.learning_rate_share)
    counted = sum(one.numel() for group in groups for one in group["params"])
    assert counted == sum(one.numel() for one in adapter.parameters() if one.requires_grad)


def test_nothing_that_is_frozen_is_saved(nano: Encoder) -> None:
    lora, full = around(nano, tune="lora", lora_rank=2), around(nano, tune="full")
    kept = lora.saved_state()
    assert all(name.startswith("head.") or ".lora_" in name for name in kept)
    assert {name.removeprefix("head.") for name in kept if name.startswith("head.")} == set(lora.head.saved_names())
    assert all(name.startswith(("head.", "encoder.model.vision.")) for name in full.saved_state())


@pytest.mark.parametrize(
    ("family", "how"),
    [
        *(("nano", "lora"), ("clip", "full")),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("nano", "full"), ("clip", "lora"))),
        *(pytest.param("videomae", how, marks=pytest.mark.slow) for how in ("lora", "full")),
    ],
)
def test_what_was_trained_is_what_is_kept(how: str, family: str, tmp_path: Path) -> None:
    """After some steps the finished head with its encoder answers as the one in training, saved and loaded as well."""
    from adapters.card import AdapterInfo
    from adapters.registry import load_adapter

    source = "nano" if family == "nano" else str(foreign_folder(family, tmp_path / family))
    encoder = load_encoder(source)
    spec = spec_of(encoder, dtype="fp32")
    clips = write_clips(tmp_path, 4)
    frames = frames_of(features_of(clips, encoder, spec, tmp_path / "store"), spec)
    tuning = tuning_on(spec, source, tune=how, encoder_lr=1.0)
    adapter = TunedAdapter.around(head_on(spec, encoder.dim), tuning, seed=0)
    optimizer = torch.optim.AdamW([one for one in adapter.parameters() if one.requires_grad], lr=2e-4)
    batch = frames.read_batch([0, 1, 2, 3])
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = adapter.train().loss(batch).value
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    in_training = adapter.eval().answer(batch)
    finished = adapter.described_as(AdapterInfo(features=spec, encoder_source=source)).finished()
    assert isinstance(finished.tuning, EncoderLora if how == "lora" else OwnEncoder)
    answers = finished.eval().predict(clips)
    for one, other in zip(answers, in_training, strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-4, rtol=1e-4)  # type: ignore[attr-defined]
    size = spec.preprocessing.image_size
    tuned, before = (one(torch.rand(1, 4, 3, size, size)).tokens for one in (finished.find_encoder(), encoder))
    assert float((tuned - before).abs().max()) > 0
    folder = finished.save_pretrained(tmp_path / "kept")
    loaded = load_adapter(folder)
    again = loaded.predict(clips)
    assert all(torch.equal(one.scores, other.scores) for one, other in zip(again, answers, strict=True))
    assert loaded.info.features == finished.info.features
    resaved = load_adapter(loaded.save_pretrained(tmp_path / "again"))
    assert all(torch.equal(a.scores, b.scores) for a, b in zip(resaved.predict(clips), answers, strict=True))


@pytest.mark.parametrize("how", ["lora", "full"])
def test_recomputed_layers_are_whole_when_training_is_over(nano: Encoder, how: str) -> None:
    """A layer whose `forward` was replaced is copied with the old one, which knows nothing of merged weights."""
    from adapters.card import AdapterInfo

    adapter = around(nano, tune=how, recompute=True)
    with torch.no_grad():
        for name, one in adapter.named_parameters():
            if one.requires_grad and name.startswith("encoder."):
                one.add_(0.05)
    batch = batch_of()
    wanted = adapter.eval().answer(batch)
    finished = adapter.described_as(AdapterInfo(features=adapter.tuning_of.spec)).finished().eval()
    tuned = finished.find_encoder()
    assert not any("forward" in vars(module) for module in tuned.modules())
    tokens = tuned(to_video_tensor(batch.features), batch.mask).tokens.half()
    seen = finished.answer(Batch(tokens, batch.mask, batch.targets, batch.ids))
    for one, other in zip(seen, wanted, strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=2e-3, rtol=2e-3)  # type: ignore[attr-defined]


def test_another_encoder_under_the_name_is_refused(nano: Encoder, tmp_path: Path) -> None:
    spec = spec_of(nano)
    other = str(foreign_folder("clip", tmp_path / "clip"))
    with pytest.raises(EncoderMismatch, match="not the encoder that it was when the run began"):
        TunedAdapter.around(head_on(spec, nano.dim), tuning_on(spec, other, tune="lora"), seed=0)


def test_mixup_needs_losses_of_single_samples(nano: Encoder) -> None:
    class Odd(Adapter):
        """A kind of another package that is no `Classifier`."""

        kind = "odd"
        Config = LinearConfig
        forward = loss = answer = None  # type: ignore[assignment]

    spec = spec_of(nano)
    head: Any = Odd.build({}, head_on(spec, nano.dim).context)
    with pytest.raises(InputError, match="augment mixup needs the loss of single samples, which odd does not give"):
        TunedAdapter.around(head, tuning_on(spec, tune="lora", augment=("mixup",)), seed=0)


def test_a_run_can_be_sent_to_other_processes(nano: Encoder) -> None:
    import pickle

    tuning = tuning_on(spec_of(nano), tune="lora")
    again: Tuning = pickle.loads(pickle.dumps(tuning))  # noqa: S301
    assert again == tuning and again.record["rank"] == 16
