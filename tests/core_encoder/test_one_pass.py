"""One pass over the pixels serves every kind of feature, and a coarser kind comes from a cached finer one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.features import ClipFeatures
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import Encoder
from core_encoder.errors import InputError
from core_encoder.extraction import extract, spec_for
from core_encoder.features.failures import Failure
from core_encoder.features.feature_source import FeatureSource
from core_encoder.features.feature_spec import ClipKey, FeatureSpec
from core_encoder.features.feature_store import FeatureStore
from core_encoder.video.decoders import read_clip
from core_encoder.video.video_files import video_digest

KINDS: tuple[Any, ...] = ("tokens", "frames", "clip", "embedding")
PLANS = [ClipPlan(8), ClipPlan(8, views=2), ClipPlan(8, "dense", stride=1, window_stride=2)]


def all_values(root: Path, spec: FeatureSpec) -> dict[Any, torch.Tensor]:
    store = FeatureStore(root, spec)
    return {key: store.read(key).values for key in store}


@pytest.mark.parametrize("plan", PLANS, ids=["one view", "two views", "windows"])
def test_one_pass_gives_what_passes_apart_give(
    nano: Encoder, videos: list[Clip], tmp_path: Path, plan: ClipPlan
) -> None:
    clips = [*videos[:2], Clip(videos[2].path, 0.25, 0.5)]  # the last one is padded
    specs = [spec_for(nano, plan, kind=kind, dtype="fp32") for kind in KINDS]
    specs.append(spec_for(nano, plan, kind="frames", layers=(1, 3)))
    together = extract(nano, clips, specs, tmp_path / "together", batch_size=3)
    assert (together.n_encoded, together.n_cached, together.n_derived) == (3, 0, 0)
    apart = [extract(nano, clips, spec, tmp_path / spec.kind / str(spec.layers), batch_size=3) for spec in specs]
    most = max(report.frames_decoded for report in apart)
    assert together.frames_decoded == most, "no frame is decoded again for another kind"
    for spec in specs:
        one, other = all_values(tmp_path / "together", spec), all_values(tmp_path / spec.kind / str(spec.layers), spec)
        assert one.keys() == other.keys() and len(one) >= 3
        for key, values in one.items():
            torch.testing.assert_close(values, other[key], atol=1e-4, rtol=1e-4)


def test_the_embedding_is_the_encoders_own(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    from core_encoder.preprocessing import to_video_tensor

    spec = spec_for(nano, ClipPlan(8), kind="embedding", dtype="fp32")
    extract(nano, videos[:1], spec, tmp_path)
    frames = read_clip(videos[0], spec.plan, spec.preprocessing)
    [values] = all_values(tmp_path, spec).values()
    torch.testing.assert_close(values, nano.embed_video(to_video_tensor(frames)[None])[0], atol=1e-4, rtol=0)
    with pytest.raises(InputError, match="layers mean nothing"):
        spec_for(nano, kind="embedding", layers=(1,))


def test_a_second_kind_decodes_nothing(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    """What `map_classifier` has encoded serves `linear`: the heart of encoding once."""
    clips = [*videos[:3], Clip(videos[3].path, 0.25, 0.5)]
    tokens, clip = (spec_for(nano, ClipPlan(8, views=2), kind=kind) for kind in ("tokens", "clip"))
    assert extract(nano, clips, tokens, tmp_path).frames_decoded > 0
    second = extract(nano, clips, clip, tmp_path)
    assert second.frames_decoded == 0
    assert (second.n_derived, second.n_encoded, second.n_cached) == (4, 0, 0)
    extract(nano, clips, clip, tmp_path / "apart")
    derived, direct = all_values(tmp_path, clip), all_values(tmp_path / "apart", clip)
    assert derived.keys() == direct.keys()
    for key, values in derived.items():
        torch.testing.assert_close(values, direct[key], atol=2e-3, rtol=2e-3)
    third = extract(nano, clips, clip, tmp_path)
    assert (third.n_cached, third.n_derived, third.frames_decoded) == (4, 0, 0)


def test_features_are_derived_without_being_stored(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    tokens, frames = (spec_for(nano, ClipPlan(8), kind=kind) for kind in ("tokens", "frames"))
    extract(nano, videos[:1], tokens, tmp_path)
    source = FeatureSource(None, frames, tmp_path)  # without an encoder: nothing could be computed
    [record] = source[videos[0]]
    assert record.values.shape == (8, nano.dim) and record.values.dtype == torch.float16 and len(source.store) == 0


@pytest.mark.parametrize(
    ("cached", "wanted", "derived"), [("int8", "fp16", 0), ("fp16", "int8", 2), ("fp32", "bf16", 2)]
)
def test_only_from_what_is_as_precise(
    nano: Encoder, videos: list[Clip], tmp_path: Path, cached: Any, wanted: Any, derived: int
) -> None:
    extract(nano, videos[:2], spec_for(nano, ClipPlan(8), dtype=cached), tmp_path)
    report = extract(nano, videos[:2], spec_for(nano, ClipPlan(8), kind="clip", dtype=wanted), tmp_path)
    assert (report.n_derived, report.n_encoded) == (derived, 2 - derived)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.sets(st.sampled_from(KINDS)), wanted=st.sets(st.sampled_from(KINDS), min_size=1))
def test_whatever_is_cached_only_the_rest_is_encoded(
    nano: Encoder,
    videos: list[Clip],
    tmp_path_factory: pytest.TempPathFactory,
    before: set[Any],
    wanted: set[Any],
) -> None:
    root = tmp_path_factory.mktemp("one pass")
    specs = {kind: spec_for(nano, ClipPlan(8), kind=kind, dtype="fp32") for kind in KINDS}
    for kind in sorted(before):
        extract(nano, videos[:1], specs[kind], root)
    report = extract(nano, videos[:1], [specs[kind] for kind in sorted(wanted)], root)
    finer = {"clip": {"tokens", "frames"}, "frames": {"tokens"}}
    had = [kind in before or bool(finer.get(kind, set()) & before) for kind in wanted]
    assert (report.frames_decoded == 0) == all(had)
    for kind in wanted:
        assert len(FeatureStore(root, specs[kind])) == 1


def test_a_broken_video_is_listed_once_for_all_kinds(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(Path(videos[0].path).read_bytes()[:300])
    specs = [spec_for(nano, ClipPlan(8), kind=kind) for kind in ("tokens", "clip", "embedding")]
    report = extract(nano, [videos[0], Clip(str(broken))], specs, tmp_path / "store")
    assert [Path(failure.path).name for failure in report.failures] == ["broken.mp4"] and report.n_encoded == 1


def test_specs_of_two_plans_are_no_one_pass(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    specs = [spec_for(nano, ClipPlan(8)), spec_for(nano, ClipPlan(4), kind="clip")]
    with pytest.raises(InputError, match="one pass share encoder, clip plan"):
        extract(nano, videos[:1], specs, tmp_path)


def test_windows_are_counted_from_the_plan(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    """A data set over dense clips needs no cache, and is the same with one."""
    spec = spec_for(nano, ClipPlan(8, "dense", stride=1, window_stride=4), kind="clip", dtype="fp32")
    clips = [videos[0], Clip(videos[1].path, 0.0, 0.4)]
    fresh = ClipFeatures(FeatureSource(nano, spec, tmp_path / "none"), clips, [0, 1], ["a", "b"])
    extract(nano, clips, spec, tmp_path / "cache")
    cached = ClipFeatures(FeatureSource(None, spec, tmp_path / "cache"), clips, [0, 1], ["a", "b"])
    assert fresh.ids == cached.ids == ("a",) * 5 + ("b",)
    for index in range(len(fresh)):
        torch.testing.assert_close(fresh[index].features, cached[index].features, atol=1e-5, rtol=1e-4)
    whole = ClipFeatures(FeatureSource(None, spec, tmp_path / "cache"), clips, [0, 1], ["a", "b"], whole_clips=True)
    example = whole[0]
    assert example.features.shape == (5, nano.dim) and example.times is not None
    assert example.times.span[:, 0].tolist() == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_a_long_video_goes_on_where_it_was_stopped(nano: Encoder, tmp_path: Path, stop: type[BaseException]) -> None:
    from tests.videos import moving_square, write_video

    clip = Clip(str(write_video(tmp_path / "long.mp4", moving_square(400, 48, 64))))
    spec = spec_for(nano, ClipPlan(8, "dense", stride=1, window_stride=1), kind="clip")

    def interrupt(now: Any) -> None:
        if now.views_encoded > 150:
            raise stop

    import core_encoder.tally as module

    before, module._PROGRESS_S = module._PROGRESS_S, 0.0
    try:
        with pytest.raises(stop):
            extract(nano, [clip], spec, tmp_path / "store", batch_size=4, progress=interrupt)
    finally:
        module._PROGRESS_S = before
    kept = len(FeatureStore(tmp_path / "store", spec))
    assert kept >= 150
    again = extract(nano, [clip], spec, tmp_path / "store", batch_size=4)
    group = 4 * 8
    assert 393 - kept <= again.views_encoded <= 393 - kept + 2 * group, "little is encoded twice"
    assert again.frames_decoded <= 400 - kept + 2 * group, "of what is stored no more frames are decoded than that"
    extract(nano, [clip], spec, tmp_path / "whole", batch_size=4)
    key = ClipKey.of(clip, video_digest(clip.path))
    stopped, whole = (FeatureStore(tmp_path / name, spec) for name in ("store", "whole"))
    assert len(stopped.views(key)) == len(whole.views(key)) == 393
    for view in whole.views(key):
        assert torch.equal(stopped.read(view).values, whole.read(view).values), "as if it had never been stopped"
        assert stopped.read(view).info == whole.read(view).info


def test_the_grid_is_in_the_spec_and_not_in_the_address(nano: Encoder) -> None:
    spec = spec_for(nano)
    assert spec.grid == (6, 6) and FeatureSpec.from_dict(spec.describe()) == spec
    assert replace(spec, grid=None).folder_name == spec.folder_name


def test_what_cannot_be_derived_is_encoded_or_listed(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    """A mean beyond the range of fp16: the other clips are derived, and this one is not stored as infinite."""
    exact, rough = spec_for(nano, ClipPlan(8), dtype="fp32"), spec_for(nano, ClipPlan(8), kind="clip")
    extract(nano, videos[:3], exact, tmp_path / "given")
    given = FeatureStore(tmp_path / "given", exact)
    [key] = given.views(ClipKey.of(videos[1], video_digest(videos[1].path)))
    with FeatureStore(tmp_path, exact).writer() as writer:
        for each in given:
            record = given.read(each)
            writer.add(each, torch.full_like(record.values, 1e6) if each == key else record.values, record.info)
    [failure] = FeatureSource(None, rough, tmp_path).records([videos[1]])
    assert isinstance(failure, Failure) and "beyond the range of fp16; take bf16 or fp32" in failure.reason
    report = extract(nano, videos[:3], rough, tmp_path)
    assert (report.n_derived, report.n_encoded, report.failures) == (2, 1, ())
    assert all(values.isfinite().all() for values in all_values(tmp_path, rough).values())
