"""`Adapter`: a head on frozen features. A new kind is one file with a frozen config, `forward`, `loss` and `answer`.

Shapes: features are `(B, T, N, D)` for kind `tokens`, `(B, T, D)` for `frames`, `(B, D)` for `clip`, `(B, E)` for
`embedding`; a head that asks for encoder `layers` gets them as an axis after B. The frame mask `(B, T)` is True where a
frame is real. Asking an adapter needs torch alone; what trains it is built around it (`adapters.training`,
`adapters.lightning_adapter`).
"""

from __future__ import annotations

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from adapters.card import AdapterInfo
from adapters.context import Context, TargetKind, TargetSchema
from adapters.features import Batch, Example, FeatureDataset, Times, stack
from adapters.predictions import Prediction
from core_encoder.array_videos import array_videos, is_array
from core_encoder.clip_plan import Clip
from core_encoder.config import config_from_dict, config_to_dict
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import AXES, serves
from core_encoder.files.hub import named_elsewhere

if TYPE_CHECKING:
    from adapters.lightning_adapter import LightningAdapter
    from adapters.tuning.encoder_lora import EncoderLora
    from adapters.tuning.own_encoder import OwnEncoder
    from core_encoder.encoder import Encoder
    from core_encoder.features.feature_spec import FeatureKind


class Loss(NamedTuple):
    """The mean loss of a batch, a scalar, and over how much it is a mean: samples, tokens of text, pairs.

    Parts of a batch, in several processes or one after the other, count by their weight.
    """

    value: Tensor
    weight: float


class Adapter(nn.Module, ABC):
    """A head on the features of a frozen encoder; the encoder is never part of it.

    A subclass names its `kind`, its frozen `Config`, the coarsest `feature_kind` it can live with, and the kind of
    targets it learns. With `reads_whole_clips` an example is a clip with all its views, else one view. With
    `even_shares` the loss needs the whole batch: every process gets equally many samples, `gather` brings the others'.
    """

    kind: ClassVar[str]
    Config: ClassVar[type]
    feature_kind: ClassVar[FeatureKind] = "tokens"
    target_kind: ClassVar[TargetKind] = "classes"
    reads_whole_clips: ClassVar[bool] = False
    even_shares: ClassVar[bool] = False
    answers_together: ClassVar[bool] = False  # several videos in one batch, because one by one would be slow
    warmup_fraction: ClassVar[float] = 0.05  # of all steps, unless the training says otherwise
    least_warmup_steps: ClassVar[int] = 0  # of the learning rate, but never more than half of all steps
    places: ClassVar[tuple[str, ...]] = ()  # options that name what the head needs and its folder does not hold
    input_names: ClassVar[tuple[str, ...] | None] = None  # what may be given beside a video; None: whatever it is
    needed_inputs: ClassVar[tuple[str, ...]] = ()  # what must be given, of these
    batch_size: ClassVar[int] = 32  # samples a step unless the training says otherwise

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        given = inspect.signature(cls.__init__).parameters
        placed = [one for one in given.values() if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        if "__init__" in vars(cls) and ({"dim", "label_names"} & set(given) or len(placed) > 3):
            wrong = "__init__ takes (config, context), not dim and label_names"
        elif "scores" in vars(cls):
            wrong = "`scores` became `answer`, which gives a list of predictions"
        else:
            return
        raise InputError(f"adapter {cls.__name__} is of an older prismhub: {wrong}; see docs/write-an-adapter.md")

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__()
        self.config = config
        self.context = context
        self.info = AdapterInfo(
            self.kind,
            config_to_dict(config),
            context.dim,
            context.targets,
            grid=context.grid,
            features=context.features,
        )
        self._saved_names: frozenset[str] | None = None
        self._encoder: tuple[Encoder, ...] = ()  # in a tuple, so that it never becomes a submodule
        self.tuning: EncoderLora | OwnEncoder | None = None  # what became of the encoder where it trained, too

    @classmethod
    def build(cls, config: Any, context: Context, *, seed: int = 0) -> Self:
        """A fresh head; the same arguments always give the same weights.

        Raises:
            InputError: an unknown option in `config`, a value out of range, or targets that do not fit the kind.
        """
        if config is None or isinstance(config, Mapping):
            config = config_from_dict(cls.Config, config or {}, cls.kind)
        if context.targets.kind != cls.target_kind:
            raise InputError(f"adapter {cls.kind!r} learns {cls.target_kind}, but the task has {context.targets.kind}")
        needed = cls.feature_kind_for(config)
        if context.features is not None and not serves(context.features.kind, needed):
            raise InputError(
                f"adapter {cls.kind!r} reads {needed}, but these features are {context.features.kind}: "
                f"encode with --kind {needed}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            adapter = cls(config, context)
        adapter._saved_names = adapter.saved_names()
        return adapter

    @classmethod
    def options_for(cls, targets: TargetSchema) -> dict[str, Any]:
        """The options of the head that the targets decide; none by default."""
        return {}

    @classmethod
    def feature_kind_for(cls, config: Any) -> FeatureKind:
        """The features that a head of these options reads; by default the same for all."""
        return cls.feature_kind

    @property
    def dim(self) -> int:
        """Width D of the features."""
        return self.context.dim

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes, in the order of the scores; empty for heads without classes."""
        return self.context.targets.label_names

    @property
    def answer_labels(self) -> tuple[str, ...]:
        """The labels that answers may bear; by default the classes."""
        return self.label_names

    @property
    def layers(self) -> tuple[int, ...]:
        """The encoder layers whose raw outputs the head reads; empty for the final features."""
        return tuple(getattr(self.config, "layers", ()))

    @property
    def device(self) -> torch.device:
        """Where the head is."""
        return next((tensor.device for tensor in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    def check_example(self, example: Example) -> None:
        """Refuse features that are coarser than those that the head reads: they have fewer axes.

        Raises:
            InputError: with the kind that is needed.
        """
        needed = self.feature_kind_for(self.config)
        axes = [*("W" * self.reads_whole_clips), *("L" * bool(self.layers)), *AXES[needed]]
        if example.features.ndim < len(axes):
            raise InputError(
                f"adapter {self.kind!r} reads {needed}, ({', '.join(axes)}) of each sample, but the features of "
                f"{example.id!r} are of shape {tuple(example.features.shape)}: encode with --kind {needed}"
            )

    # What a kind may change

    def calibrate(self, dataset: FeatureDataset) -> None:
        """Look at the training set once before the first step (feature scale, class counts); nothing by default."""

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Put examples together; by default those of one shape are stacked."""
        return stack(examples)

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor | None = None) -> Any:
        """The head's raw output."""

    @abstractmethod
    def loss(self, batch: Batch) -> Loss:
        """The mean loss of a batch and its weight."""

    @abstractmethod
    def answer(self, batch: Batch) -> list[Prediction]:
        """What the head says of every example, in evaluation mode and without gradients (see `adapters.predicting`)."""

    def answer_with_loss(self, batch: Batch) -> tuple[list[Prediction], Loss]:
        """Both at once, for validation; a kind whose answer and loss come of one forward pass overrides it."""
        return self.answer(batch), self.loss(batch)

    def merge(self, answers: Sequence[Prediction], times: Sequence[Times | None]) -> Prediction:
        """One answer from those of the views or windows of one sample, given with their times.

        Raises:
            InputError: there are several, and this kind does not say how they become one.
        """
        if len(answers) > 1:
            raise InputError(
                f"adapter {self.kind!r} does not join the answers of several views; use a plan with one view"
            )
        return answers[0]

    def gather(self, rows: Tensor) -> Tensor:
        """Rows `(B, ...)` of this process -> those of all processes, with gradients; the training loop brings it."""
        return rows

    def saved_names(self) -> frozenset[str]:
        """The names in `state_dict` that are saved, trained and checkpointed: trainable parameters and buffers.

        What is frozen when the head is built, such as a language model, is brought by its own files. Of tied weights,
        which have several names, the first one counts.
        """
        if self._saved_names is not None:
            return self._saved_names
        left_out, seen = set(), set()
        parameters, buffers = (named(remove_duplicate=False) for named in (self.named_parameters, self.named_buffers))
        for name, tensor in (*parameters, *buffers):
            if id(tensor) in seen or (isinstance(tensor, nn.Parameter) and not tensor.requires_grad):
                left_out.add(name)
            seen.add(id(tensor))
        return frozenset(self.state_dict().keys() - left_out)

    def names_in_assets(self) -> frozenset[str]:
        """Those of `saved_names` that a saved adapter holds in assets, in a layout of their own; none by default.

        A head that is built with `context.assets` has read them already.
        """
        return frozenset()

    def learning_rate_share(self, name: str) -> float:
        """The learning rate of the parameter `name` as a share of the others'; what starts pretrained may want less."""
        return 1.0

    def write_assets(self, folder: Path) -> None:
        """Write further files that the head needs (a tokenizer, a `lora/` folder) into `folder`; none by default.

        They are listed with their digests in `adapter_config.json`; a head that is loaded finds them in
        `context.assets`.
        """

    @property
    def trained_kind(self) -> type[Adapter]:
        """The kind whose defaults of training hold."""
        return type(self)

    def finished(self) -> Adapter:
        """What is kept when training is over; by default the adapter itself."""
        return self

    # What comes for free

    def saved_state(self) -> dict[str, Tensor]:
        """The part of `state_dict` that is saved."""
        names = self.saved_names()
        return {name: tensor for name, tensor in self.state_dict().items() if name in names}

    def load_weights(self, tensors: Mapping[str, Tensor], where: str) -> None:
        """Take over `tensors`, which must be exactly what the head saves, by name and shape.

        Raises:
            InputError: tensors are missing, unknown or of another shape; they are named.
        """
        own = self.saved_state()
        wrong = [f"lacks {name!r}" for name in own.keys() - tensors.keys()]
        wrong += [f"has an unknown {name!r}" for name in tensors.keys() - own.keys()]
        wrong += [
            f"holds {name!r} of shape {tuple(tensors[name].shape)}, not {tuple(own[name].shape)}"
            for name in own.keys() & tensors.keys()
            if own[name].shape != tensors[name].shape
        ]
        if wrong:
            raise InputError(f"{where}: {'; '.join(sorted(wrong))}: not the weights of this adapter")
        self.load_state_dict(dict(tensors), strict=False)

    def predict(
        self,
        inputs: Any,
        *,
        mask: Tensor | None = None,
        ids: Sequence[str] | None = None,
        given: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        encoder: Encoder | None = None,
        cache: str | Path | None = None,
        decoder: str = "auto",
        batch_size: int = 8,
    ) -> list[Any]:
        """Answer for videos, one or many, or for a batch of features: a list of `Prediction`s.

        Videos are paths, `Clip`s or arrays: uint8 `(T, H, W, 3)` each, or float `(B, T, 3, H, W)` in [0, 1]; of NumPy
        or torch. Features are floats of any other number of axes; of five only where the head reads layers or whole
        clips. Videos are sampled and encoded as the training videos were; the answers of a video's views become one.
        `given` is what the head is told beside the video (`{"question": ...}`), once for all or one mapping each. With
        `cache`, a folder, features of files are looked up and kept there. `encoder` spares loading it by its name.

        Raises:
            InputError: the features do not fit the head, an array is neither features nor a video or may be both, no
                encoder is known, `ids` or `given` are not as many, or what is given means nothing to the head.
            EncoderMismatch: `encoder` is not the one the adapter was trained on.
            UnreadableVideo: a video cannot be decoded.
        """
        from adapters.predicting import (
            check_given,
            check_needed,
            is_features,
            predict_arrays,
            predict_features,
            predict_videos,
            truths_of,
        )

        check_given([self], given)
        if is_array(inputs) and is_features(self, inputs, mask):
            features = torch.as_tensor(inputs)
            known = truths_of([str(i) for i in range(len(features))], ids, given)
            return predict_features(self, features, mask, known, batch_size)
        check_needed({self.kind: self}, given)
        alone = is_array(inputs) or isinstance(inputs, str | os.PathLike | Clip)
        asked = [inputs] if alone else list(inputs)
        if any(map(is_array, asked)):
            if not all(map(is_array, asked)):
                raise InputError("give paths or arrays, not both in one call")
            videos = array_videos(asked)
            known = truths_of([video.name for video in videos], ids, given)
            return predict_arrays(self, videos, known, encoder, batch_size)
        clips = [item if isinstance(item, Clip) else Clip(os.fspath(item)) for item in asked]
        known = truths_of([clip.path for clip in clips], ids, given)
        return predict_videos(self, clips, known, encoder, cache, decoder, batch_size)

    def use_encoder(self, encoder: Encoder) -> None:
        """Predict with this encoder from now on, instead of loading the recorded one.

        An adapter with a LoRA of its own takes the encoder that it was tuned from, too, and makes its own of it.

        Raises:
            EncoderMismatch: the adapter was trained on another one.
        """
        self.info.check_encoder(encoder.name, encoder.fingerprint)
        if self.info.features is not None and encoder.fingerprint != self.info.features.fingerprint:
            encoder = cast("EncoderLora", self.tuning).merged_into(encoder)
        self._encoder = (encoder,)

    def find_encoder(self, encoder: Encoder | None = None) -> Encoder:
        """The encoder given, used before, or recorded in training, which is loaded.

        Raises:
            InputError: it is not at hand.
            EncoderMismatch: `encoder` is another one.
        """
        if encoder is None and not self._encoder:
            from core_encoder.encoder import load_encoder

            wanted = self.info.encoder_to_load
            try:
                encoder = load_encoder(wanted, device=self.device)
            except InputError as error:
                raise InputError(f"the adapter's encoder {wanted!r} is not at hand ({error}): pass encoder=") from error
        if encoder is not None:
            self.use_encoder(encoder)
        return self._encoder[0]

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write weights, configuration, model card and assets to `folder`, which appears whole or not at all.

        Raises:
            InputError: the folder holds something else than a saved adapter, or the disk is full.
        """
        from adapters.saved_adapter import save_adapter

        return save_adapter(self, folder)

    @classmethod
    def from_folder(cls, folder: str | Path, moved: Mapping[str, str] | None = None) -> Self:
        """Load what `save_pretrained` wrote, strictly, in evaluation mode; `load_adapter` finds the kind by itself.

        `moved` names options of the head that are places, with where those lie now.

        Raises:
            InputError: the folder holds no adapter, one of another kind, or files that are not the ones saved.
        """
        from adapters.saved_adapter import read_adapter

        return read_adapter(cls, folder, moved)

    def parts_elsewhere(self) -> dict[str, str]:
        """What the saved folder names and does not hold: options of `places`, with what another machine calls each."""
        given = {name: self.info.config.get(name) for name in self.places}
        return {name: named_elsewhere(place) for name, place in given.items() if place}

    def push_to_hub(self, repo_id: str, *, private: bool = False, message: str = "Upload adapter") -> str:
        """Upload the saved form to `repo_id` (`org/name`) on the Hub and return its URL.

        Paths of this machine are left out: of `places` the last part stays, the encoder is known by its name.

        Raises:
            InputError: no token, no network, or the Hub refuses.
        """
        from adapters.saved_adapter import push_adapter

        return push_adapter(self, repo_id, private, message)

    def lightning_module(self, **training: Any) -> LightningAdapter:
        """This head for Lightning's own Trainer; options are those of `LightningAdapter`."""
        from adapters.lightning_adapter import LightningAdapter

        return LightningAdapter(self, **training)

    def described_as(self, info: AdapterInfo) -> Self:
        """Record where the head comes from: `info` with the head's own kind, options and context."""
        own = self.info
        self.info = replace(
            info,
            kind=own.kind,
            config=own.config,
            dim=own.dim,
            targets=own.targets,
            grid=own.grid,
        )
        return self

    def __repr__(self) -> str:
        size = sum(parameter.numel() for parameter in self.parameters())
        classes = f", classes={len(self.label_names)}" if self.label_names else ""
        return (
            f"{type(self).__name__}(kind={self.kind!r}, encoder={self.info.encoder!r}, dim={self.dim}{classes}, "
            f"parameters={size:,})"
        )
