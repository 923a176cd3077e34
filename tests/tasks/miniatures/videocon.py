"""VideoCon's lists of Something-Something in miniature: a row for every video with every template, and videos."""

from __future__ import annotations

from pathlib import Path

from tests.tasks.miniatures.clips import write_clip

TEMPLATES = {
    "temporal": (
        "Covering [something] with [something]",
        "Lifting up one end of [something], then letting it drop down",
        "Uncovering [something]",
    ),
    "events": ("Holding [something] next to [something]", "Pushing [something] so that it slightly moves"),
}
PROMPT = (
    "The following is a conversation between a curious human and AI assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions.\nHuman: <|video|>\n"
    'Human: Does this video entail the description: "{}"?\nAI: '
)


def write(folder: Path, each: int = 2) -> Path:
    """So many videos a template."""
    for split, templates in TEMPLATES.items():
        rows = []
        for number in range(each * len(templates)):
            video = f"{1 if split == 'temporal' else 2}0459{number}"
            write_clip(folder / "20bn-something-something-v2" / f"{video}.mp4")
            for place, template in enumerate(templates):
                caption = PROMPT.format(template).replace('"', '""')
                rows.append(f'videos/{video}.avi,"{caption}",{int(place == number // each)}\n')
        (folder / f"eval_ssv2_{split}.csv").write_text("videopath,caption,match\n" + "".join(rows))
    return folder
