"""The feature store: what goes in comes out, whole or not at all, whoever writes beside it."""

from __future__ import annotations

import copy
import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import ClipKey, FeatureKey, FeatureSpec, RecordInfo
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.shard import UnstorableFeatures
from core_encoder.features.store_upkeep import list_stores, prune_store, prune_stores, verify_store
from core_encoder.preprocessing import Preprocessing
from tests import ROOT

SPEC = FeatureSpec(
    encoder="nano",
    fingerprint="f" * 64,
    plan=ClipPlan(4),
    preprocessing=Preprocessing(32),
    decoder="pyav-18.1.0",
    dtype="fp32",
)
TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def clip_key(number: int) -> ClipKey:
    return ClipKey(f"{number:064x}", 0, -1)


def info(num_views: int = 1, num_real: int = 4) -> RecordInfo:
    return RecordInfo(num_views, num_real, 0.5, 1.25, (0.5, 0.75, 1.0, 1.125), "ein Vidéo.mp4")


def values(seed: int, shape: tuple[int, ...] = (4, 6, 8)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filled(root: Path, numbers: range, spec: FeatureSpec = SPEC, shard_bytes: int = 1 << 20) -> FeatureStore:
    store = FeatureStore(root, spec)
    with store.writer(shard_bytes=shard_bytes) as writer:
        for number in numbers:
            writer.add(clip_key(number).view(0), values(number), info())
    return store


def flip_byte(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


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


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from(["fp32", "fp16", "bf16", "int8"]),
    kind=st.sampled_from(["tokens", "frames", "clip"]),
    layers=st.sampled_from([(), (3,), (0, 3, 5)]),
    views=st.lists(st.integers(1, 3), min_size=1, max_size=5),
    shard_records=st.integers(1, 4),
    num_writers=st.integers(1, 3),
    scale=st.sampled_from([1e-3, 1.0, 300.0]),
    seed=st.integers(0, 1000),
)
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    kind: str,
    layers: tuple[int, ...],
    views: list[int],
    shard_records: int,
    num_writers: int,
    scale: float,
    seed: int,
) -> None:
    root = tmp_path_factory.mktemp("store")
    spec = replace(SPEC, dtype=dtype, kind=kind, layers=layers)
    shape = spec.record_shape(num_patches=3, dim=5)
    given_values = {
        clip_key(clip).view(view): scale * values(seed + 10 * clip + view, shape)
        for clip, count in enumerate(views)
        for view in range(count)
    }
    given_infos = {key: info(views[int(key.digest, 16)], 1 + key.view) for key in given_values}
    stores = [FeatureStore(root, spec) for _ in range(num_writers)]
    one = next(iter(given_values.values())).numel() * 4
    writers = [store.writer(shard_bytes=one * shard_records // 2) for store in stores]
    for turn, key in enumerate(given_values):
        writers[turn % num_writers].add(key, given_values[key], given_infos[key])
    for writer in writers:
        writer.commit()

    for store in (FeatureStore(root, spec), stores[0]):
        store.refresh()
        assert store.keys() == sorted(given_values) and len(store) == len(given_values)
        assert store.clip_keys() == [clip_key(clip) for clip in range(len(views))]
        order = list(given_values)[::-1]
        batch = store.read_batch(order)
        assert batch.dtype == (torch.float32 if dtype == "int8" else TORCH[dtype])
        as_float = store.read_batch(order, torch.float32)
        for row, key in enumerate(order):
            expected, record = given_values[key], store.read(key)
            assert torch.equal(record.values, batch[row])
            assert (record.key, record.info) == (key, given_infos[key])
            assert record.frame_mask.tolist() == [t <= key.view for t in range(4)]
            if dtype == "int8":
                step = expected.abs().amax(-1, keepdim=True) / 127
                assert ((batch[row] - expected).abs() <= step * 0.501).all()
            else:
                assert torch.equal(batch[row], expected.to(TORCH[dtype]))
            assert torch.equal(as_float[row], batch[row].float())
    assert verify_store(stores[0].folder).ok


def test_reading_into_a_buffer_and_unknown_keys(tmp_path: Path) -> None:
    store = filled(tmp_path, range(3))
    buffer = torch.zeros(5, 4, 6, 8, dtype=torch.bfloat16)
    out = store.read_batch([clip_key(2).view(0), clip_key(0).view(0)], out=buffer[1:3])
    assert out.data_ptr() == buffer[1].data_ptr()
    assert torch.equal(buffer[1], values(2).bfloat16()) and torch.equal(buffer[2], values(0).bfloat16())
    assert not buffer[0].any() and not buffer[3:].any()
    with pytest.raises(KeyError, match="is not in"):
        store.read(clip_key(9).view(0))
    record = store.read(clip_key(1).view(0))
    record.values.zero_()  # a record is a copy
    assert torch.equal(store.read(clip_key(1).view(0)).values, values(1))


def test_values_that_are_not_contiguous_or_require_gradients(tmp_path: Path) -> None:
    for dtype in ("fp32", "int8"):
        store = FeatureStore(tmp_path, replace(SPEC, dtype=dtype))
        odd = values(0, (8, 6, 4)).permute(2, 1, 0).requires_grad_()
        with store.writer() as writer:
            writer.add(clip_key(0).view(0), odd, info())
        assert torch.allclose(store.read(clip_key(0).view(0)).values, odd.detach(), atol=0.02)


def test_the_library_opens_a_shard(tmp_path: Path) -> None:
    for dtype, name in (("fp16", torch.float16), ("int8", torch.int8)):
        store = filled(tmp_path, range(3), replace(SPEC, dtype=dtype))
        with safe_open(str(store.shards[0].path), "pt") as file:
            assert bytes(file.get_tensor("digest")[1].tolist()).hex() == clip_key(1).digest
            stored = file.get_tensor("values")[1]
            assert stored.dtype == name and stored.shape == (4, 6, 8)
            assert file.metadata()["spec"] == store.spec.folder_name
            if dtype == "int8":
                stored = stored * file.get_tensor("scales")[1]
        assert torch.equal(stored.to(store.spec.float_dtype), store.read(clip_key(1).view(0)).values)


def test_a_clip_counts_as_cached_when_all_its_views_are(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPEC)
    with store.writer() as writer:
        for view in (0, 2):
            writer.add(clip_key(0).view(view), values(view), info(num_views=3))
    assert len(store) == 2 and store.views(clip_key(0)) == [] and store.clip_keys() == []
    assert verify_store(store.folder).incomplete_clips == 1
    with store.writer() as writer:
        writer.add(clip_key(0).view(1), values(1), info(num_views=3))
    assert store.views(clip_key(0)) == [clip_key(0).view(view) for view in range(3)]
    assert FeatureStore(tmp_path, SPEC).clip_keys() == [clip_key(0)]


def test_opening_creates_nothing(tmp_path: Path) -> None:
    assert len(FeatureStore(tmp_path / "none", SPEC)) == 0
    assert not (tmp_path / "none").exists() and list_stores(tmp_path / "none") == []
    with pytest.raises(InputError, match="no such file"):
        FeatureStore.open(tmp_path)


def test_records_are_readable_from_their_commit_on(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPEC)
    other = FeatureStore(tmp_path, SPEC)
    writer = store.writer(commit_every_s=1000)
    writer.add(clip_key(0).view(0), values(0), info())
    other.refresh()
    assert clip_key(0).view(0) not in store and len(other) == 0
    writer.commit()
    writer.commit()
    other.refresh()
    assert clip_key(0).view(0) in store and clip_key(0).view(0) in other and len(other.shards) == 1
    hasty = store.writer(commit_every_s=0)
    hasty.add(clip_key(1).view(0), values(1), info())
    assert clip_key(1).view(0) in store


def test_an_error_and_ctrl_c_commit_what_was_added(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPEC)
    for number, kind in enumerate((ZeroDivisionError, KeyboardInterrupt)):
        with pytest.raises(kind), store.writer() as writer:
            writer.add(clip_key(number).view(0), values(number), info())
            raise kind
    assert len(FeatureStore(tmp_path, SPEC)) == 2


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32", "int8"])
def test_features_that_are_not_numbers_are_refused(tmp_path: Path, dtype: str) -> None:
    store = FeatureStore(tmp_path, replace(SPEC, dtype=dtype))
    with store.writer() as writer:
        for bad in (float("nan"), float("inf")):
            with pytest.raises(UnstorableFeatures, match="NaN or infinite"):
                writer.add(clip_key(0).view(0), torch.full((4, 6, 8), bad), info())
        if dtype == "fp16":
            with pytest.raises(UnstorableFeatures, match="beyond the range of fp16; take bf16"):
                writer.add(clip_key(0).view(0), torch.full((4, 6, 8), 7e4), info())
        else:
            writer.add(clip_key(1).view(0), torch.full((4, 6, 8), 7e4), info())
    assert clip_key(0).view(0) not in store


def cut(length: Callable[[int], int]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        os.truncate(path, length(path.stat().st_size))

    return spoil


SPOILS: dict[str, Callable[[Path], None]] = {
    "empty": cut(lambda size: 0),
    "in the length": cut(lambda size: 5),
    "in the header": cut(lambda size: 100),
    "in the values": cut(lambda size: size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "garbage": lambda path: path.write_bytes(os.urandom(1000)),
    "not JSON": lambda path: flip_byte(path, 8),
    "other JSON": lambda path: path.write_bytes((2).to_bytes(8, "little") + b"[]"),
    "no metadata": lambda path: path.write_bytes((2).to_bytes(8, "little") + b"{}"),
}


@pytest.mark.parametrize("name", SPOILS)
def test_a_broken_shard_is_named_left_out_and_made_anew(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path, range(2))
    filled(tmp_path, range(2, 4))
    path = next(shard.path for shard in FeatureStore(tmp_path, SPEC).shards if clip_key(2).view(0) in shard.keys)
    SPOILS[name](path)
    with caplog.at_level(logging.WARNING):
        store = FeatureStore(tmp_path, SPEC)
    assert str(path) in caplog.text and list(store.broken) == [path]
    assert store.keys() == [clip_key(0).view(0), clip_key(1).view(0)]
    report = verify_store(store.folder)
    assert not report.ok and list(report.broken_shards) == [path]

    with store.writer() as writer:  # what the next extraction does
        for number in (2, 3):
            writer.add(clip_key(number).view(0), values(number), info())
    assert torch.equal(FeatureStore(tmp_path, SPEC).read(clip_key(2).view(0)).values, values(2))
    assert prune_store(store.folder).removed == (path,)
    assert verify_store(store.folder).ok


def test_a_shard_of_another_store_is_left_out(tmp_path: Path) -> None:
    theirs = filled(tmp_path, range(2), replace(SPEC, fingerprint="0" * 64))
    ours = filled(tmp_path, range(1))
    shutil.copy(theirs.shards[0].path, ours.folder)
    assert len(FeatureStore(tmp_path, SPEC)) == 1
    shutil.copy(theirs.folder / "spec.json", ours.folder)
    with pytest.raises(InputError, match="describes other features"):
        FeatureStore(tmp_path, SPEC)


def test_verify_finds_flipped_bytes(tmp_path: Path) -> None:
    store = filled(tmp_path, range(3), replace(SPEC, dtype="int8"))
    path, whole = store.shards[0].path, store.shards[0].path.read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    start = len(whole) - max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    begins = {name: start + entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"}
    last_value = start + header["values"]["data_offsets"][1] - 1
    for at, record in ((last_value, 2), (begins["scales"], 0), (begins["num_real"] + 4, 1), (begins["times_s"], 0)):
        flip_byte(path, at)
        report = verify_store(store.folder)
        assert report.corrupt_records == [(path, clip_key(record).view(0))] and not report.ok
        path.write_bytes(whole)
    assert verify_store(store.folder).ok
    flip_byte(path, begins["num_real"])
    assert verify_store(store.folder).corrupt_records == [(path, clip_key(0).view(0))]
    assert prune_store(store.folder).removed == ()
    assert prune_store(store.folder, check_bytes=True).removed == (path,)


def test_the_folder_can_be_copied_elsewhere(tmp_path: Path) -> None:
    store = filled(tmp_path / "here", range(3))
    text = b"".join(path.read_bytes() for path in store.folder.iterdir())
    assert str(tmp_path).encode() not in text
    shutil.copytree(tmp_path / "here", tmp_path / "dort drüben")
    shutil.rmtree(tmp_path / "here")
    copied = FeatureStore(tmp_path / "dort drüben", SPEC)
    assert torch.equal(copied.read(clip_key(2).view(0)).values, values(2))
    assert FeatureStore.open(copied.folder).spec == SPEC
    renamed = copied.folder.rename(tmp_path / "renamed")
    with pytest.raises(InputError, match=SPEC.folder_name):
        FeatureStore.open(renamed)


def test_shards_may_come_and_go_under_a_reader(tmp_path: Path) -> None:
    filled(tmp_path, range(3))
    reader = FeatureStore(tmp_path, SPEC)
    first = reader.shards[0].path
    filled(tmp_path, range(5))  # the same keys again, and two more
    assert len(reader) == 3
    first.unlink()
    assert torch.equal(reader.read(clip_key(1).view(0)).values, values(1))  # mapped still, or from the other shard
    reader.refresh()
    assert len(reader) == 5 and torch.equal(reader.read(clip_key(4).view(0)).values, values(4))
    for path in reader.folder.glob("shard-*"):
        path.unlink()
    reader.refresh()
    assert len(reader) == 0 and reader.clip_keys() == []


def test_a_copy_of_a_store_reads_for_itself(tmp_path: Path) -> None:
    store = filled(tmp_path, range(3))
    store.read(clip_key(0).view(0))
    twin = copy.deepcopy(store)  # the way to a worker process: no mapping may travel
    assert torch.equal(twin.read(clip_key(1).view(0)).values, values(1))
    assert all(not shard._mapped for shard in copy.deepcopy(store).shards)


def test_more_shards_than_open_files(tmp_path: Path) -> None:
    store = filled(tmp_path, range(100), shard_bytes=1)
    assert len(store.shards) == 100
    code = f"""
        import resource
        from core_encoder.features.feature_store import FeatureStore
        store = FeatureStore.open({str(store.folder)!r})
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
        print(store.read_batch(store.keys()).double().sum().item())
    """
    found = float(python(code))
    assert found == pytest.approx(sum(values(number).double().sum().item() for number in range(100)))


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout


@pytest.mark.slow
def test_processes_write_at_once(tmp_path: Path) -> None:
    code = f"""
        import sys
        from pathlib import Path
        from tests.core_encoder.features.test_feature_store import filled
        filled(Path({str(tmp_path)!r}), range(int(sys.argv[1]), int(sys.argv[1]) + 80), shard_bytes=4000)
    """
    starts = [0, 60]
    command = [sys.executable, "-c", textwrap.dedent(code)]
    running = [subprocess.Popen([*command, str(start)], cwd=ROOT) for start in starts]
    assert [process.wait() for process in running] == [0, 0]
    store = FeatureStore(tmp_path, SPEC)
    assert [int(key.digest, 16) for key in store] == list(range(140))
    assert all(torch.equal(store.read(clip_key(n).view(0)).values, values(n)) for n in range(140))
    before = sum(len(shard.keys) for shard in store.shards)
    assert before == 160 and verify_store(store.folder).ok
    dry = prune_store(store.folder, dry_run=True)
    assert prune_store(store.folder).removed == dry.removed and dry.num_bytes > 0
    store = FeatureStore(tmp_path, SPEC)
    assert len(store) == 140 and sum(len(shard.keys) for shard in store.shards) < before


def test_disk_full_is_one_line_and_keeps_finished_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path, range(2))
    fsync = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("core_encoder.files.storage.os.fsync", full)
    with pytest.raises(InputError, match="disk is full") as caught, store.writer() as writer:
        writer.add(clip_key(5).view(0), values(5), info())
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("core_encoder.files.storage.os.fsync", fsync)
    assert sorted(path.name[:5] for path in store.folder.iterdir()) == ["shard", "spec."]
    assert FeatureStore(tmp_path, SPEC).keys() == [clip_key(0).view(0), clip_key(1).view(0)]


def test_a_file_size_limit_is_one_line_and_keeps_finished_shards(tmp_path: Path) -> None:
    code = f"""
        import resource, signal
        from pathlib import Path
        from core_encoder.errors import InputError
        from core_encoder.features.feature_store import FeatureStore
        from tests.core_encoder.features.test_feature_store import SPEC, clip_key, filled, info, values
        store = filled(Path({str(tmp_path)!r}), range(2))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            with store.writer() as writer:
                for number in range(100):
                    writer.add(clip_key(number).view(0), values(number), info())
        except InputError as error:
            print(error)
    """
    assert "may not grow this large" in python(code)
    store = FeatureStore(tmp_path, SPEC)
    assert len(store) == 2 and not store.broken and not list(store.folder.glob(".*"))


def test_a_shard_that_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    store = filled(tmp_path, range(2))
    (store.folder / "shard-0.safetensors").mkdir()
    with pytest.raises(InputError, match=r"shard-0\.safetensors: cannot be read"):
        FeatureStore(tmp_path, SPEC)


@pytest.mark.parametrize("content", ["[1]", "7", '{"version": 1, "plan": 3}', None])
def test_a_spec_that_makes_no_sense_is_one_line(tmp_path: Path, content: str | None) -> None:
    store = filled(tmp_path, range(2))
    file = store.folder / "spec.json"
    file.unlink()
    file.write_text(content) if content else file.mkdir()
    with pytest.raises(InputError) as caught:
        FeatureStore(tmp_path, SPEC)
    assert "\n" not in str(caught.value)
    assert list_stores(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_store_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    filled(tmp_path, range(2))

    def refuse(path: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(
        InputError, match=r"\.safetensors: cannot be written \(.*; allow it, or name another place"
    ) as caught:
        filled(tmp_path, range(2, 4))
    assert "\n" not in str(caught.value)
    assert len(FeatureStore(tmp_path, SPEC)) == 2 and not list(tmp_path.rglob("*.tmp"))


def test_listing_beside_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard's aside file is renamed between two looks at it."""
    store = filled(tmp_path, range(2))
    aside = store.folder / ".shard-1.safetensors.1-ab.tmp"
    aside.touch()
    real = Path.stat

    def last_look(path: Path, **how: bool) -> os.stat_result:
        status = real(path, **how)
        if path == aside:
            aside.unlink()
        return status

    monkeypatch.setattr(Path, "stat", last_look)
    assert [row.num_records for row in list_stores(tmp_path)] == [2]
    assert not aside.exists()


def test_list_and_prune_stores(tmp_path: Path) -> None:
    stores = [filled(tmp_path, range(n + 1), replace(SPEC, encoder=name, fingerprint=name * 32)) for n, name in
              enumerate(("aa", "bb", "cc"))]  # fmt: skip
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "spec.json").write_text("{}")
    rows = {row.spec.encoder: row for row in list_stores(tmp_path)}
    assert [rows[name].num_clips for name in ("aa", "bb", "cc")] == [1, 2, 3]
    assert rows["cc"].num_bytes == sum(path.stat().st_size for path in stores[2].folder.iterdir())

    orphan = stores[1].folder / ".shard-x.safetensors.999999999-abcdef01.tmp"
    young = stores[1].folder / ".shard-y.safetensors.999999999-abcdef01.tmp"
    alive = stores[1].folder / f".shard-z.safetensors.{os.getpid()}-abcdef01.tmp"
    for path in (orphan, young, alive):
        path.write_bytes(b"half")
    for path in (orphan, alive):
        os.utime(path, (path.stat().st_mtime - 100,) * 2)
    assert prune_stores(tmp_path).removed == (orphan,)

    with pytest.raises(InputError, match="'dd'"):
        prune_stores(tmp_path, encoder="dd")
    assert len(prune_stores(tmp_path, encoder="bb", dry_run=True).removed) == 4
    prune_stores(tmp_path, encoder="b" * 8)
    assert not stores[1].folder.exists() and stores[0].folder.exists()
    for path in stores[0].folder.iterdir():
        os.utime(path, (path.stat().st_mtime - 10 * 86400,) * 2)
    prune_stores(tmp_path, older_than_days=9)
    assert not stores[0].folder.exists() and len(FeatureStore.open(stores[2].folder)) == 3
    prune_stores(tmp_path, everything=True)
    assert list_stores(tmp_path) == []
