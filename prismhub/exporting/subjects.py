"""What is exported: an encoder, a head on its features, or both as one; and what the folder says beside the graphs."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from adapters.kinds.lit_text import LitText
from adapters.kinds.temporal_localizer import CANDIDATES, TemporalLocalizer
from adapters.zero_shot import TEMPERATURE
from core_encoder.clip_plan import ClipPlan
from core_encoder.errors import InputError
from core_encoder.models.video_text import VideoTextModel
from core_encoder.preprocessing import Preprocessing
from prismhub.exporting.encoder_graphs import ReadText, encoder_graph, encoder_text_graph, text_graph
from prismhub.exporting.export_settings import not_exported
from prismhub.exporting.graphs import Graph
from prismhub.exporting.head_graphs import head_graph, scale_of, whole_graphs
from prismhub.exporting.texts_as_data import longest_text

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from core_encoder.encoder import Encoder
    from core_encoder.models.text_tower import Tokenizer

Answers = Literal["encoder", "texts", "classes", "boxes", "segments"]


@dataclass(frozen=True, eq=False)
class Subject:
    """Graphs that go into one folder, and what goes beside them.

    `preprocessing` is what happens to frames before the graph, None where features go in. `answers` says which script
    uses the graphs.
    """

    title: str
    about: dict[str, Any]
    graphs: tuple[Graph, ...]
    answers: Answers
    labels: tuple[str, ...] = ()
    preprocessing: dict[str, Any] | None = None
    tokenizer: Tokenizer | None = None
    scale: float = 1.0
    segments: dict[str, Any] = field(default_factory=dict)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The modules of the graphs."""
        return tuple(graph.module for graph in self.graphs)


def encoder_subject(encoder: Encoder) -> Subject:
    """An encoder with its text tower, where it has one."""
    graphs, tokenizer = [encoder_graph(encoder)], None
    if encoder.has_text:
        tokenizer = encoder.tokenizer
        vocabulary, longest = _texts_of(encoder)
        graphs.append(encoder_text_graph(encoder, vocabulary, longest_text(tokenizer, longest)))
    return Subject(
        f"encoder {encoder.name}",
        _about(encoder),
        tuple(graphs),
        "texts" if encoder.has_text else "encoder",
        preprocessing=_preprocessing(ClipPlan(encoder.num_frames), encoder.preprocessing, encoder.tubelet),
        tokenizer=tokenizer,
        scale=1 / TEMPERATURE,
    )


def adapter_subject(adapter: Adapter, name: str, encoder: Encoder | None) -> Subject:
    """An adapter called `name`: the head alone, or with its encoder.

    Raises:
        InputError: a kind that has no graph, or that does not record which features it reads.
    """
    spec, info = adapter.info.features, adapter.info
    answers: dict[str, Answers] = {
        "classes": "classes",
        "pairs": "texts",
        "boxes": "boxes",
        "segments": "segments",
    }
    if info.targets.kind not in answers:
        raise not_exported(info.kind)
    if spec is None:
        raise InputError(f"adapter {name!r} does not record which features it reads: train it on videos to export it")
    grid = adapter.context.known_grid
    if spec.kind == "tokens" and grid is None:
        raise InputError(f"adapter {name!r} does not record the grid of its tokens: train it again to export it")
    adapter = adapter.requires_grad_(False)
    if encoder is None:
        graphs = [head_graph(adapter, spec, adapter.dim, prod(grid or (1,)))]
    else:
        graphs = whole_graphs(adapter, encoder, spec)
    about = {
        "adapter": name,
        "kind": info.kind,
        "weights_sha256": info.weights_sha256,
        "multi_label": info.targets.multi_label,
    }
    about |= {"features": spec.describe()} | ({} if encoder is None else _about(encoder))
    segments: dict[str, Any] = {}
    tokenizer, scale = None, 1.0
    if isinstance(adapter, LitText):
        graphs.append(_text_graph_of(adapter))
        tokenizer, scale = adapter.tower.tokenizer, scale_of(adapter)
    if isinstance(adapter, TemporalLocalizer):
        if spec.kind not in ("clip", "embedding"):
            raise InputError(f"adapter {name!r} reads {spec.kind}: only localizers of one vector a window are exported")
        names = ("levels", "min_score", "max_segments", "nms_sigma", "threshold")
        segments = {one: getattr(adapter.config, one) for one in names}
        segments |= {"candidates": CANDIDATES, "stride_s": float(adapter.stride_s)}
    tubelet = spec.tubelet
    return Subject(
        f"adapter {name}",
        about,
        tuple(graphs),
        answers[info.targets.kind],
        adapter.answer_labels,
        None if encoder is None else _preprocessing(spec.plan, spec.preprocessing, tubelet),
        tokenizer,
        scale,
        segments,
    )


def _about(encoder: Encoder) -> dict[str, Any]:
    return {"encoder": encoder.name, "encoder_fingerprint": encoder.fingerprint}


def _preprocessing(plan: ClipPlan, preprocessing: Preprocessing, tubelet: int) -> dict[str, Any]:
    """How frames are chosen and made square; mean and deviation are in the graph, and stand here to be known."""
    about = {**plan.describe(), **preprocessing.describe()}
    return about | {"pixels": "uint8 RGB", "normalized_in_graph": True, "frame_mask": tubelet == 1}


def _texts_of(encoder: Encoder) -> tuple[int, int]:
    """How many tokens an encoder's text tower knows, and how many it reads at once."""
    model = encoder.model
    if isinstance(model, VideoTextModel) and model.config.text is not None:
        return model.config.text.vocab_size, model.config.text.max_length
    whole = getattr(model, "clip", None) or getattr(model, "siglip", None)
    if whole is None:  # of another package: token 1 exists, and a text of two tokens fits
        return 2, 2
    text = whole.config.text_config
    return int(text.vocab_size), int(text.max_position_embeddings)


def _text_graph_of(adapter: LitText) -> Graph:
    tower = adapter.tower.model.eval()
    known = next(one.num_embeddings for one in tower.modules() if isinstance(one, nn.Embedding))
    longest = longest_text(adapter.tower.tokenizer, known)
    return text_graph(ReadText(tower, adapter.text_projection), adapter.text_projection.out_features, known, longest)
