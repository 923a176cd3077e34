"""The judge of open answers against the official loop, restated over the small WordNet."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core_encoder.errors import InputError
from tasks.judges import judge
from tasks.metrics.lemmas import Lemmatizer
from tasks.metrics.lexicon import Lexicon
from tests.tasks.metrics.small_wordnet import write_lexicon

COLUMNS = ("video", "frame_count", "width", "height", "question", "answer", "qid", "type")
WORDS = ("dog", "dogs", "puppy", "cat", "men", "walking", "ran", "sang", "large", "big", "the", "not", "xyz", "")
TYPES = ("CW", "CH", "TN", "TP", "TC", "DB", "DC", "DL", "DO")
Question = tuple[str, str, str, str]  # video, qid, type, answer


@pytest.fixture(autouse=True)
def lexicon(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Lexicon:
    folder = write_lexicon(tmp_path_factory.mktemp("lexicon"))
    monkeypatch.setenv("WNSEARCHDIR", str(folder))
    monkeypatch.setattr("tasks.judges.nextqa_oe.nltk_tagging", lambda: None)
    return Lexicon(folder)


def one_way(words: list[str], others: list[str], lexicon: Lexicon) -> float:
    value, alike = 1.0, False
    for word in words:
        best = max((lexicon.similarity(word, other) for other in others), default=0.0)
        if best:
            value, alike = value * best, True
    return value if alike else 0.0


def eval_oe(asked: list[Question], said: Any, more: Any, lexicon: Lexicon) -> dict[str, float | None]:
    """`evaluate` of `eval_oe.py`: sums by type, then by the first letter of the type, then of all."""
    cleaned = Lemmatizer(lexicon).content_words
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for video, qid, kind, answer in asked:
        kind = "TN" if kind in ("TN", "TP") else kind
        mine = list(cleaned(said[video][qid]))
        right = [list(cleaned(answer))] + ([list(cleaned(more[video][qid]))] if video in more else [])
        if kind in ("DC", "DB"):
            score = 1.0 if " ".join(mine) in [" ".join(one) for one in right] else 0.0
        else:
            score = max(min(one_way(mine, one, lexicon), one_way(one, mine, lexicon)) for one in right)
        sums[kind] += score
        counts[kind] += 1
    groups = {f"WUPS_{kind}": [kind] for kind in ("CW", "CH", "TN", "TC", "DB", "DC", "DL", "DO")}
    groups |= {f"WUPS_{letter}": [kind for kind in counts if kind[0] == letter] for letter in "CTD"}
    groups["WUPS"] = list(counts)
    return {
        name: 100 * sum(sums[kind] for kind in kinds) / total
        if (total := sum(counts[kind] for kind in kinds))
        else None
        for name, kinds in groups.items()
    }


def write(folder: Path, asked: list[Question], said: Any, more: Any = None) -> dict[str, Any]:
    with (folder / "truth.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(
            [video, 300, 640, 480, "what is there", answer, qid, kind] for video, qid, kind, answer in asked
        )
    (folder / "said.json").write_text(json.dumps(said))
    if more is None:
        return {}
    (folder / "more.json").write_text(json.dumps(more))
    return {"references": folder / "more.json"}


def judged(folder: Path, asked: list[Question], said: Any, more: Any = None) -> Any:
    options = write(folder, asked, said, more)
    return judge("nextqa-oe", folder / "truth.csv", folder / "said.json", **options)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_it_is_the_official_value(tmp_path_factory: pytest.TempPathFactory, lexicon: Lexicon, seed: int) -> None:
    rng = np.random.default_rng(seed)

    def text() -> str:
        return " ".join(rng.choice(WORDS, int(rng.integers(0, 4))).tolist())

    asked = [(f"{4000 + q // 3}", str(q % 3), str(rng.choice(TYPES)), text()) for q in range(int(rng.integers(1, 16)))]
    said: Any = defaultdict(dict)
    more: Any = defaultdict(dict)
    for video, qid, _, _ in asked:
        said[video][qid] = text()
        if int(video) % 2:
            more[video][qid] = text()
    said["elsewhere"] = {"0": "dog"}
    found = judged(tmp_path_factory.mktemp("files"), asked, said, more if seed % 3 else None)
    expected = eval_oe(asked, said, more if seed % 3 else {}, lexicon)
    assert found.metrics == {key: None if value is None else pytest.approx(value) for key, value in expected.items()}
    assert found.notes[0] == "1 answers are to no question of the truth ('elsewhere_0'): they are ignored"
    assert found.n == len(asked) and found.protocol == "nextqa-oe-wups-guessed-v1" and "guessed" in found.notes[1]


def test_a_tagger_makes_it_the_official_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tagging = (lambda words: ["noun"] * len(words)), str
    monkeypatch.setattr("tasks.judges.nextqa_oe.nltk_tagging", lambda: tagging)
    asked, said = [("1", "0", "CW", "walk")], {"1": {"0": "walking"}}
    found = judged(tmp_path, asked, said)
    assert (found.protocol, found.notes, found.metrics["WUPS"]) == ("nextqa-oe-wups-v1", (), 100.0)  # first meanings


def test_every_question_needs_an_answer(tmp_path: Path) -> None:
    asked = [("1", str(q), "CW", "dog") for q in range(5)]
    with pytest.raises(InputError, match=r"4 of 5 questions of .* have no answer \(1_1, 1_2, 1_3, ...\)"):
        judged(tmp_path, asked, {"1": {"0": "dog"}})


@pytest.mark.parametrize(
    ("asked", "said", "says"),
    [
        ([("1", "0", "XX", "dog")], {"1": {"0": "dog"}}, "truth.csv: line 2: type 'XX' is no type of question"),
        ([("1", "0", "CW", "dog")] * 2, {"1": {"0": "dog"}}, "line 3: question '0' of video '1' is there twice"),
        ([], {}, "truth.csv: holds no question"),
        ([("1", "0", "CW", "dog")], {"1": {"0": 3}}, "said.json: video '1': question '0': the answer must be text"),
        ([("1", "0", "CW", "dog")], {"1": "dog"}, "said.json: video '1': must be an object of question ids"),
        ([("1", "0", "CW", "dog")], [], "said.json: must be an object of videos"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, asked: list[Question], said: Any, says: str) -> None:
    with pytest.raises(InputError) as error:
        judged(tmp_path, asked, said)
    assert says in str(error.value)
