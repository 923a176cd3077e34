"""What every kind of adapter keeps, whatever it answers: the rows are those of `every_kind.py`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.card import AdapterInfo
from adapters.features import Example, example_of
from adapters.lightning_adapter import FeatureDataModule
from adapters.predictions import Prediction
from adapters.registry import adapter_kinds, load_adapter, register_adapter, target_kind
from adapters.training.train_grid import TrainingResult, train
from adapters.training.training_config import TrainingConfig, TrainingProgress
from core_encoder.clip_plan import Clip
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import InputError
from core_encoder.features.feature_source import FeatureSource
from core_encoder.features.feature_spec import FeatureKind
from tests.adapters.every_kind import ROWS, Row, ask
from tests.videos import moving_square, write_video

each = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
CONFIG = TrainingConfig(epochs=1, batch_size=4, lr=3e-3, accelerator="cpu", checkpoint_every_s=0.0)


@pytest.fixture(scope="module")
def nano() -> Encoder:
    return load_encoder("nano")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of a moving square."""
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4", moving_square(64, 64, 64), fps=16)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[[Row], None]:
    """`known(row)` registers a toy, so that it can be loaded."""
    monkeypatch.setattr("adapters.registry._registered", {})

    def register(row: Row) -> None:
        if row.name not in adapter_kinds():
            register_adapter(row.kind())

    return register


def numbers(said: Any) -> list[float]:
    """Every number of a description, in order."""
    if isinstance(said, dict):
        return [number for one in said.values() for number in numbers(one)]
    if isinstance(said, list):
        return [number for one in said for number in numbers(one)]
    return [float(said)] if isinstance(said, int | float) else []


def texts(said: Any) -> list[str]:
    """Every text of a description, in order."""
    if isinstance(said, dict):
        return [text for one in said.values() for text in texts(one)]
    return [text for one in said for text in texts(one)] if isinstance(said, list) else [said] * isinstance(said, str)


def same(ours: list[Prediction], theirs: list[Prediction], within: float = 0.0) -> None:
    """Whether two lists of answers say the same, numbers up to a tolerance."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        said, expected = (json.loads(json.dumps(each.describe(all_scores=True))) for each in (one, other))
        if not within:
            assert said == expected
            continue
        assert texts(said) == texts(expected)
        assert numbers(said) == pytest.approx(numbers(expected), abs=within)


def run(row: Row, folder: Path, **options: Any) -> TrainingResult:
    info = AdapterInfo(grid=row.context.grid)
    sets = row.examples(18, 0), row.examples(6, 1)
    about: dict[str, Any] = {"targets": row.context.targets, "head": row.head, "info": info, "config": CONFIG}
    return train(row.kind(), *sets, run_dir=folder, **(about | options))


def test_every_kind_of_ours_has_a_row() -> None:
    ours = {name for name in adapter_kinds() if target_kind(name)}
    assert ours <= {row.name for row in ROWS}


@each
def test_no_gradient_reaches_the_encoder(row: Row, nano: Encoder, video: Path) -> None:
    adapter = row.on(nano)
    adapter.use_encoder(nano)
    before = {name: tensor.clone() for name, tensor in nano.model.state_dict().items()}
    spec = adapter.info.features
    assert spec is not None
    records = FeatureSource(nano, spec, video.parent / "store")[Clip(str(video))]
    whole = adapter.reads_whole_clips
    views = records if whole else records[:1]
    pair = [example_of(views, one.truth, whole_clip=whole) for one in row.examples(2, 0)]  # one alone has no negatives
    assert not any(example.features.requires_grad for example in pair)
    optimizer = torch.optim.SGD([one for one in adapter.parameters() if one.requires_grad], lr=0.1)
    loss = adapter.train().loss(adapter.collate(pair)).value
    loss.backward()
    optimizer.step()
    assert any(one.grad is not None and one.grad.abs().sum() > 0 for one in adapter.parameters())
    encoders = list(nano.model.parameters())
    assert not {id(one) for one in encoders} & {id(one) for one in adapter.parameters()}
    assert all(one.grad is None and not one.requires_grad for one in encoders)
    assert all(torch.equal(tensor, before[name]) for name, tensor in nano.model.state_dict().items())


@each
def test_what_is_saved_and_loaded_answers_alike(row: Row, known: Callable[[Row], None], tmp_path: Path) -> None:
    known(row)
    adapter = row.build()
    loaded = load_adapter(adapter.save_pretrained(tmp_path / "saved"))
    assert type(loaded) is type(adapter) and not loaded.training
    same(ask(loaded, row.examples(6, 2)), ask(adapter, row.examples(6, 2)))


@each
def test_neither_order_nor_neighbours_in_a_batch_matter(row: Row) -> None:
    adapter, examples = row.build(), row.examples(8, 2)
    together = ask(adapter, examples)
    order = [5, 0, 7, 2, 1, 6, 3, 4]
    same(ask(adapter, [examples[place] for place in order]), [together[place] for place in order], within=1e-4)
    alone = [ask(adapter, [example])[0] for example in examples]  # videos of other lengths need no padding then
    same(alone, together, within=1e-4)


@each
def test_padding_frames_change_nothing(row: Row) -> None:
    adapter = row.build()
    kind = adapter.feature_kind
    if kind not in ("tokens", "frames"):
        pytest.skip("features without frames have no padding frames; windows beside shorter videos are tested above")
    quiet, loud = [], []
    for example in row.examples(6, 2):
        mask = torch.ones(len(example.features), dtype=torch.bool)
        mask[-1] = False
        other = example.features.clone()
        other[-1] = 100.0
        quiet.append(replace(example, mask=mask))
        loud.append(replace(example, mask=mask, features=other))
    same(ask(adapter, loud), ask(adapter, quiet))
    losses = [float(adapter.loss(adapter.collate(part)).value.detach()) for part in (quiet, loud)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


@each
def test_bfloat16_is_close(row: Row) -> None:
    adapter = row.build()
    examples = row.examples(8, 2)
    batch = adapter.collate(examples)
    exact = adapter.loss(batch).value.detach()
    with torch.autocast("cpu", torch.bfloat16):
        loss = adapter.loss(batch).value
    loss.backward()
    torch.testing.assert_close(loss.detach().float(), exact.float(), atol=0.05, rtol=0.05)
    grads = [one.grad for one in adapter.parameters() if one.grad is not None]
    assert grads and all(one.isfinite().all() for one in grads)
    halved = [replace(one, features=one.features.bfloat16()) for one in examples]
    torch.testing.assert_close(adapter.loss(adapter.collate(halved)).value.detach(), exact, atol=0.05, rtol=0.05)
    assert all(math.isfinite(number) for one in ask(adapter, halved) for number in numbers(one.describe()))


@each
def test_features_of_another_kind_are_refused_with_the_one_that_is_needed(
    row: Row, nano: Encoder, tmp_path: Path
) -> None:
    cls = row.kind()
    needed = cls.feature_kind
    spec = row.on(nano).info.features
    assert spec is not None
    other: FeatureKind = "embedding" if needed != "embedding" else "clip"
    wrong = replace(row.context, features=replace(spec, kind=other), dim=nano.dim)
    with pytest.raises(
        InputError, match=f"reads {needed}, but these features are {other}: encode with --kind {needed}"
    ):
        cls.build(row.head, wrong)
    if row.examples(1, 0)[0].features.ndim == 1:
        return  # one vector: none has fewer axes
    coarse = [replace(one, features=one.features.float().mean(0)) for one in row.examples(4, 0)]
    says = f"reads {needed}, .* of each sample, but the features of .* are of shape .*: encode with --kind {needed}"
    with pytest.raises(InputError, match=says):
        run_on(row, coarse, tmp_path)
    with pytest.raises(InputError, match=says):
        row.build().predict(torch.stack([one.features for one in coarse[:1]]), mask=torch.ones(1, 4, dtype=torch.bool))


def run_on(row: Row, examples: list[Example], folder: Path) -> TrainingResult:
    about: dict[str, Any] = {"targets": row.context.targets, "head": row.head, "config": CONFIG}
    return train(row.kind(), examples, run_dir=folder, info=AdapterInfo(grid=row.context.grid), **about)


@each
def test_a_killed_epoch_goes_on_to_the_same_end(row: Row, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(now: TrainingProgress) -> None:
        if now.step == 2:
            raise Killed

    calm = run(row, tmp_path / "calm")
    with pytest.raises(Killed):
        run(row, tmp_path / "killed", progress=kill)
    seen: list[int] = []
    again = run(row, tmp_path / "killed", progress=lambda now: seen.append(now.step))
    assert seen and min(seen) > 1, "it went on, and did not begin anew"
    assert again.history == calm.history
    for name, tensor in calm.best.saved_state().items():
        assert torch.equal(again.best.saved_state()[name], tensor), name


@each
def test_a_plain_trainer_trains_it(row: Row, tmp_path: Path) -> None:
    from lightning.pytorch import Trainer

    adapter = row.kind().build(row.head, row.context, seed=1)
    before = {name: tensor.clone() for name, tensor in adapter.saved_state().items()}
    data = FeatureDataModule(row.examples(18, 0), row.examples(6, 1), row.examples(4, 2), batch_size=6)
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    module = adapter.lightning_module(lr=3e-3)
    trainer.fit(module, data)
    assert math.isfinite(float(trainer.callback_metrics["val_loss"]))
    trained = adapter.saved_state()
    assert any(not torch.equal(trained[name], tensor) for name, tensor in before.items())
    predicted = [one for part in trainer.predict(module, data) or [] for one in part]
    assert [one.sample_id for one in predicted] == [one.id for one in row.examples(4, 2)]
