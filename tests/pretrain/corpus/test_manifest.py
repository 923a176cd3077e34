"""Manifests of corpora: what they say, what they refuse, and that they are written as they were read."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_encoder.errors import InputError
from pretrain.corpus.manifest import HubSpec, Manifest, SyntheticSpec, Tier
from tests.pretrain.corpora import write_manifest

FULL = """
tiers:
  - name: curated
    quality: clean
    weight: 2
    table: clips/clips.csv
    columns: {video: file_name}
    labels: [object, motion]
  - {name: web, quality: noisy, weight: 0.5, caption_source: ASR, shards: "web/*.tar"}
  - {name: pictures, quality: noisy, weight: 1, media: image, hub: {path: org/pictures, split: test, revision: abc}}
  - {name: local, quality: noisy, weight: 1, hub: {path: parquet, data_files: ["rows.parquet"]}}
  - {name: world, quality: clean, synthetic: {seed: 3, objects: seen, captions: noisy, length: 50}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("clips/clips.csv", "web/0.tar", "web/1.tar", "rows.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def load(folder: Path, text: str) -> Manifest:
    return Manifest.load(write_manifest(folder / "manifest.yaml", text))


def test_a_manifest_is_read(folder: Path) -> None:
    curated, web, pictures, local, world = load(folder, FULL).tiers
    assert (curated.name, curated.quality, curated.weight, curated.media) == ("curated", "clean", 2.0, "video")
    assert curated.table == folder / "clips/clips.csv"
    assert curated.columns == {"video": "file_name"}
    assert curated.labels == ("object", "motion")
    assert (curated.caption_source, web.caption_source, pictures.caption_source) == ("manual", "ASR", "web")
    assert web.shard_files() == (folder / "web/0.tar", folder / "web/1.tar")
    assert pictures.hub == HubSpec("org/pictures", split="test", revision="abc")
    assert local.hub is not None and local.hub.data_files == (str(folder / "rows.parquet"),)
    assert world.synthetic == SyntheticSpec(3, objects="seen", captions="noisy", length=50)
    assert [tier.source for tier in (curated, web, pictures, world)] == ["table", "shards", "hub", "synthetic"]


def test_it_is_written_as_it_was_read(folder: Path) -> None:
    manifest = load(folder, FULL)
    saved = manifest.save(folder / "copy.yaml")
    assert Manifest.load(saved) == manifest
    assert str(folder) not in saved.read_text()  # paths below the manifest are relative: the folder can be moved
    elsewhere = manifest.save(folder / "other" / "copy.yaml")
    assert Manifest.load(elsewhere) == manifest


def test_shards_may_be_listed(folder: Path) -> None:
    text = "tiers: [{name: web, quality: noisy, shards: [web/1.tar, 'web/*.tar']}]"
    assert load(folder, text).tiers[0].shard_files() == (folder / "web/0.tar", folder / "web/1.tar")


TABLE = "table: clips/clips.csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"tiers: [{{name: a, quality: clean, {TABLE}, wieght: 2}}]", r"tier 'a': unknown option 'wieght'.*'weight'"),
        ("tier: []", r"unknown key 'tier'; did you mean 'tiers'"),
        ("tiers: []", r"needs a list `tiers:`"),
        ("tiers: {a: 1}", r"needs a list `tiers:`"),
        ("tiers: [7]", r"tier 1 must be a mapping"),
        ("[1, 2]", r"not a manifest"),
        ("", r"not a manifest"),
        ("tiers: [", r"line \d+: not valid YAML"),
        (f"tiers: [{{quality: clean, {TABLE}}}]", r"tier 1: name is missing"),
        (f"tiers: [{{name: a, {TABLE}}}]", r"tier 'a': quality is missing"),
        (f"tiers: [{{name: 7, quality: clean, {TABLE}}}]", r"tier 7: option 'name' cannot be 7"),
        (f"tiers: [{{name: a/b, quality: clean, {TABLE}}}]", r"tier name 'a/b' cannot be used"),
        (f"tiers: [{{name: a, quality: good, {TABLE}}}]", r"option 'quality' cannot be 'good'.*'clean' or 'noisy'"),
        (f"tiers: [{{name: a, quality: clean, {TABLE}, media: audio}}]", r"option 'media' cannot be 'audio'"),
        (f"tiers: [{{name: a, quality: clean, {TABLE}, weight: 0}}]", r"tier 'a': weight must be above 0, not 0"),
        (f"tiers: [{{name: a, quality: clean, {TABLE}, weight: -2}}]", r"tier 'a': weight must be above 0, not -2"),
        (f"tiers: [{{name: a, quality: clean, {TABLE}, weight: .inf}}]", r"option 'weight' cannot be inf"),
        (f"tiers: [{{name: a, quality: clean, {TABLE}, weight: much}}]", r"option 'weight' cannot be 'much'"),
        (f"tiers: [{{name: a, quality: clean, {TABLE}, columns: {{vidoe: x}}}}]", r"role 'vidoe'.*'video'"),
        (f"tiers: [{{name: a, quality: clean, {TABLE}, weight: 2020-13-45}}]", r"not valid YAML \(month must be"),
        (f"tiers: [{{name: a, quality: clean, {TABLE}, weight: 1, weight: 2}}]", r"line 1: .*'weight' is given twice"),
        ("tiers: " + "[" * 3000, r"not valid YAML"),
        (f"tiers: [{{name: a, quality: clean, table: {'x' * 5000}.csv}}]", r"tier 'a': table .*x.csv: no such file"),
        (f"tiers: [{{name: a, quality: clean, shards: {'x' * 5000}.tar}}]", r"tier 'a': shards .*x.tar: no such file"),
        ("tiers: [{name: a, quality: clean}]", r"tier 'a': needs one source of table, shards.*none"),
        (f"tiers: [{{name: a, quality: clean, {TABLE}, synthetic: {{}}}}]", r"it has table and synthetic"),
        ("tiers: [{name: a, quality: clean, table: nowhere.csv}]", r"tier 'a': table .*nowhere.csv: no such file"),
        ("tiers: [{name: a, quality: clean, shards: 'no/*.tar'}]", r"tier 'a': shards .*no/\*.tar: no such file"),
        ("tiers: [{name: a, quality: clean, hub: org/name}]", r"tier 'a': hub must be a mapping"),
        ("tiers: [{name: a, quality: clean, hub: {}}]", r"tier 'a': hub: path is missing"),
        ("tiers: [{name: a, quality: clean, hub: {path: a/b, slpit: x}}]", r"hub: unknown option 'slpit'.*'split'"),
        ("tiers: [{name: a, quality: clean, hub: {path: json, data_files: [x.json]}}]", r"x.json: no such file"),
        ("tiers: [{name: a, quality: clean, synthetic: {objects: some}}]", r"synthetic: option 'objects'"),
        ("tiers: [{name: a, quality: clean, synthetic: {length: 0}}]", r"synthetic: length must be 1 or more"),
        ("tiers: [{name: a, quality: clean, synthetic: {seed: -1}}]", r"synthetic: seed must be 0 or more"),
        (
            f"tiers: [{{name: a, quality: clean, {TABLE}}}, {{name: a, quality: noisy, {TABLE}}}]",
            r"two tiers are called 'a'",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(folder, text)
    assert "\n" not in str(caught.value)
    assert str(folder / "manifest.yaml") in str(caught.value)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.yaml: no such manifest"):
        Manifest.load(tmp_path / "none.yaml")


def test_a_tier_can_be_built_in_code() -> None:
    tier = Tier("world", "clean", synthetic=SyntheticSpec())
    assert tier.weight == 1.0 and tier.caption_source == "manual"
    with pytest.raises(InputError, match="at least one tier"):
        Manifest(())
