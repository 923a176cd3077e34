from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from adapters import registry
from adapters.adapter import Adapter
from adapters.card import CONFIG_FILE
from adapters.context import Context
from adapters.kinds.linear import Linear, LinearConfig
from adapters.registry import (
    adapter_kind,
    adapter_kinds,
    describe_adapter,
    list_adapters,
    load_adapter,
    pull,
    register_adapter,
    registry_folder,
    remove_adapter,
    save_to_registry,
)
from adapters.saved_adapter import file_sha256, write_adapter
from adapters.scores import Score, Scores
from core_encoder.errors import InputError
from tests import ROOT


def head(seed: int = 0, labels: tuple[str, ...] = ("ant", "bee")) -> Adapter:
    return Linear.build({}, Context.of_classes(4, labels), seed=seed)


def test_every_save_is_a_new_version() -> None:
    first, second = head(0), head(1)
    assert save_to_registry(first, "pets").ref == "pets@v1"
    second.info = replace(second.info, evaluations=(Scores({"top1": Score(0.75, 0.6, 0.9)}, "top1", 30, 31, "test"),))
    assert save_to_registry(second, "pets").ref == "pets@v2"
    x = torch.randn(3, 4)
    assert torch.equal(load_adapter("pets").probabilities(x), second.probabilities(x)), "the newest by default"
    assert torch.equal(load_adapter("pets@v1").probabilities(x), first.probabilities(x))
    rows = list_adapters("pe*")
    assert [(row.ref, row.kind, row.num_classes, row.metric) for row in rows] == [
        ("pets@v1", "linear", 2, ""),
        ("pets@v2", "linear", 2, "top1 75.0 [60.0, 90.0]"),
    ]
    assert list_adapters("cars*") == [] and describe_adapter("pets").evaluations[0].n_evaluated == 30


def test_version_ten_follows_version_nine() -> None:
    for seed in range(10):
        save_to_registry(head(seed), "pets")
    x = torch.randn(2, 4)
    assert torch.equal(load_adapter("pets").probabilities(x), head(9).probabilities(x))
    assert [row.version for row in list_adapters()] == [f"v{i}" for i in range(1, 11)]


def test_removing() -> None:
    for seed in range(3):
        save_to_registry(head(seed), "pets")
    remove_adapter("pets@v2")
    assert [row.version for row in list_adapters()] == ["v1", "v3"]
    with pytest.raises(InputError, match="adapter 'pets' has no version 'v2'; it has v1, v3"):
        load_adapter("pets@v2")
    assert save_to_registry(head(), "pets").version == "v4", "a number is not given twice"
    remove_adapter("pets@v4")
    assert save_to_registry(head(), "pets").version == "v5", "not even after the newest was removed"
    remove_adapter("pets")
    assert list_adapters() == [] and [path.name for path in (registry_folder() / "pets").iterdir()] == [".last"]
    with pytest.raises(InputError, match="no adapter named 'pets'"):
        remove_adapter("pets")


@pytest.mark.parametrize("name", ["../../x", "..", "a/b", "", ".hidden", "con", "x" * 200, "a b", "é"])
def test_names_that_are_no_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="adapter name"):
        save_to_registry(head(), name)
    with pytest.raises(InputError, match="cannot be used|no adapter here|not in the local cache"):
        load_adapter(name)
    if "/" not in name:
        with pytest.raises(InputError, match="cannot be used"):
            remove_adapter(name)


def test_unknown_names_get_the_nearest() -> None:
    save_to_registry(head(), "pets")
    with pytest.raises(InputError, match="no adapter named 'petz'; did you mean 'pets'?"):
        load_adapter("petz")
    with pytest.raises(InputError, match="/nowhere/at/all: no adapter here"):
        load_adapter("/nowhere/at/all")


def _save(name: str, seed: int) -> str:
    return save_to_registry(head(seed), name).version


@pytest.mark.slow
def test_many_processes_save_at_once() -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        versions = pool.starmap(_save, [("pets", seed) for seed in range(8)])
    assert sorted(versions) == [f"v{i}" for i in range(1, 9)]
    assert len(list_adapters()) == 8 and all(load_adapter(row.ref) for row in list_adapters())
    assert not list(registry_folder().rglob("*.tmp"))


def test_two_saves_that_want_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    save_to_registry(head(0), "pets")
    monkeypatch.setattr(registry, "_versions", lambda folder: [])  # as another process saw it a moment ago
    aside = registry_folder() / "pets" / ".1.tmp"
    write_adapter(head(1), aside, "pets")
    assert registry._place(aside, registry_folder() / "pets").name == "v2"


def test_a_broken_entry_does_not_hide_the_others(caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(2):
        save_to_registry(head(seed), "pets")
    (registry_folder() / "pets" / "v1" / CONFIG_FILE).write_text("{")
    assert [row.ref for row in list_adapters()] == ["pets@v2"]
    assert "not valid JSON" in caplog.text


def test_a_saved_folder_is_a_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 4)
    adapter = head()
    adapter.save_pretrained(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    for ref in (tmp_path / "mine", str(tmp_path / "mine"), "./mine", "mine", Path("mine")):
        assert torch.equal(load_adapter(ref).probabilities(x), adapter.probabilities(x))
    assert pull("./mine", "other").ref == "other@v1"
    assert torch.equal(load_adapter("other").probabilities(x), adapter.probabilities(x))


def edited(folder: Path, **changes: Any) -> Path:
    file = folder / CONFIG_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 3}, "schema version 3 cannot be read by this prismhub, which reads 1 to 2"),
        ({"kind": "lineal"}, "unknown adapter kind 'lineal'; did you mean 'linear'?"),
        ({"kind": "map_classifier"}, "unknown option|lacks"),
        ({"targets": {"label_names": ["ant", "cow"]}}, "label names are not the ones that were saved"),
        ({"dim": -4}, "dim must be a whole number of at least 0, not -4"),
        ({"dim": 5}, r"holds 'classifier.weight' of shape \(2, 4\), not \(2, 5\)"),
        ({"weights_sha256": "0"}, "not the weights that were saved"),
        ({"colour": "red"}, "unknown option 'colour'"),
        ({"config": {"dropout": 0.1, "heads": 3}}, "unknown option 'heads'"),
        ({"config": {"dropout": 3}}, "dropout must be at least 0 and below 1"),
    ],
)
def test_an_altered_configuration_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = edited(head().save_pretrained(tmp_path / "mine"), **changes)
    with pytest.raises(InputError, match=message) as caught:
        load_adapter(folder)
    assert "\n" not in str(caught.value)


def test_another_class_list_is_refused(tmp_path: Path) -> None:
    folder = head(labels=("ant", "bee", "cat")).save_pretrained(tmp_path / "mine")
    assert load_adapter(folder, label_names=["ant", "bee", "cat"]).label_names == ("ant", "bee", "cat")
    with pytest.raises(InputError, match="knows 3 classes, not the 2 expected: class 2 is 'cat' instead of nothing"):
        load_adapter(folder, label_names=["ant", "bee"])
    with pytest.raises(InputError, match="class 1 is 'bee' instead of 'cat'"):
        load_adapter(folder, label_names=["ant", "cat", "bee"])


def test_missing_and_extra_tensors_are_named(tmp_path: Path) -> None:
    from core_encoder.files.storage import write_tensors

    adapter = head()
    folder = adapter.save_pretrained(tmp_path / "mine")
    tensors = adapter.state_dict()
    tensors["spare"] = tensors.pop("classifier.bias")
    write_tensors(folder / "adapter_model.safetensors", tensors)
    edited(folder, weights_sha256=file_sha256(folder / "adapter_model.safetensors"))
    with pytest.raises(InputError, match="has an unknown 'spare'; lacks 'classifier.bias'"):
        load_adapter(folder)


def test_a_hub_id_without_network_is_one_clear_line() -> None:
    with pytest.raises(InputError) as caught:
        load_adapter("someone/pets@main")
    assert str(caught.value) == (
        "adapter someone/pets@main: not in the local cache, and downloads are switched off: "
        "connect once, or give the name or the folder of a saved adapter"
    )


class Doubled(Linear):
    kind: ClassVar[str] = "doubled"
    Config: ClassVar[type] = LinearConfig

    def forward(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return 2 * super().forward(features, mask)


def test_a_registered_kind_is_like_any_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    with pytest.raises(InputError, match="unknown adapter kind 'doubled'"):
        adapter_kind("doubled")
    assert register_adapter(Doubled) is Doubled and "doubled" in adapter_kinds()
    register_adapter(Doubled)
    adapter = Doubled.build({}, Context.of_classes(4, ("ant", "bee")))
    assert isinstance(load_adapter(adapter.save_pretrained(tmp_path / "mine")), Doubled)
    with pytest.raises(InputError, match="'linear' exists already"):
        register_adapter(type("Mine", (Linear,), {}))
    with pytest.raises(InputError, match="adapter kind 'a b' cannot be used"):
        register_adapter(type("Mine", (Linear,), {"kind": "a b"}))


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """`plugged(kind, source)` installs a distribution whose entry point of that kind lives in a module of `source`."""

    def install(kind: str, source: str) -> None:
        module = f"plugin_{kind}"
        site = tmp_path / f"site-{kind}"
        about = site / f"{module}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[prismhub.adapters]\n{kind} = {module}:Head\n")
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(site))

    return install


def test_plug_ins_are_imported_only_when_asked_for(plugged: Callable[[str, str], None]) -> None:
    plugged(
        "third_party",
        """
        from adapters.kinds.linear import Linear

        class Head(Linear):
            kind = "third_party"
        """,
    )
    plugged("misnamed", "from adapters.kinds.linear import Linear as Head")
    with pytest.raises(InputError, match="'misnamed' of plug-in 'plugin_misnamed' is no adapter whose `kind` is"):
        adapter_kind("misnamed")
    plugged("broken", "raise RuntimeError('no luck today')")
    assert {"third_party", "broken", "linear", "map_classifier"} <= set(adapter_kinds())
    assert "plugin_third_party" not in sys.modules and "plugin_broken" not in sys.modules
    assert adapter_kind("linear") is Linear
    made = adapter_kind("third_party").build({}, Context.of_classes(3, ("ant", "bee")))
    assert made.kind == "third_party"
    with pytest.raises(InputError, match="'broken' of plug-in 'plugin_broken' cannot be imported: no luck today"):
        adapter_kind("broken")


def test_another_library_named_adapters_is_told_apart(tmp_path: Path) -> None:
    about = tmp_path / "adapters-1.2.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: adapters\nVersion: 1.2.0\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import adapters"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert ended.returncode == 1 and last.startswith("ImportError: prismhub's package 'adapters' and the library")
    assert "1.2.0 (AdapterHub)" in last


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, adapters, core_encoder.config, adapters.predictions; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
