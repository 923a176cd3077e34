"""`prismhub predict`: what saved adapters say of new videos, of long ones window by window; each video encoded once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.prompt_templates import text_lines
from core_encoder.array_videos import ArrayVideo
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import write_text
from prismhub.answer_files import write_timelines
from prismhub.answers import Predicted, sorted_answers
from prismhub.box_answers import answer_boxes, asked_moments
from prismhub.clips import find_inputs, sample_names
from prismhub.features import clip_source
from prismhub.long_videos import asks_windows, bar_of_seconds, much_longer, window_of
from prismhub.progress import SILENT, Show
from prismhub.proposals import classify_proposals
from prismhub.provenance import run_command
from prismhub.questions import Question, read_questions
from prismhub.saved import open_hub, shared_specs
from prismhub.settings import PredictSettings

if TYPE_CHECKING:
    from adapters.hub import Answers, Hub
    from adapters.predictions import Prediction
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_spec import FeatureSpec

    Said = Prediction | Failure  # of one video
    Found = dict[str, list[Said]]  # by the name of an adapter


def predict(settings: PredictSettings, show: Show = SILENT) -> dict[str, Predicted]:
    """Answer for new videos, by every adapter under its name; those that cannot be read are returned as failures.

    Of videos much longer than the clips of the training, and of all where `window`, `step` or `vtt` is given, the
    answer is a `Windows`.

    Raises:
        InputError: no such adapter or video, the encoder is not the one that all adapters were trained on, options that
            mean nothing for them, or windows that their frames cannot show, or of arrays.
    """
    videos = find_inputs(settings.videos)
    questions = read_questions(settings)
    moments = {one.name: asked_moments(one, videos, show) for one in questions if one.targets == "boxes"}
    of_videos = [one for one in questions if one.targets != "boxes"]
    given = _given(settings.question, settings.candidates)
    saved = {one.name: (one.ref, one.info) for one in questions}
    specs = shared_specs(saved, settings.running, show)
    windows = {one.name: window_of(one, specs[one.name]) for one in of_videos}
    if isinstance(videos[0], ArrayVideo) and any(map(asks_windows, of_videos)):
        raise InputError("window, step and vtt count seconds, which an array does not know; give the video as a file")

    hub = open_hub(saved, specs, settings.running, settings.reading)
    if isinstance(videos[0], ArrayVideo):
        found = _ask_arrays(hub, videos, given, show)
    else:
        found = _ask_clips(hub, of_videos, specs, windows, videos, given, show) | answer_boxes(hub, moments, show)
        if hub.overruns:
            from core_encoder.clip_bounds import describe_overruns

            show.note(f"note: {describe_overruns(list(hub.overruns.values()), len(videos))}")
    done = {}
    for one in questions:
        answers = found[one.name]
        if one.targets == "segments":
            answers = _finished(one, answers, dict(zip(sample_names(videos), videos, strict=True)), show)
        if one.settings.vtt is not None:
            _write_vtt(one.settings.vtt, answers)
            show.note(f"the subtitles: {one.settings.vtt.resolve().as_uri()}")
        done[one.name] = sorted_answers(answers)
    if settings.html is not None:
        from prismhub.pages.answers_page import AnsweredBy, write_answers_page

        by = {one.name: AnsweredBy(one.info, done[one.name], settings.top, settings.all_scores) for one in questions}
        write_answers_page(settings.html, videos, by, run_command())
        show.note(f"the page: {settings.html.resolve().as_uri()}")
    return done


def _given(question: str | None, candidates: Path | None) -> dict[str, Any]:
    """What is given beside every video: a question, and the texts to choose from, where there are any.

    Raises:
        InputError: the question is empty, or the file holds fewer than two different texts.
    """
    given: dict[str, Any] = {}
    if question is not None:
        if not question.strip():
            raise InputError("question is empty: ask something, or leave it out for a caption")
        given["question"] = question
    if candidates is not None:
        texts = tuple(text_lines(candidates))
        if len(texts) < 2 or len(set(texts)) < len(texts):
            raise InputError(f"{candidates}: candidates must be at least two different texts, one a line")
        given["candidates"] = texts
    return given


def _ask_arrays(hub: Hub, videos: Sequence[ArrayVideo], given: Mapping[str, Any], show: Show) -> Found:
    found: dict[str, dict[Any, Said]] = {name: {} for name in hub.adapters}
    with show.bar("predicting") as bar:
        answers = hub.answers([one.frames for one in videos], given=given)
        for done, (video, one) in enumerate(zip(videos, answers, strict=True), start=1):
            _take(found, list(found), video, one)
            bar.update(done, len(videos))
    return {name: list(answers.values()) for name, answers in found.items()}


def _ask_clips(
    hub: Hub,
    questions: Sequence[Question],
    specs: Mapping[str, FeatureSpec],
    windows: Mapping[str, float],
    clips: Sequence[Clip],
    given: Mapping[str, Any],
    show: Show,
) -> Found:
    """Ask about clips, as a whole or in windows; adapters that are asked alike share decoding and encoding."""
    in_windows = _in_windows(hub, questions, specs, windows, clips, show)
    alike: dict[Any, list[Clip]] = defaultdict(list)
    for clip in clips:
        ways: dict[Any, list[str]] = defaultdict(list)
        for one in questions:
            way = (windows[one.name], one.settings.step) if clip in in_windows[one.name] else (None, None)
            ways[way].append(one.name)
        for way, names in ways.items():
            alike[way, tuple(names)].append(clip)
    found: dict[str, dict[Any, Said]] = {one.name: {} for one in questions}
    for ((window, step), names), several in alike.items():
        about: Any = {"given": given, "window": window, "step": step, "names": names, "ids": sample_names(several)}
        if window is None and not any(hub.adapters[name].reads_whole_clips for name in names):
            with show.bar("predicting") as bar:
                answers = hub.answers(several, **about)
                for done, (clip, answer) in enumerate(zip(several, answers, strict=True), start=1):
                    _take(found, names, clip, answer)
                    bar.update(done, len(several))
        else:
            with bar_of_seconds(show, "predicting") as hear:
                for clip, answer in zip(several, hub.answers(several, **about, hear=hear), strict=True):
                    _take(found, names, clip, answer)
    return {name: [answers[clip] for clip in clips] for name, answers in found.items()}


def _in_windows(
    hub: Hub,
    questions: Sequence[Question],
    specs: Mapping[str, FeatureSpec],
    windows: Mapping[str, float],
    clips: Sequence[Clip],
    show: Show,
) -> dict[str, set[Clip]]:
    """The clips that each adapter is asked about window by window; those that look at a whole video never are.

    Raises:
        InputError: windows are asked for, and all look at whole videos.
    """
    whole = [one for one in questions if hub.adapters[one.name].reads_whole_clips]
    if questions and len(whole) == len(questions) and any(map(asks_windows, questions)):
        raise InputError(
            f"adapter {whole[0].info.kind!r} looks at a video as a whole: it cannot be asked window by window"
        )
    found: dict[str, set[Clip]] = {}
    said: dict[str, list[str]] = defaultdict(list)
    for one in questions:
        found[one.name] = set()
        if one in whole:
            continue
        if asks_windows(one):
            found[one.name] = set(clips)
            continue
        longest = (one.info.training.get("clip_s") or {}).get("longest")
        source = clip_source(hub.adapters[one.name].find_encoder(), specs[one.name], one.settings.reading)
        if long := much_longer(source, clips, longest):
            found[one.name] = set(long)
            text = f"{len(long)} of {len(clips)} videos are much longer than the clips of the training"
            said[
                f"{text} (up to {longest:g} s): answering for every {windows[one.name]:g} s; --window and --step choose"
            ].append(one.name)
    for text, names in said.items():
        who = f"{', '.join(names)}: " if len(names) < len(questions) else ""
        show.note(f"note: {who}{text}")
    return found


def _take(found: dict[str, dict[Any, Said]], names: Sequence[str], video: Any, one: Answers | Failure) -> None:
    """Keep what was said of a video, or why nothing was, for every adapter that was asked."""
    from core_encoder.features.failures import Failure

    for name in names:
        found[name][video] = one if isinstance(one, Failure) else one[name]


def _finished(question: Question, found: Sequence[Any], by_id: Mapping[str, Any], show: Show) -> list[Any]:
    """Segments with the threshold and the classes that were asked for, and their pictures written; others as found."""
    from adapters.predictions import Segments

    asked = question.settings
    answers = [one for one in found if isinstance(one, Segments)]
    if asked.threshold is not None:
        answers = [replace(one, threshold=asked.threshold) for one in answers]
    if asked.classifier is not None:
        about = asked.running, asked.reading, show
        answers = classify_proposals(answers, by_id, asked.classifier, *about, asked.top, asked.all_scores)
    unsure = [one for one in answers if one.segments and not one.shown(asked.top, asked.all_scores)]
    if unsure and asked.format != "activitynet":  # which has all of them
        surest = max(one.segments[0].score for one in unsure)
        show.note(
            f"note: {question.name}: in {len(unsure)} of {len(answers)} videos no segment reaches the threshold "
            f"{unsure[0].threshold:g}, the surest has {surest:.2g}; --threshold chooses another, --all-scores shows all"
        )
    if asked.timeline is not None:
        write_timelines(asked.timeline, answers, asked)
        show.note(f"the timelines: {asked.timeline.resolve().as_uri()}")
    finished = iter(answers)
    return [next(finished) if isinstance(one, Segments) else one for one in found]


def _write_vtt(folder: Path, answers: Sequence[Any]) -> None:
    """One file a video, called like it; of two videos of one name the second has a number."""
    from adapters.predictions import Segments
    from adapters.windows import Windows
    from tasks.writers.segments import vtt_text

    taken: dict[str, int] = {}
    for answer in answers:
        if isinstance(answer, Windows | Segments):
            stem = Path(answer.sample_id).stem
            taken[stem] = taken.get(stem, 0) + 1
            name = stem if taken[stem] == 1 else f"{stem}-{taken[stem]}"
            text = answer.webvtt() if isinstance(answer, Windows) else vtt_text(answer)
            write_text(folder / f"{name}.vtt", text)
