"""What every encoder keeps, ours and those of other packages, as checks that an encoder can be put through.

    from core_encoder.contract import check_encoder
    check_encoder(load_encoder("my-encoder"))

or in pytest, one test a check: `@pytest.mark.parametrize("check", CHECKS)` and `check(encoder)`. Each check raises
`ContractBroken`, an `AssertionError`, that says what was expected. They take a few forward passes of two time steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core_encoder.array_videos import array_videos
from core_encoder.clip_plan import ClipPlan
from core_encoder.encoder import Encoder
from core_encoder.errors import InputError
from core_encoder.extraction import spec_for
from core_encoder.features.array_source import encode_arrays
from core_encoder.features.failures import Failure

TOLERANCE = 1e-4
"""How far tokens may lie apart that should be equal, as a share of their largest magnitude."""
_TEXTS = ["a dog runs", "two cats, one of them asleep on a red sofa"]


class ContractBroken(AssertionError):
    """An encoder does not keep a part of the contract."""


def check_encoder(encoder: Encoder) -> None:
    """Put `encoder` through all checks.

    Raises:
        ContractBroken: what it does not keep, check by check.
    """
    broken = []
    for check in CHECKS:
        try:
            check(encoder)
        except ContractBroken as error:
            broken.append(f"{check.__name__}: {error}")
        except Exception as error:
            broken.append(f"{check.__name__}: {type(error).__name__}: {error}")
    if broken:
        raise ContractBroken(f"encoder {encoder.name!r} breaks its contract\n" + "\n".join(broken))


def says_its_sizes(encoder: Encoder) -> None:
    """Sizes are positive whole numbers that fit each other, and `describe()` is JSON."""
    for name in ("num_frames", "tubelet", "image_size", "patch_size", "dim", "num_layers"):
        value = getattr(encoder.model, name)
        _require(isinstance(value, int) and value > 0, f"{name} is a whole number above 0, not {value!r}")
    _require(encoder.num_frames % encoder.tubelet == 0, "num_frames is a multiple of tubelet")
    side = encoder.preprocessing.image_size
    _require(
        side == encoder.image_size or side % encoder.patch_size == 0,
        f"the preprocessing makes squares of {side}: as trained, or a multiple of patch_size {encoder.patch_size}",
    )
    _require(encoder.embedding_dim is None or encoder.embedding_dim > 0, "embedding_dim is None or above 0")
    _require(not encoder.has_text or encoder.embedding_dim is not None, "with a text tower it embeds videos too")
    _require(not encoder.embeds_tokens or encoder.embedding_dim is not None, "embeds_tokens needs an embedding_dim")
    about = encoder.model.describe()
    _require(json.loads(json.dumps(about)) == about, "describe() gives names and values that JSON gives back")


def is_frozen(encoder: Encoder) -> None:
    """No parameter learns, and nothing switches it to training."""
    _require(not any(one.requires_grad for one in encoder.parameters()), "no parameter requires a gradient")
    encoder.train()
    _require(not any(module.training for module in encoder.modules()), "every module stays in eval mode")


def has_a_fingerprint(encoder: Encoder) -> None:
    """It follows from weights, architecture and preprocessing alone."""
    now = encoder._fingerprint_now()
    _require(now == encoder._fingerprint_now() and len(now) == 64, "the fingerprint is always the same")
    weight = next((one for one in encoder.parameters() if one.is_floating_point() and one.numel()), None)
    _require(weight is not None, "it has weights")
    assert weight is not None
    with torch.no_grad():
        first = weight.view(-1)[0].clone()
        weight.view(-1)[0] += 1.0
        other = encoder._fingerprint_now()
        weight.view(-1)[0] = first
    _require(other != now, "other weights have another fingerprint")
    kept = encoder.preprocessing
    encoder.preprocessing = replace(kept, mean=(kept.mean[0] + 0.25, *kept.mean[1:]))
    other, encoder.preprocessing = encoder._fingerprint_now(), kept
    _require(other != now == encoder._fingerprint_now(), "another preprocessing has another fingerprint")


def gives_tokens(encoder: Encoder) -> None:
    """Tokens are (B, T / tubelet, N, D), finite, the same again, and those of one video are not those of another."""
    for steps in (1, 2):
        video = _video(encoder, steps)
        tokens = encoder(video).tokens
        wanted = (2, steps, _num_patches(encoder), encoder.dim)
        _require(
            tuple(tokens.shape) == wanted, f"tokens of {tuple(video.shape)} are {wanted}, not {tuple(tokens.shape)}"
        )
        _require(bool(tokens.isfinite().all()), "tokens are finite")
        _require(not tokens.requires_grad, "tokens carry no gradient")
        _require_close(encoder(video).tokens, tokens, "the same video gives the same tokens")
        _require_close(encoder(video[1:]).tokens, tokens[1:], "tokens do not depend on the other videos of a batch")
        _require(not torch.equal(tokens[0], tokens[1]), "another video gives other tokens")
    whole = encoder(_video(encoder, 2)).tokens
    changed = _video(encoder, 2)
    changed[:, -encoder.tubelet :] = 1 - changed[:, -encoder.tubelet :]
    _require(
        not torch.equal(encoder(changed).tokens[:, -1], whole[:, -1]), "the last frames show in the last time step"
    )


def never_sees_padding(encoder: Encoder) -> None:
    """What padding frames hold changes nothing for the time steps with a real frame, nor the embedding."""
    video, other = _video(encoder, 2), _video(encoder, 2)
    mask = torch.ones(video.shape[:2], dtype=torch.bool)
    mask[0, encoder.tubelet :] = False
    other[~mask] = 0.0
    embeds = encoder.embedding_dim is not None
    one, two = (encoder(one, mask, embed=embeds) for one in (video, other))
    real = mask.unflatten(1, (-1, encoder.tubelet)).any(2)
    _require(one.frame_mask is not None and torch.equal(one.frame_mask.cpu(), real), "frame_mask counts time steps")
    _require_close(two.tokens[real], one.tokens[real], "padding changes no token of a real time step")
    if embeds:
        _require_close(two.embedding, one.embedding, "padding changes no embedding")
    full = encoder(video, torch.ones_like(mask)).tokens
    _require_close(full, encoder(video).tokens, "a mask of real frames alone changes nothing")


def gives_layers(encoder: Encoder) -> None:
    """Raw outputs of layers have the shape of tokens; -1 is the last one; one that does not exist is refused."""
    video, last = _video(encoder, 2), encoder.num_layers - 1
    features = encoder(video, layers=(0, last, -1))
    _require(set(features.hidden) == {0, last, -1}, "hidden holds each layer under the number it was asked by")
    for layer, values in features.hidden.items():
        _require(values.shape == features.tokens.shape, f"layer {layer} has the shape of tokens, not {values.shape}")
    _require(torch.equal(features.hidden[last], features.hidden[-1]), f"layer -1 is layer {last}")
    _require_close(features.tokens, encoder(video).tokens, "asking for layers changes no token")
    with _refused(ValueError, f"layer {last + 1}, which does not exist"):
        encoder(video, layers=(last + 1,))


def has_halves_that_fit(encoder: Encoder) -> None:
    """Where it has two halves, one after the other gives the tokens, and the first sees one frame alone."""
    video = _video(encoder, 2)
    if not encoder.has_halves:
        with _refused(InputError, "encode_spatial without halves"):
            encoder.encode_spatial(video)
        return
    _require(encoder.tubelet == 1, "a half that sees one frame makes a time step of each: tubelet is 1")
    spatial = encoder.encode_spatial(video)
    _require_close(encoder.encode_temporal(spatial), encoder(video).tokens, "both halves together give the tokens")
    _require_close(encoder.encode_spatial(video[:, 1:]), spatial[:, 1:], "the spatial half sees one frame alone")


def gives_embeddings(encoder: Encoder) -> None:
    """Embeddings are unit vectors (B, E), by tokens too where they are made of them; else they are refused."""
    video = _video(encoder, 2)
    if encoder.embedding_dim is None:
        with _refused(InputError, "an embedding that the encoder does not make"):
            encoder.embed_video(video)
        return
    vectors = encoder.embed_video(video)
    _require(tuple(vectors.shape) == (2, encoder.embedding_dim), f"embeddings are (2, {encoder.embedding_dim})")
    _require_close(vectors.float().norm(dim=-1), torch.ones(2), "embeddings have unit length")
    if encoder.embeds_tokens:
        _require_close(encoder.embed_tokens(encoder(video).tokens), vectors, "embed_tokens gives the same embedding")
    else:
        with _refused(InputError, "embed_tokens, whose embedding is not of tokens"):
            encoder.embed_tokens(encoder(video).tokens)


def embeds_texts(encoder: Encoder) -> None:
    """Texts become unit vectors (n, E), each as if it were alone; without a text tower they are refused."""
    if not encoder.has_text or encoder.tokenizer is None:
        with _refused(InputError, "a text without a text tower and its tokenizer"):
            encoder.embed_text(_TEXTS)
        return
    vectors = encoder.embed_text(_TEXTS)
    _require(tuple(vectors.shape) == (2, encoder.embedding_dim), f"texts become (2, {encoder.embedding_dim})")
    _require_close(vectors.float().norm(dim=-1), torch.ones(2), "vectors of texts have unit length")
    _require_close(encoder.embed_text(_TEXTS[:1]), vectors[:1], "a text does not depend on the texts beside it")
    _require(tuple(encoder.embed_text([]).shape) == (0, encoder.embedding_dim), "no texts are no vectors")
    with _refused(ValueError, "one string in place of a list"):
        encoder.embed_text(_TEXTS[0])


def refuses_what_it_cannot_take(encoder: Encoder) -> None:
    """Frames that are no whole time step, sides that are no whole patch, and pixels that are no floats."""
    video = _video(encoder, 2)
    with _refused(ValueError, "uint8 pixels"):
        encoder(video.mul(255).to(torch.uint8))
    with _refused(ValueError, "a video of four axes"):
        encoder(video[0])
    if encoder.patch_size > 1:
        with _refused(ValueError, "a height that is no multiple of the patch size"):
            encoder(torch.rand(1, encoder.tubelet, 3, encoder.patch_size + 1, encoder.patch_size))
    if encoder.tubelet > 1:
        with _refused(ValueError, "frames that are no whole time step"):
            encoder(video[:, 1:])
        with _refused(InputError, "a clip plan of frames that are no whole time step"):
            spec_for(encoder, ClipPlan(encoder.tubelet + 1))
    with _refused(ValueError, "a mask of another length"):
        encoder(video, torch.ones(2, video.shape[1] + 1, dtype=torch.bool))


def fills_the_store(encoder: Encoder) -> None:
    """Features of every kind have the shape that their spec says, and times that rise, one a time step."""
    side, frames = encoder.preprocessing.image_size, 3 * encoder.tubelet
    pixels = np.random.default_rng(0).integers(0, 256, (2, frames, side, side + 2, 3), np.uint8)
    kinds = ["tokens", "frames", "clip", *(["embedding"] if encoder.embedding_dim is not None else [])]
    plan = ClipPlan(2 * encoder.tubelet, "dense", stride=1, window_stride=encoder.tubelet)
    specs = [spec_for(encoder, plan, kind=kind, dtype="fp32") for kind in kinds]  # type: ignore[arg-type]
    for found in encode_arrays(encoder, array_videos(list(pixels)), specs, 2):
        _require(not isinstance(found, Failure), f"features can be stored: {found}")
        for spec, records in zip(specs, found, strict=True):  # type: ignore[arg-type]
            _require(len(records) == 2, f"{frames} frames are two windows, not {len(records)}")
            width = encoder.embedding_dim if spec.kind == "embedding" else encoder.dim
            wanted = spec.record_shape(_num_patches(encoder), width or 0)
            for record in records:
                shape, times = tuple(record.values.shape), record.info.times_s
                _require(shape == wanted, f"{spec.kind} are {wanted}, not {shape}")
                _require(len(times) == spec.num_steps and list(times) == sorted(set(times)), f"times rise, not {times}")


CHECKS: tuple[Callable[[Encoder], None], ...] = (
    says_its_sizes,
    is_frozen,
    has_a_fingerprint,
    gives_tokens,
    never_sees_padding,
    gives_layers,
    has_halves_that_fit,
    gives_embeddings,
    embeds_texts,
    refuses_what_it_cannot_take,
    fills_the_store,
)


def _video(encoder: Encoder, steps: int) -> Tensor:
    """Two videos of so many time steps, always the same: (2, T, 3, H, W)."""
    side = encoder.preprocessing.image_size
    return torch.rand(2, steps * encoder.tubelet, 3, side, side, generator=torch.Generator().manual_seed(0))


def _num_patches(encoder: Encoder) -> int:
    return int((encoder.preprocessing.image_size // encoder.patch_size) ** 2)


def _require(kept: bool, what: str) -> None:
    if not kept:
        raise ContractBroken(what)


def _require_close(given: Any, wanted: Any, what: str) -> None:
    given, wanted = given.float().cpu(), wanted.float().cpu()
    _require(given.shape == wanted.shape, f"{what}: {tuple(given.shape)} instead of {tuple(wanted.shape)}")
    apart = float((given - wanted).abs().max()) if wanted.numel() else 0.0
    most = TOLERANCE * max(float(wanted.abs().max()) if wanted.numel() else 0.0, 1.0)
    _require(apart <= most, f"{what}; they lie {apart:.2g} apart")


@contextmanager
def _refused(error: type[Exception], what: str) -> Iterator[None]:
    try:
        yield
    except error as refusal:
        _require(bool(str(refusal)), f"the {error.__name__} for {what} says why")
        return
    except Exception as other:
        raise ContractBroken(f"{what} is refused by {error.__name__}, not {type(other).__name__}: {other}") from other
    raise ContractBroken(f"{what} is refused by {error.__name__}")
