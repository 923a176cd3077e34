"""The real SmolLM2-135M: converted once, it knows what it should, and it learns to say what videos show."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import prismhub
from adapters import load_adapter
from adapters.language.known_llms import find_llm
from adapters.language.language_model import LanguageModel, llm_fingerprint
from adapters.language.prompts import Prompts
from benchmarks.pretraining.caption_words import read_captions, word_shares
from pretrain.world.synthetic_world import write_dataset
from tests.language_models import need_smollm2
from tests.prismhub.small_data import one_object_class

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the real model, converted here."""
    need_smollm2()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(tmp_path_factory.mktemp("home of smollm2")))
        return find_llm("smollm2")


def test_the_real_model_is_converted_once_and_answers(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISMHUB_HOME", str(smollm2.parents[1]))
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace())  # not needed a second time
    assert find_llm("smollm2") == smollm2 and not [one for one in smollm2.parent.iterdir() if one != smollm2]
    monkeypatch.undo()
    llm = LanguageModel(smollm2).eval()
    assert llm.width == 576 and sum(one.numel() for one in llm.parameters()) == 134_515_008
    assert len(llm_fingerprint(smollm2)) == 64
    prompts = Prompts(llm.tokenizer, True, "Describe the video.", 16)
    nothing, none = torch.zeros(2, 0, 576), torch.zeros(2, 0, dtype=torch.bool)
    asked = [
        prompts.prompt_ids(one)
        for one in ("What is the capital of France?", "What is the capital city of the country of Japan?")
    ]
    said = [prompts.text_of(one) for one in llm.generate(nothing, none, asked, 16)]
    assert "Paris" in said[0] and "Tokyo" in said[1]
    towns = ["Paris", "London", "Berlin", "a banana"]
    scores = llm.score(nothing[:1], none[:1], asked[0], [prompts.answer_ids(one) for one in towns])
    assert scores.argmax() == 0 and scores.argmin() == 3


def test_it_learns_to_name_object_and_motion_which_a_blind_twin_cannot(
    smollm2: Path, private_home: Path, tmp_path: Path
) -> None:
    (private_home / "llms").mkdir()
    (private_home / "llms" / "smollm2").symlink_to(smollm2)
    things, motions = ("red circle", "blue star"), ("approaching", "moving left")
    shown = [one_object_class(thing, motion) for thing in things for motion in motions]
    write_dataset(tmp_path / "world", shown, {"train": 12, "val": 2, "test": 6}, size=64, num_frames=12)
    done = prismhub.train(
        data=str(tmp_path / "world"),
        adapter="llm_decoder",
        llm="smollm2",
        encoder="nano",
        name="words",
        blind=True,
        epochs=6,
        batch_size=8,
        lr=2e-3,
        head=["queries=8", "chat=false", "max_new_tokens=10"],
        accelerator="cpu",
    )
    seen, blind = (word_shares(*read_captions(run)) for run in (done.run, done.run / "blind"))
    assert blind["object and motion"].value <= 0.5  # it says one sentence, which is right for a quarter of the clips
    assert seen["object and motion"].value >= blind["object and motion"].value + 0.25
    assert done.result.blind is not None
    assert done.result.scores["cider"].value > 1.5 * done.result.blind.scores["cider"].value
    assert (done.folder / "adapter_model.safetensors").stat().st_size < 30_000_000  # the bridge alone
    adapter, video = load_adapter("words"), str(min((tmp_path / "world" / "test").rglob("*.mp4")))
    captions = [f"a {thing} {motion}" for thing in things for motion in motions]
    [ranked] = adapter.predict(video, given={"candidates": captions})
    [free] = adapter.predict(video)
    assert len(ranked.ranked) == 4 and free.text in captions and ranked.score == pytest.approx(free.score, abs=1e-2)
