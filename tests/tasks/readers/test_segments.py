"""Files that say when something happens, in the shapes their tools write, and what can be wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.predictions import Segment, Timeline
from core_encoder.errors import InputError
from tasks.families.temporal_localization import TemporalLocalizationTask
from tasks.readers.segments import point_classes, read_segments
from tasks.sample import SegmentSample
from tasks.splits import split_samples

BORIS_2016 = """Observation id\tobservation #1\t\t\t\t\t\t\t
\t\t\t\t\t\t\t\t
Media file(s)\t\t\t\t\t\t\t\t
Player #1\tmice.mp4\t\t\t\t\t\t\t
Observation date\t2016-11-27 01:57:26\t\t\t\t\t\t\t
Time offset (s)\t0.0\t\t\t\t\t\t\t
independent variables\t\t\t\t\t\t\t\t
\t\t\t\t\t\t\t\t
Time\tMedia file path\tTotal length\tFPS\tSubject\tBehavior\tBehavioral category\tComment\tStatus
3.300\tC:\\study\\mice.mp4\t60.000\t25.0\tone\tsniff\t\t\tSTART
4.000\tC:\\study\\mice.mp4\t60.000\t25.0\ttwo\tsniff\t\t\tSTART
5.000\tC:\\study\\mice.mp4\t60.000\t25.0\tone\trear\t\t\tPOINT
7.750\tC:\\study\\mice.mp4\t60.000\t25.0\tone\tsniff\t\t\tSTOP
9.000\tC:\\study\\mice.mp4\t60.000\t25.0\ttwo\tsniff\t\t\tSTOP
"""
TITLES = (
    "Observation id,Observation date,Description,Observation duration,Observation type,Source,Time offset (s),"
    "Media duration (s),FPS (frame/s),Subject,Behavior,Behavioral category,Behavior type,Time,Media file name,"
    "Image index,Image file path,Comment"
)
AGGREGATED = (
    "Observation id,Observation date,Description,Observation type,Source,Time offset (s),Coding duration,"
    "Media duration (s),FPS (frame/s),Subject,Behavior,Behavioral category,Behavior type,Start (s),Stop (s),"
    "Duration (s),Media file name,Comment start,Comment stop"
)
BENTO = """Bento annotation file
Movie file(s): mice.mp4

Stimulus name: none
Annotation start time: 0.033
Annotation stop time: 60
Annotation framerate: 30.000000

List of channels:
Ch1
Ch2

List of annotations:
attack
sniff

Ch1----------
>attack
Start\t Stop\t Duration
1.5\t4\t2.5
10\t12.25\t2.25

>sniff
Start\t Stop\t Duration

Ch2----------
>sniff
Start\t Stop\t Duration
20\t21\t1
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """`write(name, text)` beside videos of three names, which nobody opens here."""
    for name in ("mice.mp4", "a.mp4", "b.mp4", "v_abc.mp4"):
        (tmp_path / "clips").mkdir(exist_ok=True)
        (tmp_path / "clips" / name).touch()

    def make(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return make


def row(what: str, time: str, behavior: str = "sniff", **cells: str) -> str:
    given = {"observation": "o1", "media": "mice.mp4", "offset": "0", "source": "player #1:mice.mp4", "length": "60.0"}
    given |= cells
    start = f"{given['observation']},2024-01-15,,60,Media file(s),{given['source']},{given['offset']},{given['length']}"
    return f"{start},25,No focal subject,{behavior},,{what},{time},{given['media']},,,"


def found(sample: SegmentSample) -> list[tuple[float, float, str]]:
    return [(round(one.start_s, 3), round(one.end_s, 3), one.label) for one in sample.timeline]


def activitynet(write: Callable[[str, str], Path], *, taxonomy: Any = None, **entries: Any) -> Path:
    content = {"version": "VERSION 1.3", "database": entries, "taxonomy": taxonomy or []}
    return write("activity_net.json", json.dumps(content))


def entry(*segments: tuple[float, float, str], subset: str = "training", **more: Any) -> dict[str, Any]:
    rows = [{"segment": [start, end], "label": label} for start, end, label in segments]
    return {"duration": 60.0, "subset": subset, "resolution": "320x240", "url": "x", "annotations": rows} | more


def test_activitynet(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    file = activitynet(
        write,
        abc=entry((1, 4.5, "run"), (2, 3, "sit")),
        a=entry((0, 60.4, "run"), subset="validation", annotated=[[0, 30], [40, 61]], classes_annotated=["run"]),
        b=entry(subset="testing"),
    )
    first, second = read_segments(file)  # the testing subset keeps its labels secret
    assert first.clip.path == str(tmp_path / "clips" / "v_abc.mp4") and first.id == "abc" and first.split == "train"
    assert found(first) == [(1, 4.5, "run"), (2, 3, "sit")] and first.labels == ("run", "sit")
    assert second.timeline == Timeline((Segment(0, 60.0, "run", 1.0),), ((0, 30), (40, 61)), ("run",))
    assert second.split == "val"


def test_json_lines(write: Callable[[str, str], Path]) -> None:
    lines = [
        {
            "video": "clips/a.mp4",
            "segments": [[1, 2, "run"], {"start": "00:01", "end": 4, "label": "sit"}],
            "split": "dev",
        },
        {"video": "b.mp4", "segments": [], "annotated": [[0, 5]], "split": "train"},
    ]
    one, two = read_segments(write("list.jsonl", "\n".join(map(json.dumps, lines))))
    assert found(one) == [(1, 2, "run"), (1, 4, "sit")] and one.split == "val"
    assert two.timeline == Timeline((), ((0.0, 5.0),)) and two.clip.path.endswith("clips/b.mp4")


def test_csv_and_columns_of_other_names(write: Callable[[str, str], Path]) -> None:
    file = write(
        "rows.csv", "video,start,end,label,split\na.mp4,1,2.5,run,train\nb.mp4,,,,test\na.mp4,0:05,8,run,train\n"
    )
    one, two = read_segments(file)
    assert found(one) == [(1, 2.5, "run"), (5, 8, "run")] and found(two) == [] and two.split == "test"
    other = write("other.csv", "clip,from,to,behaviour\na.mp4,1,2,run\n")
    task = TemporalLocalizationTask.read_samples(
        other, path_column="clip", start_column="from", end_column="to", label_column="behaviour"
    )
    assert found(task[0]) == [(1, 2, "run")]


def test_boris_of_2016_with_its_preamble(write: Callable[[str, str], Path]) -> None:
    (one,) = read_segments(write("events.tsv", BORIS_2016))
    assert found(one) == [(3.3, 7.75, "sniff"), (4.0, 9.0, "sniff"), (4.5, 5.5, "rear")]
    assert one.moments == ("rear",) and point_classes([one]) == ("rear",)
    assert one.clip.path.endswith("clips/mice.mp4")


def test_boris_of_today(write: Callable[[str, str], Path]) -> None:
    rows = [row("START", "1.5"), row("POINT", "2.0", "rear"), row("STOP", "00:00:04.250")]
    (one,) = read_segments(write("events.csv", "\n".join([TITLES, *rows])))
    assert found(one) == [(1.5, 2.5, "rear"), (1.5, 4.25, "sniff")]


QUEUE = {"source": "player #1:a.mp4;b.mp4;mice.mp4|player #2:v_abc.mp4", "length": "60.000;30.500;20.000|110.500"}


def test_boris_of_files_played_one_after_another(
    write: Callable[[str, str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Times count from the start of the first file: what spans two of them is cut where the second one begins."""
    rows = [
        row("START", "10", media="a.mp4", **QUEUE),
        row("STOP", "12", media="a.mp4", **QUEUE),
        row("START", "55.5", "run", media="a.mp4", **QUEUE),
        row("STOP", "95", "run", media="mice.mp4", **QUEUE),
        row("POINT", "62", "rear", media="b.mp4", **QUEUE),
        row("START", "80", media="b.mp4", **QUEUE),
        row("STOP", "90.501", media="mice.mp4", **QUEUE),  # a millisecond of rounding is no part of the third
    ]
    a, b, mice = read_segments(write("events.csv", "\n".join([TITLES, *rows])))
    assert [Path(one.clip.path).name for one in (a, b, mice)] == ["a.mp4", "b.mp4", "mice.mp4"]
    assert found(a) == [(10, 12, "sniff"), (55.5, 60, "run")]
    assert found(b) == [(0, 30.5, "run"), (1.5, 2.5, "rear"), (20, 30.5, "sniff")] and b.moments == ("rear",)
    assert found(mice) == [(0, 4.5, "run")]
    assert "line 2: watched in several players; the video of the first one is taken" in caplog.text


def test_a_file_of_a_boris_observation_in_which_nothing_happens(write: Callable[[str, str], Path]) -> None:
    rows = [row("START", "70", media="b.mp4", **QUEUE), row("STOP", "75", media="b.mp4", **QUEUE)]
    a, b, mice = read_segments(write("events.csv", "\n".join([TITLES, *rows])))
    assert (found(a), found(b), found(mice)) == ([], [(10, 15, "sniff")], [])


def test_boris_aggregated_over_several_files(write: Callable[[str, str], Path]) -> None:
    about = "o1,2024-01-15,,Media file,player #1:a.mp4;b.mp4,0,90,60.000;30.000,25.000;25.000,one,sniff"
    rows = [f"{about},,STATE,50.000,70.000,20.000,a.mp4,,", f"{about},,POINT,80.000,80.000,NA,b.mp4,,"]
    a, b = read_segments(write("events.csv", "\n".join([AGGREGATED, *rows])))
    assert found(a) == [(50, 60, "sniff")] and found(b) == [(0, 10, "sniff"), (19.5, 20.5, "sniff")]


def test_the_time_offset_of_boris_is_taken_back(write: Callable[[str, str], Path]) -> None:
    """BORIS adds it to every time that it records, so that setting it to 0 later changes none of them."""
    rows = [row("START", "14", offset="12.5", media="Not found"), row("STOP", "17.5", offset="12.5", media="Not found")]
    (one,) = read_segments(write("events.csv", "\n".join([TITLES, *rows])))
    assert found(one) == [(1.5, 5, "sniff")] and one.clip.path.endswith("mice.mp4")
    rows = [row("START", "-9", offset="-10"), row("STOP", "2", offset="-10")]
    (one,) = read_segments(write("events.csv", "\n".join([TITLES, *rows])))
    assert found(one) == [(1, 12, "sniff")]
    (one,) = read_segments(write("old.tsv", BORIS_2016.replace("(s)\t0.0", "(s)\t1.3")))
    assert found(one)[0] == (2.0, 6.45, "sniff")


def test_boris_states_are_paired_by_all_of_their_modifiers(write: Callable[[str, str], Path]) -> None:
    titles = TITLES.replace("Behavioral category,", "Behavioral category,Modifier #1,Modifier #2,")
    rows = [row("START", "1"), row("START", "2"), row("STOP", "3"), row("STOP", "5")]
    two = [one.replace("sniff,,", f"sniff,,fast,{other},") for one, other in zip(rows, "abab", strict=True)]
    (one,) = read_segments(write("events.csv", "\n".join([titles, *two])))
    assert found(one) == [(1, 3, "sniff"), (2, 5, "sniff")]


def test_boris_aggregated(write: Callable[[str, str], Path]) -> None:
    about = "o1,2024-01-15,,MEDIA,mice.mp4,0.0,60,60.0,25"
    rows = [
        f"{about},one,sniff,,STATE,1.0,5.0,4.0,mice.mp4,,",
        f"{about},one,rear,,POINT,7.0,7.0,NA,mice.mp4,,",
    ]
    (one,) = read_segments(write("events.csv", "\n".join([AGGREGATED, *rows])))
    assert found(one) == [(1, 5, "sniff"), (6.5, 7.5, "rear")]


def test_a_folder_of_boris_exports(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        rows = [row("START", "1", media=f"{name}.mp4"), row("STOP", "2", media=f"{name}.mp4")]
        write(f"{name}_events.csv", "\n".join([TITLES, *rows]))
    assert [found(one) for one in read_segments(tmp_path)] == [[(1, 2, "sniff")]] * 2


def test_bento_in_seconds_and_in_frames(write: Callable[[str, str], Path]) -> None:
    (one,) = read_segments(write("mice.annot", BENTO))
    assert found(one) == [(1.5, 4, "attack"), (10, 12.25, "attack"), (20, 21, "sniff")]
    frames = BENTO.replace("Annotation start time: 0.033", "Annotation start frame: 1")
    frames = frames.replace("1.5\t4\t2.5\n10\t12.25\t2.25", "31\t60\t30").replace("20\t21\t1", "61\t90\t30")
    (two,) = read_segments(write("mice.annot", frames))
    assert found(two) == [(1, 2, "attack"), (2, 3, "sniff")]


def test_a_folder_of_splits_and_videos_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "elsewhere" / "deep" / f"{name}.mp4").touch()
    (tmp_path / "data" / "train.csv").write_text("video,start,end,label\na.mp4,1,2,run\n")
    (tmp_path / "data" / "test.csv").write_text("video,start,end,label\nb.mp4,1,2,run\n")
    samples = read_segments(tmp_path / "data", tmp_path / "elsewhere")
    assert {sample.split for sample in samples} == {"train", "test"}
    assert all(Path(sample.clip.path).exists() for sample in samples)
    with pytest.raises(InputError, match="none of its 2 videos is in .*data.*say where they are with --videos"):
        read_segments(tmp_path / "data")
    with pytest.raises(InputError, match="no such folder of videos"):
        read_segments(tmp_path / "data", tmp_path / "nowhere")


def test_splits_are_drawn_by_class(write: Callable[[str, str], Path]) -> None:
    rows = "".join(f"v{number}.mp4,1,2,{'run' if number % 2 else 'sit'}\n" for number in range(12)) + "a.mp4,1,2,run\n"
    splits = split_samples(read_segments(write("rows.csv", "video,start,end,label\n" + rows)))
    assert {label for sample in splits["val"] for label in sample.labels} == {"run", "sit"}


@pytest.mark.parametrize(
    ("segments", "more", "says"),
    [
        ([(4, 2, "run")], {}, "'a': annotation 1: 'run' ends at 2 s, not after its start at 4 s"),
        ([(3, 3, "run")], {}, "ends at 3 s, not after its start at 3 s"),
        ([(70, 80, "run")], {}, r"segment \[70, 80\] 'run' lies outside the video, which lasts 60 s"),
        ([(7, 8000, "run")], {}, "lasts 60 s; are its times frames or milliseconds"),
        ([(1, 2, "")], {}, "label '' is no name of a class"),
        ([(-1, 2, "run")], {}, "segment -1 is not a time"),
        ([(1, 2, "runn")], {}, "label 'runn' is not in the taxonomy; did you mean 'run'"),
        ([(10, 12, "run")], {"annotated": [[0, 5]]}, "lies outside of what was annotated"),
        ([(1, 2, "run")], {"annotated": [[5, 0]]}, r"annotated: \[5, 0\] ends before it starts"),
        ([(1, 2, "run")], {"annotated": [5, 0]}, r"annotated must be a list of \[start, end\]"),
        ([(1, 2, "run")], {"classes_annotated": ["sit"]}, "has a class that is not among classes_annotated"),
        ([(1, 2, "run")], {"classes_annotated": "run"}, "classes_annotated must be a list of class names"),
        ([(1, 2, "run")], {"subset": "trainig"}, "subset 'trainig' is unknown; did you mean 'training'"),
        ([(1, 2, "run")], {"duration": "long"}, "duration 'long' is not a time"),
        ([(1, 2, "run")], {"annotations": 3}, "annotations must be a list"),
        ([(1, 2, "run")], {"annotations": [{"segment": 3}]}, "annotation 1: must be"),
    ],
)
def test_what_can_be_wrong_with_activitynet(
    segments: list[Any], more: Any, says: str, write: Callable[[str, str], Path]
) -> None:
    taxonomy = [{"nodeId": k, "nodeName": name} for k, name in enumerate(("run", "sit"))]
    file = activitynet(write, taxonomy=taxonomy, a=entry(*segments, **more))
    with pytest.raises(InputError, match=says) as caught:
        read_segments(file)
    assert "\n" not in str(caught.value) and "activity_net.json" in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([row("START", "1.5")], "line 2: START of 'sniff' of subject 'No focal subject' at 1.5 s has no STOP"),
        (
            [row("START", "1"), row("START", "3"), row("STOP", "5")],
            "line 2: START .* no STOP before the next START at 3 s",
        ),
        ([row("STOP", "1.5")], "line 2: STOP of 'sniff' at 1.5 s has no START"),
        ([row("START", "2"), row("STOP", "2")], "line 2: 'sniff' ends at 2 s, not after its start"),
        ([row("BEGIN", "2")], "line 2: 'BEGIN' is neither START, STOP nor POINT"),
        ([row("START", "now")], "line 2: Time 'now' is not a time"),
        ([row("START", "1", offset="12.5")], "line 2: Time 1 is before the time offset of 12.5 s"),
        ([row("START", "1", offset="soon")], "line 2: time offset 'soon' is not a time"),
        ([row("START", "1", media="NA")], "line 2: no media file; a live observation"),
        ([row("START", "1", media="a.mp4;b.mp4")], r"line 2: several media files \(a.mp4;b.mp4\)"),
        ([row("START", "1"), row("STOP", "2", media="b.mp4")], "line 3: observation 'o1' is of several media files"),
        (
            [row("START", "1", source="mice.mp4;b.mp4"), row("STOP", "2", source="mice.mp4;b.mp4")],  # BORIS of 2022
            r"line 2: .* of several media files \(mice.mp4, b.mp4\), and nothing says how long each lasts: export",
        ),
        (
            [row("START", "95", media="b.mp4", **QUEUE), row("STOP", "150", media="mice.mp4", **QUEUE)],
            r"line 2: segment \[4.5, 59.5\] 'sniff' lies outside the video, which lasts 20 s",
        ),
        ([row("START", "70"), row("STOP", "80")], "lies outside the video, which lasts 60 s"),
        ([row("START", "1", behavior=""), row("STOP", "2")], "line 2: label '' is no name"),
        ([], "holds no events"),
    ],
)
def test_what_can_be_wrong_with_boris(rows: list[str], says: str, write: Callable[[str, str], Path]) -> None:
    with pytest.raises(InputError, match=says):
        read_segments(write("events.csv", "\n".join([TITLES, *rows])))


def test_boris_of_2016_of_several_files(write: Callable[[str, str], Path]) -> None:
    """All events may lie in one of them, whose start is not known then."""
    two = BORIS_2016.replace("Player #1\tmice.mp4", "Player #1\ta.mp4\t\t\t\t\t\t\t\nPlayer #1\tmice.mp4")
    with pytest.raises(InputError, match=r"line 11: .* of several media files \(a.mp4, mice.mp4\), and nothing says"):
        read_segments(write("events.tsv", two))


def test_an_aggregated_state_that_does_not_end(write: Callable[[str, str], Path]) -> None:
    rows = "o1,2024-01-15,,MEDIA,mice.mp4,0.0,60,60.0,25,one,sniff,,STATE,1.0,NA,NA,mice.mp4,,"
    with pytest.raises(InputError, match=r"line 2: 'sniff' starts at 1 s and has no Stop \(s\)"):
        read_segments(write("events.csv", f"{AGGREGATED}\n{rows}"))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.annot", "nothing", "line 1: no annotation file of BENTO"),
        ("x.annot", BENTO.replace("1.5\t4\t2.5", "1.5"), "line 20: '1.5' is no bout"),
        ("x.annot", BENTO.replace("1.5\t4", "4\t1.5"), "line 20: 'attack' ends at 1.5 s"),
        ("x.jsonl", '{"video": "a.mp4"}', "line 1: must be an object such as"),
        ("x.jsonl", '{"segments": []}', "line 1: names no video"),
        ("x.jsonl", '{"video": "a.mp4", "segments": [[1, 2]]}', r"segment 1: must be \[start, end, label\]"),
        ("x.jsonl", "{", "line 1: not valid JSON"),
        ("x.jsonl", '{"video": "a.mp4", "segments": []}\n' * 2, "line 2: the same video as line 1"),
        (
            "x.jsonl",
            '{"video": "a.mp4", "segments": [], "split": "tst"}',
            "split 'tst' is unknown; did you mean 'test'",
        ),
        ("x.csv", "video,start,label\na.mp4,1,run\n", "line 2: no end column"),
        ("x.csv", "video,start,end,label\na.mp4,1,,run\n", "line 2: end '' is not a time"),
        ("x.csv", "video,start,end,label\na.mp4,3,2,run\n", "line 2: 'run' ends at 2 s"),
        ("x.csv", "video,start,end,label\na.mp4,1,2,\n", "line 2: label '' is no name of a class"),
        ("x.csv", "video,start,end,label,split\na.mp4,1,2,r,train\na.mp4,3,4,r,test\n", "has rows in several splits"),
        ("x.json", "{}", "not ActivityNet's JSON: it has no object 'database'"),
        ("x.json", '{"database": {}}', "its database holds no video"),
        ("x.json", '{"taxonomy": 3, "database": {"a": 1}}', "video 'a': must be an object with 'annotations', not 1"),
        ("x.mat", "", "when something happens is read from"),
        ("x.jsonl", "", "holds no video"),
    ],
)
def test_what_can_be_wrong_with_other_files(name: str, text: str, says: str, write: Callable[[str, str], Path]) -> None:
    with pytest.raises(InputError, match=says):
        read_segments(write(name, text))


def test_two_names_for_one_video_and_one_name_for_two(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    file = activitynet(write, a=entry((1, 2, "run")), **{"a.mp4": entry((3, 4, "run"))})
    with pytest.raises(InputError, match="the same video as in .*'a'"):
        read_segments(file)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.mp4").touch()
    with pytest.raises(InputError, match=r"'a' may be .*clips/a.mp4 or .*more/a.mp4; give its path"):
        read_segments(file)


def test_a_missing_video_is_left_to_encoding(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    one, gone = read_segments(activitynet(write, a=entry((1, 2, "run")), gone=entry((1, 2, "run"))))
    assert Path(one.clip.path).exists() and gone.clip.path == str(tmp_path / "gone.mp4")


def test_a_split_without_segments(write: Callable[[str, str], Path]) -> None:
    samples = read_segments(activitynet(write, a=entry((1, 2, "run")), b=entry(subset="validation")))
    with pytest.raises(InputError, match="no video of the val split has a segment"):
        TemporalLocalizationTask.from_samples(samples, "x").check_targets()
    with pytest.raises(InputError, match="no video has a segment"):
        TemporalLocalizationTask.from_samples([samples[1]], "x")
