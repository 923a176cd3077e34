"""Charades-STA: `3MSZA 24.3 30.4##person turn a light on.` a line: video, start and end in seconds, sentence.

Source: charades_sta_train.txt and charades_sta_test.txt of Gao et al. (TALL, arXiv 1705.02101). VideoPrism's multiple
choice cuts every moment out and asks which of all sentences of its video belongs to it.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.fields import seconds_of
from core_encoder.files.storage import read_utf8
from tasks.readers.dataset_folder import DatasetFolder
from tasks.sample import ChoiceSample

SEVERAL, SINGLE = "several", "single"


def read_moments(data: DatasetFolder, split: str) -> list[ChoiceSample]:
    """The moments of a split (`train`, `test`), each to choose its sentence for.

    Their kind is `several`, or `single` where the video has one sentence alone, or one that is written several times.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    file = data.file(f"charades_sta_{split}.txt")
    moments, sentences = [], defaultdict(list)
    for line, text in enumerate(read_utf8(file).split("\n"), start=1):
        if not text.strip():
            continue
        times, _, sentence = text.partition("##")
        fields = times.split()
        if len(fields) != 3 or not sentence.strip():
            raise InputError(f"{file}: line {line}: {text!r} is not 'video start end##sentence'")
        video = fields[0]
        try:
            start_s, end_s = (seconds_of(one) for one in fields[1:])
        except ValueError as error:
            raise InputError(f"{file}: line {line}: {error}; times are seconds") from None
        if end_s <= start_s:
            raise InputError(f"{file}: line {line}: end {end_s:g} is not after start {start_s:g}")
        moments.append((video, start_s, end_s, sentence.strip()))
        sentences[video].append(sentence.strip())
    if not moments:
        raise InputError(f"{file}: holds no moment")
    samples, counted = [], Counter[str]()
    for video, start_s, end_s, sentence in moments:
        counted[video] += 1
        options = tuple(dict.fromkeys(sentences[video]))
        kind = SEVERAL if len(options) > 1 else SINGLE
        clip = Clip(data.video(video), start_s, end_s)
        name = f"{video}_{counted[video]}"
        samples.append(ChoiceSample(name, clip, (), split, options, sentence, kind=kind))
    return samples
