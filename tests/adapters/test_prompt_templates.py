"""Sets of templates: those of CLIP, those of a file, their digests, and names that are neither."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from adapters import prompt_templates
from adapters.prompt_templates import bundled_templates, given_templates, read_templates
from core_encoder.errors import InputError

PUBLISHED = {  # a set never changes: another text is another version
    "clip-imagenet-v1": (80, "a bad photo of a {}.", "a tattoo of the {}."),
    "clip-kinetics-v1": (28, "a photo of {}.", "a demonstration of a person practicing {}."),
}


def test_the_sets_of_clip_are_whole() -> None:
    assert bundled_templates() == sorted(PUBLISHED)
    for name, (count, first, last) in PUBLISHED.items():
        found = read_templates(name)
        assert (len(set(found.templates)), found.templates[0], found.templates[-1]) == (count, first, last)
        file = Path(prompt_templates.__file__).parent / "prompts" / f"{name}.txt"
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert found.describe() == {"templates": name, "templates_sha256": digest}


def test_a_file_and_words_have_a_digest_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("a video of {}\n# more\n\nthis is {}\n")
    found = read_templates(str(file))
    assert found.templates == ("a video of {}", "this is {}") and found.name == "mine.txt"
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert read_templates("a video of {}") == given_templates(["a video of {}"])
    with pytest.raises(InputError, match="did you mean 'clip-kinetics-v1'"):
        read_templates("clip-kinetics")
