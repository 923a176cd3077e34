"""What a feature is, and its address."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import ClipKey, FeatureKey, FeatureSpec
from core_encoder.preprocessing import Preprocessing
from tests.core_encoder.features.stores import SPEC


def test_folder_name_follows_everything_but_the_encoders_name() -> None:
    others = [
        replace(SPEC, fingerprint="e" * 64),
        replace(SPEC, plan=ClipPlan(4, views=2)),
        replace(SPEC, plan=ClipPlan(4, "stride", stride=2)),
        replace(SPEC, preprocessing=Preprocessing(32, "center_crop")),
        replace(SPEC, preprocessing=Preprocessing(32, interpolation="bilinear")),
        replace(SPEC, decoder="decord-0.6.0"),
        replace(SPEC, kind="frames"),
        replace(SPEC, layers=(1,)),
        replace(SPEC, layers=(1, 2)),
        replace(SPEC, layers=(2, 1)),
        replace(SPEC, dtype="fp16"),
        replace(SPEC, precision="bf16"),
    ]
    assert len({spec.folder_name for spec in [SPEC, *others]}) == len(others) + 1
    assert replace(SPEC, encoder="another/name").folder_name == SPEC.folder_name
    for spec in others:
        again = FeatureSpec.from_dict(json.loads(json.dumps(spec.describe())))
        assert again == spec and again.folder_name == spec.folder_name


def test_specs_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'tokens'"):
        replace(SPEC, kind="token")
    with pytest.raises(InputError, match="fp17"):
        replace(SPEC, dtype="fp17")
    with pytest.raises(InputError, match="twice"):
        replace(SPEC, layers=(1, 1))
    for broken in ({**SPEC.describe(), "version": 3}, {**SPEC.describe(), "colour": 1}, {"version": 1}):
        with pytest.raises(InputError, match="feature spec"):
            FeatureSpec.from_dict(broken)


def test_keys_are_whole_milliseconds_and_stand_for_clips() -> None:
    key = ClipKey.of(Clip("a.mp4", 1.0004, 2.5), "d" * 64)
    assert key == ("d" * 64, 1000, 2500)
    assert key.clip_in("b.mp4") == Clip("b.mp4", 1.0, 2.5)
    assert ClipKey.of(Clip("a.mp4"), "d" * 64).clip_in("b") == Clip("b")
    assert FeatureKey.parse(str(key.view(7))) == key.view(7)
    assert key.view(7).clip_key == key
