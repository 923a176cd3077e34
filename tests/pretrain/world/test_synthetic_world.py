"""The synthetic world: determinism, and motions that are really there and only in the order of the frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core_encoder.errors import InputError
from pretrain.world import synthetic_world
from pretrain.world.drawing import COLOURS, SHAPES, TEXTURES, Track, paint
from pretrain.world.motions import MOTIONS, OPPOSITE
from pretrain.world.synthetic_world import (
    DEMO_CLASSES,
    DEMO_CLIPS,
    SyntheticWorld,
    WorldClass,
    write_dataset,
    write_video,
)
from pretrain.world.world_objects import HELD_OUT_OBJECTS, OBJECTS, SEEN_OBJECTS, WorldObject, with_article

RED_BAR = WorldObject("red", "bar")
indices = st.integers(0, 10_000)


def bare_world(**fields: object) -> SyntheticWorld:
    """A world in which nothing but the object moves, in front of one flat colour."""
    bare = {"seed": 3, "distractors": 0, "neighbours": 0.0, "camera_jitter": 0.0, "background_contrast": 0.0}
    return SyntheticWorld(**bare | fields)


def object_mask(frames: np.ndarray) -> np.ndarray:
    """`(T, H, W)` bool: pixels that differ clearly from the flat background, the commonest colour of all."""
    colours, counts = np.unique(frames.reshape(-1, 3), axis=0, return_counts=True)
    return np.abs(frames.astype(int) - colours[counts.argmax()]).sum(-1) > 40


def circular_centroid(mask: np.ndarray) -> np.ndarray:
    """The centroid `(T, 2)` as (x, y) angles on a torus: the mean direction of the object's pixels."""
    angles = 2 * np.pi * np.arange(mask.shape[-1]) / mask.shape[-1]
    phasor = np.exp(1j * angles)
    return np.stack([np.angle((mask.sum(1) * phasor).sum(-1)), np.angle((mask.sum(2) * phasor).sum(-1))], axis=-1)


def displacement(mask: np.ndarray) -> np.ndarray:
    """The centroid's way `(2,)` over the clip in pictures, unwrapped around the torus."""
    path = np.unwrap(circular_centroid(mask), axis=0)
    return (path[-1] - path[0]) / (2 * np.pi)


def test_a_clip_depends_on_its_index_alone() -> None:
    world = SyntheticWorld(seed=7, size=32, num_frames=4)
    forwards = [world.clip(index).frames for index in range(5)]
    again = SyntheticWorld(seed=7, size=32, num_frames=4)
    for index in reversed(range(5)):
        np.testing.assert_array_equal(again.clip(index).frames, forwards[index])


@given(index=indices, size=st.integers(8, 70), num_frames=st.integers(2, 12))
@settings(deadline=None, max_examples=30)
def test_frames_are_whole_pictures(index: int, size: int, num_frames: int) -> None:
    clip = SyntheticWorld(seed=1, size=size, num_frames=num_frames).clip(index)
    assert clip.frames.shape == (num_frames, size, size, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.frames.flags.c_contiguous
    assert WorldObject.parse(clip.object_name).name == clip.object_name
    assert clip.motion in MOTIONS
    assert clip.object_name in clip.caption and clip.motion in clip.caption


def test_backgrounds_drift() -> None:
    """All of the picture changes, where without clouds only what the object covers does."""
    for index in range(3):
        flat, cloudy = (
            bare_world(size=48, num_frames=8, background_contrast=contrast).clip(index, RED_BAR, "shaking").frames
            for contrast in (0.0, 0.5)
        )
        flat_share, cloudy_share = ((np.diff(one.astype(int), axis=0) != 0).any(-1).mean() for one in (flat, cloudy))
        assert flat_share < 0.3 and cloudy_share > 0.7


def test_cameras_shake(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands still on a tripod moves about in the hand, by about as much as asked for."""
    steady, shaken = (
        [
            painted_tracks(bare_world(num_frames=9, camera_jitter=jitter), i, "approaching", monkeypatch)[0]
            for i in range(30)
        ]
        for jitter in (0.0, 0.02)
    )
    assert all(np.ptp(track.x) == 0 and np.ptp(track.y) == 0 for track in steady)
    spread = np.mean([track.x.std() / 64 for track in shaken])
    assert 0.4 < spread / 0.02 < 0.9, "a (1/4, 1/2, 1/4) filter leaves 0.61 of the deviation"


def test_distractors_move_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """None, one or two of them, equally often; all drift."""
    drawn: list[Track] = []
    monkeypatch.setattr(synthetic_world, "paint", lambda canvas, shape, texture, colour, track: drawn.append(track))
    counts, world = [], bare_world(size=48, num_frames=8, distractors=2)
    for index in range(300):
        drawn.clear()
        world.clip(index, RED_BAR, "shaking")
        *distractors, _ = drawn  # the object comes last
        counts.append(len(distractors))
        for track in distractors:
            assert np.ptp(track.x) + np.ptp(track.y) > 0.1 and np.ptp(track.radius) == 0
    assert all(70 < counts.count(number) < 130 for number in range(3))


def test_seeds_and_splits_share_no_clip() -> None:
    worlds = [
        SyntheticWorld(seed, split, size=16, num_frames=2) for seed in range(4) for split in ("train", "val", "test")
    ]
    clips = [world.clip(index, RED_BAR, "moving left").frames.tobytes() for world in worlds for index in range(8)]
    assert len(set(clips)) == len(clips)


def test_naming_what_would_be_drawn_changes_nothing() -> None:
    world = SyntheticWorld(seed=2, size=24, num_frames=4)
    for index in range(20):
        drawn = world.clip(index)
        named = world.clip(index, WorldObject.parse(drawn.object_name), drawn.motion)
        np.testing.assert_array_equal(named.frames, drawn.frames)


def test_every_object_and_every_motion_is_drawn() -> None:
    objects = tuple(WorldObject("red", shape) for shape in SHAPES)
    world = SyntheticWorld(seed=2, size=8, num_frames=2, objects=objects)
    clips = [world.clip(index) for index in range(400)]
    assert {clip.object_name for clip in clips} == {thing.name for thing in objects}
    assert {clip.motion for clip in clips} == set(MOTIONS) and len(MOTIONS) == 16
    assert not any("spinning" in clip.motion and clip.object_name == "red ring" for clip in clips)


@pytest.mark.parametrize("motion", MOTIONS)
@given(index=indices)
@settings(deadline=None, max_examples=5)
def test_the_opposite_motion_is_the_time_reversal(motion: str, index: int) -> None:
    world = SyntheticWorld(seed=5, size=32, num_frames=5)
    frames = world.clip(index, RED_BAR, motion).frames
    opposite = world.clip(index, RED_BAR, OPPOSITE[motion]).frames
    if OPPOSITE[motion] == motion:
        np.testing.assert_array_equal(opposite, frames)
    else:
        np.testing.assert_array_equal(opposite, frames[::-1])
        assert not np.array_equal(opposite, frames)


@pytest.mark.parametrize(("motion", "axis", "sign"), [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)])
@given(index=indices, shape=st.sampled_from(sorted(SHAPES)))
@settings(deadline=None, max_examples=10)
def test_translations_go_where_they_say(motion: str, axis: int, sign: int, index: int, shape: str) -> None:
    clip = bare_world().clip(index, WorldObject("yellow", shape), f"moving {motion}")
    way = displacement(object_mask(clip.frames))
    assert 0.4 < sign * way[axis] < 0.9
    assert abs(way[1 - axis]) < 0.15


@given(index=indices, shape=st.sampled_from(sorted(SHAPES)))
@settings(deadline=None, max_examples=15)
def test_approaching_grows(index: int, shape: str) -> None:
    area = object_mask(bare_world().clip(index, WorldObject("yellow", shape), "approaching").frames).sum((1, 2))
    assert (np.diff(area) > -0.05 * area[:-1]).all()  # whole pixels: a small thing's area wavers
    assert area[-1] > 2.5 * area[0]  # drawn 3.3 to 5 times as large


@given(index=indices)
@example(index=8177)  # a small circle, whose outline of whole pixels wavers
@settings(deadline=None, max_examples=10)
def test_clockwise_is_clockwise(index: int) -> None:
    spin = object_mask(bare_world(num_frames=9, spread=(0.0, 0.0)).clip(index, RED_BAR, "spinning clockwise").frames)
    y, x = np.mgrid[: spin.shape[1], : spin.shape[2]] + 0.5 - spin.shape[1] / 2
    axis = np.unwrap([np.angle((mask * (x + 1j * y) ** 2).sum()) for mask in spin]) / 2  # of the bar; y points down
    assert 1.2 < axis[-1] - axis[0] < 2.4
    circle = circular_centroid(object_mask(bare_world().clip(index, RED_BAR, "circling clockwise").frames))
    way = np.diff(np.unwrap(circle, axis=0), axis=0)
    turns = way[:-1, 0] * way[1:, 1] - way[:-1, 1] * way[1:, 0]
    assert turns.clip(max=0).sum() > -0.1 * turns.clip(min=0).sum()


@pytest.mark.parametrize(("motion", "axis"), [("shaking", 0), ("bobbing", 1)])
@given(index=indices)
@settings(deadline=None, max_examples=10)
def test_swinging_goes_there_and_back(motion: str, axis: int, index: int) -> None:
    mask = object_mask(bare_world().clip(index, WorldObject("yellow", "square"), motion).frames)
    path = np.unwrap(circular_centroid(mask), axis=0) / (2 * np.pi)
    assert np.ptp(path[:, axis]) > 0.15 and np.ptp(path[:, 1 - axis]) < 0.05
    steps = np.diff(path[:, axis])
    assert (np.diff(np.sign(steps)) != 0).sum() >= 2


@pytest.mark.parametrize(("motion", "axis"), [("moving left", 0), ("moving right", 0), ("moving up", 1)])
def test_no_single_frame_tells_a_translation(motion: str, axis: int) -> None:
    """At every time, the first frame too, the object is equally likely anywhere: a chi-squared test of its place."""
    world = bare_world(size=24, num_frames=3)
    places = np.array(
        [circular_centroid(object_mask(world.clip(i, RED_BAR, motion).frames))[:, axis] for i in range(400)]
    )  # (clips, T)
    for time in range(3):
        counts, _ = np.histogram(places[:, time], bins=8, range=(-np.pi, np.pi))
        assert ((counts - 50) ** 2 / 50).sum() < 24.3  # 0.1 % level at 7 degrees of freedom


@given(index=indices, size=st.integers(8, 60), num_frames=st.integers(2, 9))
@settings(deadline=None, max_examples=40)
def test_a_still_is_a_frame_of_its_clip(index: int, size: int, num_frames: int) -> None:
    world = SyntheticWorld(seed=4, size=size, num_frames=num_frames)
    still, clip = world.image(index), world.clip(index)
    assert still.frames.shape == (1, size, size, 3)
    assert (still.object_name, still.motion) == (clip.object_name, "")
    assert clip.caption == f"{still.caption} {clip.motion}"
    assert any(np.array_equal(still.frames[0], frame) for frame in clip.frames)


def test_stills_show_every_moment() -> None:
    world = SyntheticWorld(seed=4, size=24, num_frames=4)
    shown = [
        next(time for time, frame in enumerate(world.clip(i).frames) if np.array_equal(frame, world.image(i).frames[0]))
        for i in range(120)
    ]
    assert np.bincount(shown, minlength=4).min() > 12


def painted_tracks(world: SyntheticWorld, index: int, motion: str, monkeypatch: pytest.MonkeyPatch) -> list[Track]:
    """The tracks of what a clip shows, the named object's last."""
    tracks: list[Track] = []
    with monkeypatch.context() as patch:
        patch.setattr(synthetic_world, "paint", lambda canvas, shape, texture, colour, track: tracks.append(track))
        world.clip(index, RED_BAR, motion)
    return tracks


def apart(world: SyntheticWorld, index: int, motion: str, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """From the neighbour to the object, `(T, 2)` in pictures."""
    neighbour, thing = painted_tracks(world, index, motion, monkeypatch)
    return np.stack((thing.x - neighbour.x, thing.y - neighbour.y), axis=-1) / world.size


def test_two_objects_collide_or_pass_at_the_same_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    """A meeting's distances are the same either way: only the side on which the neighbour ends differs."""
    world = bare_world(num_frames=9)
    for index in range(20):
        collision = apart(world, index, "colliding", monkeypatch)
        passing = apart(world, index, "passing", monkeypatch)
        far = np.linalg.norm(collision, axis=-1)
        np.testing.assert_allclose(far, np.linalg.norm(passing, axis=-1), atol=1e-5)
        np.testing.assert_allclose(far, far[::-1], atol=1e-5)
        assert (np.diff(far[:5]) < 0).all() and far[0] - far[4] > 0.2
        np.testing.assert_allclose(collision, collision[::-1], atol=1e-5)
        directions = passing[0] / far[0], passing[-1] / far[-1]
        assert directions[0] @ directions[1] < -0.3
        np.testing.assert_allclose(np.diff(passing, n=2, axis=0), 0, atol=1e-5)  # a straight line


def test_neighbours_are_as_common_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for share in (0.0, 0.5, 1.0):
        world = SyntheticWorld(seed=3, size=8, num_frames=2, distractors=0, neighbours=share)
        seen = [len(painted_tracks(world, index, "shaking", monkeypatch)) - 1 for index in range(200)]
        assert abs(np.mean(seen) - share) <= (0.12 if 0 < share < 1 else 0)
        assert len(painted_tracks(world, 0, "passing", monkeypatch)) == 2


@given(index=indices)
@settings(deadline=None, max_examples=20)
def test_two_events_come_in_their_order(index: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = bare_world(num_frames=9)
        (jump_first,) = painted_tracks(world, index, "jumping then spinning", monkeypatch)
    assert np.ptp(jump_first.x) == 0 and np.ptp(jump_first.angle[:5]) == 0 and np.ptp(jump_first.y[4:]) == 0
    assert 0.2 < (jump_first.y[0] - jump_first.y[2]) / world.size < 0.35  # up, at the top halfway through its half
    assert 1.2 < np.ptp(jump_first.angle) < 2


@pytest.mark.parametrize(
    "motion", [m for m in MOTIONS if m.split()[0] not in ("colliding", "passing", "circling", "shaking", "bobbing")]
)
def test_the_middle_frame_knows_no_motion(motion: str) -> None:
    world = SyntheticWorld(seed=3, size=24, num_frames=5)
    for index in range(5):
        middle = world.clip(index, RED_BAR, motion).frames[2].astype(int)
        still = world.clip(index, RED_BAR, "spinning clockwise").frames[2].astype(int)
        assert np.abs(middle - still).max() <= 1  # of 255


@pytest.mark.slow
@pytest.mark.parametrize("time", [0, 3, 7])
def test_a_one_frame_control_hardly_knows_the_motion(time: int) -> None:
    """Nearest class mean over the pixels of one frame, the same of each clip; chance 6.25 %."""
    things = [thing for thing in SEEN_OBJECTS if thing.spins_visibly]
    world = SyntheticWorld(seed=6, size=32, num_frames=8, objects=things)
    labels = np.arange(2400) % len(MOTIONS)
    pixels = np.stack([world.clip(i, motion=MOTIONS[label]).frames[time, ::2, ::2] for i, label in enumerate(labels)])
    pixels = pixels.reshape(len(labels), -1).astype(np.float32)
    train, test = slice(0, 1600), slice(1600, None)
    means = np.stack([pixels[train][labels[train] == label].mean(0) for label in range(len(MOTIONS))])
    guess = (pixels[test] @ means.T - 0.5 * (means**2).sum(-1)).argmax(-1)
    assert (guess == labels[test]).mean() < 0.10


def test_objects_differ_and_shapes_fill_comparable_areas() -> None:
    """Every shape and texture is its own picture, none is a speck and none fills the frame."""
    pictures = set()
    for shape in SHAPES:
        for texture in TEXTURES:
            canvas = np.zeros((1, 3, 64, 64), np.float32)
            track = Track(*(np.full(1, value, np.float32) for value in (32.0, 32.0, 20.0, 0.3)))
            paint(canvas, SHAPES[shape], TEXTURES[texture], np.ones(3, np.float32), track)
            pictures.add(canvas.tobytes())
            cover = (canvas[0, 0] > 0.2).mean()
            assert 0.12 < cover < 0.35, f"{texture} {shape} covers {cover:.2f}"
    assert len(pictures) == len(SHAPES) * len(TEXTURES)
    assert len({thing.name for thing in OBJECTS}) == len(OBJECTS) == len(COLOURS) * len(pictures)


def test_edges_are_soft_and_places_are_subpixel() -> None:
    canvas = np.zeros((2, 3, 32, 32), np.float32)
    x = np.array([16.0, 16.25], np.float32)
    track = Track(x, np.full(2, 16.0, np.float32), np.full(2, 6.0, np.float32), np.zeros(2, np.float32))
    paint(canvas, SHAPES["circle"], TEXTURES["plain"], np.ones(3, np.float32), track)
    assert np.pi * 36 == pytest.approx(canvas[0, 0].sum(), rel=0.01)
    centre = (canvas[:, 0].sum(1) * (np.arange(32) + 0.5)).sum(-1) / canvas[:, 0].sum((1, 2))
    np.testing.assert_allclose(centre, x, atol=0.02)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: WorldObject.parse("red starr"), "did you mean 'star'"),
        (lambda: WorldObject.parse("star"), "does not name an object"),
        (lambda: SyntheticWorld(0).clip(0, RED_BAR, "moving lefft"), "did you mean 'moving left'"),
        (lambda: SyntheticWorld(0).clip(0, WorldObject("red", "ring"), "spinning clockwise"), "same at every angle"),
        (lambda: SyntheticWorld(0, motions=("spinning clockwise",)).clip(0, WorldObject("red", "ring")), "shows none"),
        (lambda: SyntheticWorld(0, num_frames=1), "at least 2 frames"),
        (lambda: SyntheticWorld(0, motions=()), "at least one object and one motion"),
        (lambda: SyntheticWorld(0).clip(0, WorldObject("red", "ring"), "spinning then jumping"), "same at every angle"),
        (lambda: SyntheticWorld(0, neighbours=1.5), "between 0 and 1, not 1.5"),
        (lambda: SyntheticWorld(0, spread=(1.0, 1.5)), "spread between 0 and 1"),
    ],
)
def test_mistakes_are_answered_in_one_line(call: object, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_a_written_dataset_is_real_and_repeatable(tmp_path: Path) -> None:
    import av

    steps: list[tuple[int, int]] = []
    shared = {"classes": DEMO_CLASSES[:2], "clips_per_class": {"train": 2, "test": 1}, "size": 32, "num_frames": 6}
    rows = write_dataset(tmp_path / "a", **shared, progress=lambda done, total: steps.append((done, total)))
    write_dataset(tmp_path / "b", **shared)
    assert steps == [(done, 6) for done in range(1, 7)]
    files = sorted(path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*.mp4"))
    assert files == sorted(row.path for row in rows)
    assert {Path(name).parts[1] for name in files} == {"moving-left", "moving-right"}
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "a" / "metadata.jsonl").read_text().splitlines()]
    assert [(line["file_name"], line["label"], line["split"]) for line in lines] == [
        (row.path, row.label, row.split) for row in rows
    ]
    for line, row in zip(lines, rows, strict=True):
        assert Path(line["file_name"]).parts[:2] == (line["split"], line["label"].replace(" ", "-"))
        assert WorldObject(line["colour"], line["shape"], line["texture"]) == row.thing
        assert line["caption"] == f"{with_article(row.thing.name)} {line['label']}"
    with av.open(str(tmp_path / "a" / files[0])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 32, 32)
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    number, row = next(
        found for found in enumerate(row for row in rows if row.split == "test") if found[1].path == files[0]
    )
    wanted = SyntheticWorld(0, "test", 32, 6).clip(number, row.thing, row.label).frames
    assert decoded.shape == wanted.shape
    assert np.abs(decoded.astype(int) - wanted).mean() < 12  # half the colour resolution is lost in yuv420p


def test_the_demo_asks_about_objects_that_training_and_pretraining_never_show(tmp_path: Path) -> None:
    assert {kind.motion for kind in DEMO_CLASSES} < set(MOTIONS) and len(DEMO_CLASSES) == 8
    rows = write_dataset(tmp_path, clips_per_class=dict.fromkeys(DEMO_CLIPS, 2), size=16, num_frames=2)
    for row in rows:
        assert row.thing in (HELD_OUT_OBJECTS if row.split == "test" else SEEN_OBJECTS)
    assert not set(HELD_OUT_OBJECTS) & set(SEEN_OBJECTS)
    assert {thing.shape for thing in HELD_OUT_OBJECTS} == {thing.shape for thing in SEEN_OBJECTS} == set(SHAPES)


def test_a_video_is_whole_or_absent(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dtype"):
        write_video(tmp_path / "a.mp4", np.zeros((2, 16, 16, 3)))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_datasets_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="different names"):
        write_dataset(tmp_path, classes=[])
    with pytest.raises(InputError, match="different names"):
        write_dataset(tmp_path, classes=[DEMO_CLASSES[0], DEMO_CLASSES[0]])
    with pytest.raises(InputError, match="even size"):
        write_dataset(tmp_path, size=33)
    with pytest.raises(InputError, match="cannot be used"):
        write_dataset(tmp_path, classes=[WorldClass("../up", "moving up", {"train": [RED_BAR]}), DEMO_CLASSES[0]])
    with pytest.raises(InputError, match="'moving left' names no objects for split 'tst'; did you mean 'test'"):
        write_dataset(tmp_path, clips_per_class={"tst": 1})
    assert not list(tmp_path.iterdir())
