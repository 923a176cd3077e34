"""`Adapter`: a head on frozen features. A new kind is one file with a frozen config, `forward`, `loss` and `scores`.

Shapes: features are `(B, T, N, D)` for kind `tokens`, `(B, T, D)` for `frames`, `(B, D)` for `clip`; a head that asks
for encoder `layers` gets them as an axis after B. The frame mask `(B, T)` is True where a frame is real.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from adapters.card import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, AdapterInfo, current_versions, model_card, read_info
from adapters.features import Batch, FeatureDataset
from adapters.predictions import ClassScores
from core_encoder.clip_plan import Clip
from core_encoder.config import config_from_dict, config_to_dict
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.features.feature_spec import FeatureKind
from core_encoder.files.storage import offline, prismhub_home, read_tensors, write_json, write_tensors, write_text

if TYPE_CHECKING:
    from core_encoder.encoder import Encoder
    from core_encoder.features.feature_spec import Record

SAVED_FILES = frozenset({WEIGHTS_FILE, CONFIG_FILE, CARD_FILE})


class Adapter(LightningModule, ABC):
    """A head on the features of a frozen encoder; the encoder is never part of it.

    A subclass names its `kind`, its frozen `Config`, and the coarsest `feature_kind` it can live with.
    """

    kind: ClassVar[str]
    Config: ClassVar[type]
    feature_kind: ClassVar[FeatureKind] = "tokens"

    def __init__(self, config: Any, dim: int, label_names: Sequence[str] = ()) -> None:
        super().__init__()
        self.config = config
        self.dim = dim
        self.label_names = tuple(label_names)
        self.info = AdapterInfo(self.kind, config_to_dict(config), dim, self.label_names)
        self._encoder: tuple[Encoder, ...] = ()  # in a tuple, so that it never becomes a submodule

    @classmethod
    def build(
        cls,
        config: Any = None,
        *,
        dim: int,
        label_names: Sequence[str] = (),
        seed: int = 0,
    ) -> Self:
        """A fresh head for features of width `dim`; the same arguments always give the same weights.

        Raises:
            InputError: an unknown option in `config`, a value out of range, or classes that do not fit the kind.
        """
        if config is None or isinstance(config, Mapping):
            config = config_from_dict(cls.Config, config or {}, cls.kind)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return cls(config, dim, label_names)

    @property
    def layers(self) -> tuple[int, ...]:
        """The encoder layers whose raw outputs the head reads; empty for the final features."""
        return tuple(getattr(self.config, "layers", ()))

    def calibrate(self, dataset: FeatureDataset) -> None:
        """Look at the training set once before the first step (feature scale, class counts); nothing by default."""

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """The head's raw output."""

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """The mean of the samples' losses (a mean over samples, so that batches may be split over processes)."""

    @abstractmethod
    def scores(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the validation metric judges, `(B, K)`; views of one sample are averaged in this form."""

    def predict_batch(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """`scores` in evaluation mode without gradients, as float32 on the CPU `(B, K)`."""
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            found = self.scores(features.to(self.device), None if mask is None else mask.to(self.device))
        self.train(was_training)
        return found.float().cpu().clone()

    def predict(
        self,
        inputs: Any,
        *,
        mask: Tensor | None = None,
        ids: Sequence[str] | None = None,
        encoder: Encoder | None = None,
        cache: str | Path | None = None,
        decoder: str = "auto",
        batch_size: int = 8,
    ) -> list[ClassScores]:
        """Answer for videos (paths or `Clip`s, one or many) or for a batch of features.

        Videos are sampled and encoded as the training videos were; the scores of a video's views are averaged. With
        `cache`, a folder, their features are looked up and kept there. `encoder` spares loading it by its name.

        Raises:
            InputError: the features do not fit the head, or no encoder is known.
            EncoderMismatch: `encoder` is not the one the adapter was trained on.
            UnreadableVideo: a video cannot be decoded.
        """
        if isinstance(inputs, Tensor):
            parts = range(0, len(inputs), batch_size)
            spans = [slice(first, first + batch_size) for first in parts]
            scores = [self.predict_batch(inputs[s], None if mask is None else mask[s]) for s in spans]
            names = [str(i) for i in range(len(inputs))] if ids is None else list(ids)
            rows = torch.cat(scores) if scores else torch.empty(0, len(self.label_names))
        else:
            given = [inputs] if isinstance(inputs, str | os.PathLike | Clip) else list(inputs)
            clips = [item if isinstance(item, Clip) else Clip(os.fspath(item)) for item in given]
            names = [clip.path for clip in clips] if ids is None else list(ids)
            rows = self._predict_clips(clips, encoder, cache, decoder, batch_size)
        return [ClassScores(name, row, self.label_names) for name, row in zip(names, rows, strict=True)]

    def _predict_clips(
        self, clips: Sequence[Clip], encoder: Encoder | None, cache: str | Path | None, decoder: str, batch_size: int
    ) -> Tensor:
        from core_encoder.extraction import extract
        from core_encoder.features.failures import Failure
        from core_encoder.features.feature_source import FeatureSource
        from core_encoder.video.decoders import decoder_id

        if self.info.features is None:
            raise InputError("this adapter does not record which encoder it was trained on: give it features instead")
        whole = self._load_encoder(encoder)
        spec = replace(self.info.features, decoder=decoder_id(decoder))
        if cache is not None:
            extract(whole, clips, spec, cache, batch_size=batch_size)
        source = FeatureSource(whole, spec, cache or prismhub_home() / "features", batch_size=batch_size)
        rows = []
        for first in range(0, len(clips), batch_size):
            for records in source.records(clips[first : first + batch_size]):
                if isinstance(records, Failure):
                    raise UnreadableVideo(records.path, records.reason)
                rows.append(self.predict_records(records, batch_size))
        return torch.stack(rows) if rows else torch.empty(0, len(self.label_names))

    def predict_records(self, records: Sequence[Record], batch_size: int = 8) -> Tensor:
        """The scores `(K,)` of one clip from the records of its views, the mean over views."""
        features = torch.stack([record.values for record in records])  # (V, ...)
        mask = torch.stack([record.frame_mask for record in records])  # (V, T)
        spans = [slice(first, first + batch_size) for first in range(0, len(records), batch_size)]
        return torch.cat([self.predict_batch(features[span], mask[span]) for span in spans]).mean(0)

    def use_encoder(self, encoder: Encoder) -> None:
        """Predict with this encoder from now on, instead of loading the recorded one.

        Raises:
            EncoderMismatch: the adapter was trained on another one.
        """
        self.info.check_encoder(encoder.name, encoder.fingerprint)
        self._encoder = (encoder,)

    def _load_encoder(self, encoder: Encoder | None) -> Encoder:
        if encoder is None and not self._encoder:
            from core_encoder.encoder import load_encoder

            wanted = self.info.encoder_source or self.info.encoder
            try:
                encoder = load_encoder(wanted, device=self.device)
            except InputError as error:
                raise InputError(f"the adapter's encoder {wanted!r} is not at hand ({error}): pass encoder=") from error
        if encoder is not None:
            self.use_encoder(encoder)
        return self._encoder[0]

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write weights, configuration and model card to `folder`, which appears whole or not at all.

        Raises:
            InputError: the folder holds something else than a saved adapter, or the disk is full.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - SAVED_FILES):
            raise InputError(f"{folder}: holds something else than an adapter; choose a new folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = folder.parent / f".{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
        try:
            self.write_files(aside, folder.name)
            if folder.exists():
                shutil.rmtree(folder)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return folder

    def write_files(self, folder: Path, name: str) -> None:
        """Write the three files of a saved adapter into `folder`; `name` heads the model card."""
        weights = write_tensors(folder / WEIGHTS_FILE, self.state_dict(), {"format": "pt"})
        self.info = replace(
            self.info,
            created=self.info.created or datetime.now(UTC).isoformat(timespec="seconds"),
            versions=self.info.versions or current_versions(),
            weights_sha256=file_sha256(weights),
        )
        write_json(folder / CONFIG_FILE, self.info.to_json())
        write_text(folder / CARD_FILE, model_card(self.info, name))

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self:
        """Load what `save_pretrained` wrote, strictly, in evaluation mode; `load_adapter` finds the kind by itself.

        Raises:
            InputError: the folder holds no adapter, one of another kind, or weights that are not the ones saved.
        """
        folder = Path(folder)
        info = read_info(folder)
        if info.kind != cls.kind:
            raise InputError(f"{folder}: holds a {info.kind!r} adapter, not {cls.kind!r}")
        tensors = read_tensors(folder / WEIGHTS_FILE)
        if file_sha256(folder / WEIGHTS_FILE) != info.weights_sha256:
            raise InputError(
                f"{folder / WEIGHTS_FILE}: not the weights that were saved (their sha256 differs); fetch or train again"
            )
        config: Any = config_from_dict(cls.Config, info.config, str(folder / CONFIG_FILE))
        adapter = cls.build(config, dim=info.dim, label_names=info.label_names)
        adapter.load_weights(tensors, str(folder / WEIGHTS_FILE))
        adapter.info = info
        return adapter.eval()

    def load_weights(self, tensors: Mapping[str, Tensor], where: str) -> None:
        """Take over `tensors`, which must be exactly the head's own by name and shape.

        Raises:
            InputError: tensors are missing, unknown or of another shape; they are named.
        """
        own = self.state_dict()
        wrong = [f"lacks {name!r}" for name in own.keys() - tensors.keys()]
        wrong += [f"has an unknown {name!r}" for name in tensors.keys() - own.keys()]
        wrong += [
            f"holds {name!r} of shape {tuple(tensors[name].shape)}, not {tuple(own[name].shape)}"
            for name in own.keys() & tensors.keys()
            if own[name].shape != tensors[name].shape
        ]
        if wrong:
            raise InputError(f"{where}: {'; '.join(sorted(wrong))}: not the weights of this adapter")
        self.load_state_dict(dict(tensors), strict=True)

    def push_to_hub(self, repo_id: str, *, private: bool = False, message: str = "Upload adapter") -> str:
        """Upload the saved form to `repo_id` (`org/name`) on the Hub and return its URL.

        A path of this machine in `encoder_source` is left out.

        Raises:
            InputError: no token, no network, or the Hub refuses.
        """
        import tempfile

        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import HFValidationError, HTTPError

        if offline():
            raise InputError("PRISMHUB_OFFLINE or HF_HUB_OFFLINE is set: nothing can be pushed to the Hub")
        if get_token() is None:
            raise InputError("no Hugging Face token: run `hf auth login` or set HF_TOKEN, then push again")
        info, shared = self.info, self.info.encoder_source
        if Path(shared).expanduser().exists() or Path(shared).is_absolute():
            self.info = replace(info, encoder_source="")
        try:
            with tempfile.TemporaryDirectory() as folder:
                self.write_files(Path(folder), repo_id)
                url = str(HfApi().create_repo(repo_id, private=private, exist_ok=True))
                HfApi().upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
        except (HFValidationError, HTTPError, OSError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"cannot push to {repo_id!r}: {reason}") from error
        finally:
            self.info = info
        return url

    def training_step(self, batch: Batch, batch_index: int = 0) -> Tensor:
        """`loss`, under the name Lightning's Trainer calls."""
        return self.loss(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW at its defaults, for Lightning's Trainer; `adapters.train` brings its own schedule."""
        return torch.optim.AdamW(self.parameters())

    def __repr__(self) -> str:
        size = sum(parameter.numel() for parameter in self.parameters())
        return (
            f"{type(self).__name__}(kind={self.kind!r}, encoder={self.info.encoder!r}, dim={self.dim}, "
            f"classes={len(self.label_names)}, parameters={size:,})"
        )


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
