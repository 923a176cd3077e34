"""`TunedAdapter`: a head and its encoder while both train, as one adapter that reads frames.

    frames (B, T, H, W, 3) uint8 --encoder, with gradients--> features as stored ones would be --head--> loss, answers

The loop that trains heads trains it as it is. What comes out is the head, with the LoRA of its encoder or an encoder of
its own beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from adapters.adapter import Adapter, Loss
from adapters.card import TunedFrom
from adapters.classifier import Classifier
from adapters.features import Batch, Example, FeatureDataset, inputs_of, targets_of
from adapters.lora import with_lora
from adapters.predictions import Prediction
from adapters.tuning.encoder_lora import EncoderLora
from adapters.tuning.own_encoder import OwnEncoder
from adapters.tuning.tune_config import TuneConfig
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import EncoderMismatch, InputError
from core_encoder.features.encoding import of_spec
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.features.shard import as_stored, unpack
from core_encoder.models.trunk import Trunk, trunk_of
from core_encoder.preprocessing import to_video_tensor
from fit.augmentation.mixup import MixUp
from fit.recompute import keep_activations, recompute_activations

if TYPE_CHECKING:
    from lightning.fabric.strategies import ModelParallelStrategy


@dataclass(frozen=True)
class Tuning:
    """What a run needs beside the head in order to train the encoder, too; it can be pickled.

    Attributes:
        source: what `load_encoder` takes.
        spec: the features that the head reads, of the encoder as it is before.
        dim: their width.
        label_names: the classes, which say whether clips may be mirrored.
    """

    config: TuneConfig
    source: str
    spec: FeatureSpec
    dim: int
    label_names: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any]:
        """What decides a run, ready for JSON."""
        return self.config.record(self.label_names)


class TunedAdapter(Adapter):
    """A head on the features of an encoder that trains with it; both are parts of it, and what is frozen is not saved.

    The head is built before. Batches hold frames uint8 `(B, T, H, W, 3)` and masks of frames `(B, T)`.

    Raises:
        InputError: the encoder is at hand no longer, or `check_tunable` refuses.
        EncoderMismatch: under its name there is another encoder now.
    """

    kind: ClassVar[str] = "tuned"
    Config: ClassVar[type] = TuneConfig

    def __init__(self, head: Adapter, tuning: Tuning) -> None:
        super().__init__(head.config, head.context)
        self.info = head.info
        self.head = head
        self.tuning_of = tuning
        config = tuning.config
        encoder = load_encoder(tuning.source)
        if encoder.fingerprint != tuning.spec.fingerprint:
            raise EncoderMismatch(f"{tuning.source}: not the encoder that it was when the run began")
        self.began_as = TunedFrom(
            "lora" if config.tune == "lora" else "full",
            encoder.name,
            encoder.fingerprint,
            tuning.record,
        )
        self._trunk = trunk = check_tunable(config, encoder, head)
        self.encoder = encoder
        self._peft: tuple[Any, ...] = ()  # in a tuple, so that the encoder is no submodule twice
        depths = trunk.depths()
        self._depths = {name: depths[id(one)] for name, one in encoder.model.named_parameters() if id(one) in depths}
        self._top = len(trunk.layers) + 1
        if config.tune == "full":
            trunk.module.requires_grad_(True)
        else:
            maps = sorted(_lora_maps(trunk, config))
            self._peft = (with_lora(trunk.root, config.rank, maps, alpha=config.alpha),)
        if config.recompute:
            recompute_activations(trunk.layers)
        self._mixes = "mixup" in config.augmentations(self.label_names)
        trained = {f"encoder.{name}" for name, one in encoder.named_parameters() if one.requires_grad}
        self._saved_names = frozenset(trained | {f"head.{name}" for name in head.saved_names()})

    @classmethod
    def around(cls, head: Adapter, tuning: Tuning, seed: int) -> TunedAdapter:
        """A head and a fresh copy of its encoder; the same arguments always give the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return cls(head, tuning)

    @property
    def trained_kind(self) -> type[Adapter]:
        return type(self.head)

    def learning_rate_share(self, name: str) -> float:
        """Of the encoder: its own share, less by the decay for every layer below the top."""
        part, _, inner = name.partition(".")
        if part == "head":
            return self.head.learning_rate_share(inner)
        config = self.tuning_of.config
        return config.encoder_share * config.decay ** (self._top - self._depth(inner.removeprefix("model.")))

    def _depth(self, name: str) -> int:
        """How deep a parameter of the model lies; one that LoRA has added lies where its linear map does."""
        map_name, is_lora, _ = name.partition(".lora_")
        return self._depths[f"{map_name}.weight" if is_lora else name]

    def sharded_layers(self) -> tuple[nn.Module, ...]:
        """What processes with sharded weights gather one after the other; nothing, where layers run more than once."""
        return self._trunk.layers if self._trunk.once else ()

    def whole_parameters(self) -> list[nn.Parameter]:
        """What is not worth sharding: all that is frozen and in none of `sharded_layers`."""
        inside = {id(one) for layer in self.sharded_layers() for one in layer.parameters()}
        return [one for one in self.parameters() if not one.requires_grad and id(one) not in inside]

    def check_example(self, example: Example) -> None:
        """Nothing to refuse: frames are as the plan says."""

    def calibrate(self, dataset: FeatureDataset) -> None:
        """Show the head the features of its training set, of the encoder as it is before the first step."""
        self.head.calibrate(_Encoded(self, dataset))

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Any:
        """The head's raw output for frames `(B, T, H, W, 3)`."""
        return self.head(*self._encode(to_video_tensor(features), mask))

    def loss(self, batch: Batch) -> Loss:
        """The head's loss; with MixUp that of mixed clips against both of their targets."""
        video = to_video_tensor(batch.features)  # (B, T, 3, H, W)
        if not (self._mixes and self.training):
            return self.head.loss(_with(batch, *self._encode(video, batch.mask)))
        assert isinstance(self.head, Classifier)
        mix = MixUp.drawn(len(batch), video.device)
        logits = self.head(*self._encode(mix.mixed(video), batch.mask))  # (B, K)
        losses = [self.head.criterion(logits, targets) for targets in (batch.targets, batch.targets[mix.partner])]
        return Loss((mix.share * losses[0] + (1 - mix.share) * losses[1]).mean(), len(batch))

    def answer(self, batch: Batch) -> list[Prediction]:
        """The head's answers from features rounded as a store rounds them."""
        return self.head.answer(self._rounded(batch))

    def answer_with_loss(self, batch: Batch) -> tuple[list[Prediction], Loss]:
        return self.head.answer_with_loss(self._rounded(batch))

    def merge(self, answers: Sequence[Prediction], times: Sequence[Any]) -> Prediction:
        return self.head.merge(answers, times)

    def finished(self) -> Adapter:
        """The head with what became of its encoder, and the encoder to ask it with; this here is used up."""
        head, info = self.head, self.info
        encoder = self.encoder
        keep_activations(self._trunk.layers)
        if self._peft:
            lora = EncoderLora.of(self._peft[0], self._trunk)
            self._peft[0].unload()
            tuned = lora.merged_into(encoder)
            head.tuning = lora
        else:
            tuned = Encoder(encoder.model, f"{encoder.name}+full", encoder.preprocessing, encoder.tokenizer)
            head.tuning = OwnEncoder(tuned)
            info = replace(info, encoder_source="")
        spec = replace(self.tuning_of.spec, encoder=tuned.name, fingerprint=tuned.fingerprint)
        head.info = replace(info, features=spec, tuned_from=self.began_as)
        head.use_encoder(tuned)
        return head

    def _encode(self, video: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Features as the head reads them, and the mask of time steps, of a video `(B, T, 3, H, W)`."""
        spec = self.tuning_of.spec
        seen = self.encoder.with_gradients(video, mask, spec.layers)
        return of_spec(spec, seen), seen.frame_mask

    @torch.no_grad()
    def _rounded(self, batch: Batch) -> Batch:
        features, mask = self._encode(to_video_tensor(batch.features), batch.mask)
        spec = self.tuning_of.spec
        kept = torch.empty(features.shape, dtype=spec.float_dtype)
        unpack(as_stored(features, spec.dtype), kept)
        return _with(batch, kept.to(features.device), mask)


def check_tunable(config: TuneConfig, encoder: Encoder, head: Adapter) -> Trunk:
    """The trunk of an encoder that is to train with a head.

    Raises:
        InputError: the encoder does not say what its layers are, there is nothing in them for LoRA, the head looks at
            whole videos, or it has no loss of single samples for MixUp.
    """
    if head.reads_whole_clips:
        raise InputError(f"tune: {head.kind} looks at whole videos, and trains on stored features alone")
    if "mixup" in config.augment and not isinstance(head, Classifier):
        raise InputError(f"augment mixup needs the loss of single samples, which {head.kind} does not give")
    trunk = trunk_of(encoder.model, encoder.name)
    if config.tune == "lora" and not _lora_maps(trunk, config):
        raise InputError(f"encoder {encoder.name!r} has no linear maps in its {' and '.join(config.targets)}")
    return trunk


def _lora_maps(trunk: Trunk, config: TuneConfig) -> list[str]:
    """The names of the linear maps that get a LoRA."""
    return list(trunk.linear_maps("attention" in config.targets, "mlp" in config.targets))


def fsdp_of_tuned(precision: str, world: int) -> ModelParallelStrategy:
    """The strategy of Fabric that shares the weights of a `TunedAdapter` out over `world` processes."""
    from fit.fsdp import fsdp

    layers, whole = TunedAdapter.sharded_layers, TunedAdapter.whole_parameters
    return fsdp(precision, world, layers, whole_of=whole, methods=("loss", "answer_with_loss"))


class _Encoded:
    """The features of a data set of frames, each encoded when it is asked for."""

    def __init__(self, adapter: TunedAdapter, frames: FeatureDataset) -> None:
        self._adapter, self._frames = adapter, frames
        self.ids = getattr(frames, "ids", None)
        self.targets, self.inputs = targets_of(frames), inputs_of(frames)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Example:
        one = self._frames[index]
        mask = None if one.mask is None else one.mask[None]
        frames = one.features[None].to(self._adapter.device)
        batch = self._adapter._rounded(Batch(frames, mask, [one.target], [one.id])).to("cpu")
        step_mask = None if batch.mask is None else batch.mask[0]
        return Example(batch.features[0], step_mask, one.target, one.id, one.inputs, one.times)


def _with(batch: Batch, features: Tensor, mask: Tensor | None) -> Batch:
    """The batch with features in the place of its frames."""
    return Batch(features, mask, batch.targets, batch.ids, batch.inputs, batch.times, batch.places)
