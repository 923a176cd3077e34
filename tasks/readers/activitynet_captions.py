"""ActivityNet Captions: `{"v_<id>": {"duration", "timestamps": [[start, end]], "sentences": [text]}}`.

Source: train.json, val_1.json and val_2.json of Krishna et al. (arXiv 1705.00754). For retrieval the sentences of a
video are one paragraph, which tells the whole of it (CLIP4Clip, Frozen in Time).
"""

from __future__ import annotations

from core_encoder.clip_plan import Clip
from tasks.readers.captions import CaptionedSample
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.official_json import read_object


def read_paragraphs(data: DatasetFolder, split: str) -> list[CaptionedSample]:
    """The videos of `train`, `val_1` or `val_2`, each with its paragraph: the sentences, one space between two.

    Raises:
        InputError: one line with file, video, field and the fix.
    """
    content = read_object(data.file(f"{split}.json"))
    samples = []
    for written in content.values:
        entry = content.entry(written)
        sentences, spans = entry.texts("sentences"), entry.items("timestamps")
        if len(sentences) != len(spans):
            raise entry.error(f"{len(sentences)} sentences but {len(spans)} timestamps; give one for each")
        name = written.removeprefix("v_")
        clip = Clip(data.video(f"v_{name}", name))
        samples.append(CaptionedSample(name, clip, (), split, (" ".join(sentences),)))
    return samples
