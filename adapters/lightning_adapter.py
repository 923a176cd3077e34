"""Adapters under Lightning's own Trainer: the module that trains a head, and the data module over its features.

    data = FeatureDataModule(train_set, val_set, batch_size=32)
    Trainer(max_epochs=10).fit(adapter.lightning_module(lr=1e-3), data)
    adapter.save_pretrained("my-adapter")

`adapters.train` needs none of it: its loop adds the grid on one pass, exact resume, and the registry.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from adapters.adapter import Adapter
from adapters.features import Batch, Collate, FeatureDataset, Times, epoch_batches, even_batches, read_batch, stack
from adapters.predicting import answer_batch, merge_views
from adapters.predictions import Prediction, Truth
from adapters.training.training_config import MetricFactory, TrainingConfig
from core_encoder.errors import InputError

Judged = tuple[Prediction, Times | None, Truth]
"""An answer, when its features are, and what is known of its sample."""
_OPTIONS = ("lr", "weight_decay", "warmup_fraction", "clip_grad_norm")


class LightningAdapter(LightningModule):
    """A head with its optimizer and steps; options are `lr`, `weight_decay`, `warmup_fraction` and `clip_grad_norm`.

    Gradients are clipped as in `adapters.train`, unless the Trainer says how. Before the first step the head is
    calibrated on the training set of a `FeatureDataModule`, which also learns how its examples become a batch; without
    one, do both yourself. With `metric`, validation logs `val_score` beside `val_loss`.

    Raises:
        InputError: an unknown option, one that is the Trainer's or the data module's, or a value out of range.
    """

    def __init__(self, adapter: Adapter, metric: MetricFactory | None = None, **training: Any) -> None:
        super().__init__()
        from core_encoder.config import config_from_dict

        self.adapter = adapter
        self.config = config_from_dict(TrainingConfig, training, "lightning_module")
        if foreign := next((name for name in training if name not in _OPTIONS), None):
            raise InputError(
                f"lightning_module: option {foreign!r} is for Lightning's Trainer or the data module; "
                f"the module takes {', '.join(_OPTIONS)}"
            )
        self._metric = metric
        self._calibrated = False
        self._judged: dict[Any, Judged] = {}  # by the place of the example in its data set

    def setup(self, stage: str) -> None:
        """Measure feature scale and class counts once, before the first training step.

        Raises:
            InputError: the loss needs the whole batch, and there are several processes.
        """
        if self.adapter.even_shares and self.trainer.world_size > 1:
            raise InputError(
                f"the loss of {self.adapter.kind!r} needs the batch of all processes, which a Trainer does not gather; "
                "use one device, or adapters.train"
            )
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, FeatureDataModule):
            data.collate_as(self.adapter)
        if stage == "fit" and isinstance(data, FeatureDataModule) and not self._calibrated:
            self.adapter.check_example(data.train_set[0])
            self.adapter.calibrate(data.train_set)
            self._calibrated = True

    def training_step(self, batch: Batch, batch_index: int = 0) -> Tensor:
        value = self.adapter.loss(batch).value
        self.log("train_loss", value, batch_size=len(batch))
        return value

    def validation_step(self, batch: Batch, batch_index: int = 0) -> None:
        answers, loss = self.adapter.answer_with_loss(batch)
        self.log("val_loss", loss.value, batch_size=max(round(loss.weight), 1), on_epoch=True, sync_dist=True)
        places: Any = batch.places or [(self.global_rank, len(self._judged) + row) for row in range(len(batch))]
        self._judged |= zip(places, zip(answers, batch.times, batch.truths, strict=True), strict=True)

    def on_validation_epoch_end(self) -> None:
        own, self._judged = self._judged, {}
        if self._metric is None:
            return
        judged = _of_all_processes(own)
        if not judged:
            return
        answers, times, truths = (list(column) for column in zip(*judged, strict=True))
        metric: Any = self._metric()
        metric.sync_on_compute = False  # a torchmetrics.Metric: every process has all answers already
        known = {truth.id: truth for truth in truths}
        merged = merge_views(self.adapter, answers, times)
        metric.update(merged, [known[one.sample_id] for one in merged])
        self.log("val_score", float(metric.compute()))

    def predict_step(self, batch: Batch, batch_index: int = 0) -> Answers:
        """The answer for every example of a batch."""
        return Answers(answer_batch(self.adapter, batch))

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of the gradients as the Trainer says, else by `clip_grad_norm`."""
        limit = gradient_clip_val if gradient_clip_val is not None else self.config.clip_grad_norm or None
        self.clip_gradients(optimizer, limit, gradient_clip_algorithm or "norm")

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and cosine over all steps, as in `adapters.train`."""
        from adapters.training.candidate import build_optimizer, learning_rate

        optimizer = build_optimizer(self.adapter, self.config)
        total = int(self.trainer.estimated_stepping_batches)
        kind = type(self.adapter)
        schedule = torch.optim.lr_scheduler.LambdaLR(  # each group's share is in its own rate already
            optimizer, lambda step: learning_rate(self.config, min(step, total - 1), total, kind) / self.config.lr
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _of_all_processes(judged: dict[Any, Judged]) -> list[Judged]:
    """The answers of all processes; an example that a distributed sampler repeats to make shares even counts once."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return list(judged.values())
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, judged)
    return list({place: row for part in parts for place, row in part.items()}.values())


class Answers:
    """The answers for one batch; no sequence, because Lightning would take them apart to move tensors about."""

    def __init__(self, answers: list[Prediction]) -> None:
        self._answers = answers

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self._answers)


class FeatureDataModule(LightningDataModule):
    """The data sets of `adapters.train` as loaders whose items are whole batches, in the same seeded order.

    Raises:
        InputError: there is no sample to train on.
    """

    def __init__(
        self,
        train_set: FeatureDataset,
        val_set: FeatureDataset | None = None,
        predict_set: FeatureDataset | None = None,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not len(train_set):
            raise InputError("there is no sample to train on")
        self.train_set, self.val_set, self.predict_set = train_set, val_set, predict_set
        self.batch_size = batch_size
        self.seed = seed
        self._collate: Collate = stack

    def collate_as(self, adapter: Adapter) -> None:
        """Put examples together as this head does; its Lightning module asks for it."""
        self._collate = stack if type(adapter).collate is Adapter.collate else adapter.collate

    def train_dataloader(self) -> Any:
        return self._loader(self.train_set, _EpochBatches(len(self.train_set), self.batch_size, self.seed))

    def val_dataloader(self) -> Any:
        return [] if self.val_set is None else self._in_order(self.val_set)

    def predict_dataloader(self) -> Any:
        return [] if self.predict_set is None else self._in_order(self.predict_set)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device)

    def _in_order(self, dataset: FeatureDataset) -> Any:
        return self._loader(dataset, even_batches(range(len(dataset)), self.batch_size))

    def _loader(self, dataset: FeatureDataset, batches: Sequence[list[int]] | Sampler[list[int]]) -> Any:
        whole = _Batches(dataset, self._collate)
        return DataLoader(cast("Dataset[Batch]", whole), sampler=batches, batch_size=None)


class _Batches:
    """A data set whose index is a list of indices: one read for a whole batch."""

    def __init__(self, dataset: FeatureDataset, collate: Collate) -> None:
        self._dataset = dataset
        self._collate = collate

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        batch = read_batch(self._dataset, indices, self._collate)
        batch.places = batch.places or list(indices)
        return batch


class _EpochBatches(Sampler[list[int]]):
    """The batches of epoch 0, 1, ... as `adapters.train` draws them."""

    def __init__(self, num_samples: int, batch_size: int, seed: int) -> None:
        self._about = (num_samples, batch_size, seed)
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self._about[0] / self._about[1])

    def __iter__(self) -> Iterator[list[int]]:
        return iter(epoch_batches(*self._about, self._epoch))
