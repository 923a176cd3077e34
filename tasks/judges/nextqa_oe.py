"""Open-ended answers to NExT-QA's questions as `eval_oe.py` of NExT-OE judges them. No torch.

    truth         the official csv: video,...,question,answer,qid,type
    predictions   {video: {qid: answer}}
    references    {video: {qid: answer}}, second right answers, which only the test split has

WUPS at threshold 0 of lemmas without stop words; yes-no and counting questions (DB, DC) are right or wrong. Similarity
is that of NLTK 3.3, which the official repository demands. Type TP counts as TN. Every question needs an answer.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest, read_json
from tasks.judges.judgement import NAMED, Judgement, id_note
from tasks.judges.tables import read_table
from tasks.metrics.answers import open_answer_score
from tasks.metrics.lemmas import Lemmatizer, nltk_tagging
from tasks.metrics.lexicon import Lexicon

PROTOCOLS = {True: "nextqa-oe-wups-v1", False: "nextqa-oe-wups-guessed-v1"}
"""With parts of speech from NLTK's tagger, as officially, or guessed from the words alone."""
TYPES = ("CW", "CH", "TN", "TC", "DB", "DC", "DL", "DO")

Answers = dict[str, dict[str, str]]


def judge_nextqa_oe(truth: Path, predictions: Path, references: str | Path | None = None) -> Judgement:
    """`WUPS`, `WUPS_` each question type, and `WUPS_C`, `WUPS_T`, `WUPS_D` of causal, temporal and descriptive ones.

    All are means over questions times 100; None where there is no question of a type.

    Raises:
        InputError: questions without an answer, no WordNet on this machine, or one line with file, row, field and fix.
    """
    header, lines = read_table(truth, ["video", "answer", "qid", "type"])
    said = _answers(predictions)
    more = {} if references is None else _answers(Path(references))
    asked: dict[tuple[str, str], tuple[str, str]] = {}
    for line in lines:
        video, answer, qid, kind = (line.cells[header.index(name)] for name in ("video", "answer", "qid", "type"))
        kind = "TN" if kind == "TP" else kind
        if kind not in TYPES:
            raise line.error(f"type {kind!r} is no type of question{nearest(kind, (*TYPES, 'TP'))}")
        if (video, qid) in asked:
            raise line.error(f"question {qid!r} of video {video!r} is there twice; keep one row")
        asked[video, qid] = kind, answer
    if not asked:
        raise InputError(f"{truth}: holds no question")
    unanswered = [f"{video}_{qid}" for video, qid in asked if qid not in said.get(video, {})]
    if unanswered:
        named = ", ".join(unanswered[:NAMED]) + (", ..." if len(unanswered) > NAMED else "")
        raise InputError(
            f"{predictions}: {len(unanswered)} of {len(asked)} questions of {truth} have no answer ({named}); "
            "give each one, be it empty: the official evaluator judges whole files alone"
        )
    lexicon, tagging = Lexicon.find(), nltk_tagging()
    words = Lemmatizer(lexicon, *(tagging or ())).content_words
    scores: dict[str, list[float]] = defaultdict(list)
    for (video, qid), (kind, answer) in asked.items():
        right = [words(one) for one in (answer, more.get(video, {}).get(qid)) if one is not None]
        score = open_answer_score(words(said[video][qid]), right, kind, lexicon.similarity)
        for name in ("WUPS", f"WUPS_{kind}", f"WUPS_{kind[0]}"):
            scores[name].append(score)
    names = ["WUPS", *(f"WUPS_{kind}" for kind in TYPES), "WUPS_C", "WUPS_T", "WUPS_D"]
    strange = [f"{v}_{qid}" for v, several in said.items() for qid in several if (v, qid) not in asked]
    guessed = (
        "parts of speech are guessed, for NLTK or its tagger is not installed: pip install 'prismhub[wups]', then "
        "python -m nltk.downloader averaged_perceptron_tagger_eng; docs/score.md says how far it is off"
    )
    return Judgement(
        "nextqa-oe",
        PROTOCOLS[tagging is not None],
        len(asked),
        {name: 100 * sum(scores[name]) / len(scores[name]) if scores[name] else None for name in names},
        notes=id_note(strange, "answers are to no question of the truth", "they are ignored")
        + (() if tagging else (guessed,)),
    )


def _answers(file: Path) -> Answers:
    """What a file says to each question of each video."""
    content: Any = read_json(file)
    if not isinstance(content, dict):
        raise InputError(f"{file}: must be an object of videos, each an object of question ids and answers")
    for video, several in content.items():
        if not isinstance(several, dict):
            raise InputError(f"{file}: video {video!r}: must be an object of question ids and answers, not {several!r}")
        for qid, answer in several.items():
            if not isinstance(answer, str):
                raise InputError(f"{file}: video {video!r}: question {qid!r}: the answer must be text, not {answer!r}")
    return content
