"""Tampered adapters, encoders and checkpoints: refused in one line with exit code 2; no code runs, memory is bounded.

Where the digest of a tampered file is written beside it, it is written anew: who tampers can do that too.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import core_encoder
from adapters.card import CONFIG_FILE, WEIGHTS_FILE
from benchmarks.reliability import tampering as by
from benchmarks.reliability.commands import Ended, prismhub
from benchmarks.reliability.jobs import Place, Pretrain, Train, write_classes
from benchmarks.reliability.stored import file_digest
from benchmarks.reliability.tally import Ground, Tally
from core_encoder.files.storage import read_json, write_json

LIMIT_S = 300.0
MORE_BYTES = 300_000_000  # than the same command takes with files that are whole
NANO = Path(core_encoder.__file__).parent / "nano"
_WHAT_TO_DO = ("--encoder", "restart the run", "known: ")  # of refusals that name no file
_SHA = "weights_sha256"


@dataclass(frozen=True)
class Case:
    """A file of a folder and what is done to it; `harmless` where taking it as it was is as good as refusing it."""

    what: str  # the kind of folder: adapter, head, encoder, training, pretraining
    file: str
    name: str
    tamper: by.Tamper
    sign: bool = True
    harmless: bool = False


def _cases() -> list[Case]:
    """Every case, those first that the small campaign takes."""
    foreign, etc = "0" * 64, "../../../../../../etc/passwd"
    weights: list[tuple[str, by.Tamper]] = [
        (one.__name__, one)
        for one in (by.pickled, by.header_length_lies, by.header_bits_flipped, by.offsets_negative, by.offsets_beyond)
    ]
    weights += [
        (one.__name__, one)
        for one in (by.offsets_overlap, by.shape_huge, by.shape_other, by.dtype_unknown, by.tensor_renamed)
    ]
    weights += [(one.__name__, one) for one in (by.values_nan, by.cut, by.empty, by.pickled_in_zip, by.pickle_instead)]
    weights += [("link to /etc/passwd", by.link_to("/etc/passwd")), ("link to /dev/zero", by.link_to("/dev/zero"))]
    weights += [("pipe", by.pipe), ("folder", by.folder_instead)]
    texts: list[tuple[str, by.Tamper]] = [
        (one.__name__, one) for one in (by.json_huge, by.json_deep, by.json_cut, by.json_list, by.json_binary)
    ]
    links = [("link to /etc/passwd", by.link_to("/etc/passwd")), ("link to /dev/zero", by.link_to("/dev/zero"))]
    adapter = [
        ("kind that leads elsewhere", by.changed(kind="os.system")),
        ("kind with a path", by.changed(kind="../../evil")),
        ("asset that leads elsewhere", by.changed(assets={etc: foreign})),
        ("asset of an absolute path", by.changed(assets={"/etc/passwd": foreign})),
        ("asset that holds code", by.changed(assets={"evil.py": foreign})),
        ("foreign fingerprint", by.changed(features__fingerprint=foreign)),
        ("width of 10^15", by.changed(dim=10**15)),
        ("frames of 10^15", by.changed(features__plan__num_frames=10**15)),
        ("picture of 10^9 pixels a side", by.changed(features__preprocessing__image_size=10**9)),
        ("encoder in /etc", by.changed(encoder_source="/etc")),
        ("config that is no config", by.changed(config={"__class__": "os.system"})),
    ]
    encoder = [
        ("model type that leads elsewhere", by.changed(model_type="../../evil")),
        ("width of 10^9", by.changed(vision_config__hidden_size=10**9)),
        ("layers of 10^9", by.changed(vision_config__num_spatial_layers=10**9)),
        ("heads that do not divide", by.changed(vision_config__num_attention_heads=7)),
        ("negative picture", by.changed(vision_config__image_size=-48)),
    ]
    head = [
        ("hidden width of 10^7", by.changed(config__hidden=10**7)),
        ("MLP of 10^9 times its width", by.changed(config__mlp_ratio=1e9)),
    ]
    cases = [Case("adapter", WEIGHTS_FILE, "bit_flipped", by.bit_flipped, sign=False)]
    cases += [Case("adapter", WEIGHTS_FILE, name, tamper) for name, tamper in weights]
    cases += [Case("adapter", CONFIG_FILE, name, tamper, sign=False) for name, tamper in [*texts, *links, *adapter]]
    cases += [Case("head", CONFIG_FILE, name, tamper, sign=False) for name, tamper in head]
    cases += [Case("adapter", CONFIG_FILE, "auto_map", by.auto_map, sign=False, harmless=True)]
    cases += [Case("encoder", "model.safetensors", name, tamper) for name, tamper in weights]
    cases += [Case("encoder", "config.json", name, tamper) for name, tamper in [*texts, *links, *encoder]]
    cases += [Case("encoder", "config.json", "auto_map", by.auto_map, harmless=True)]
    few = ("pickled", "header_length_lies", "header_bits_flipped", "shape_other", "tensor_renamed", "cut", "values_nan")
    for what, file in (("training", "checkpoint.safetensors"), ("pretraining", "checkpoint-*.safetensors")):
        cases += [Case(what, file, name, tamper) for name, tamper in weights if name in few]
    return cases


CASES = _cases()
SMALL = ("pickled", "auto_map", "json_deep")


def tampered(ground: Ground, cases: Sequence[Case] = ()) -> Tally:
    """Tamper with each kind of folder in every way, and have a command load it."""
    chosen = cases or [case for case in CASES if not ground.small or (case.name in SMALL and case.what == "adapter")]
    tally = Tally()
    bases = _Bases(ground)
    whole = {what: bases.load(what, bases.copy(what, "whole")) for what in dict.fromkeys(case.what for case in chosen)}
    for what, ended in whole.items():
        tally.faults += [f"untampered {what}: {fault}" for fault in ended.faults(0)]
    most = 0
    for number, case in enumerate(chosen):
        folder = bases.copy(case.what, str(number))
        canary = ground.folder / f"canary-{number}"
        (file,) = sorted(folder.rglob(case.file))[-1:]
        case.tamper(file, ground.chance("tampered", case.what, case.name), canary)
        if case.what == "adapter" and case.sign and file.is_file():
            write_json(folder / CONFIG_FILE, read_json(folder / CONFIG_FILE) | {_SHA: file_digest(file)})
        ended = bases.load(case.what, folder)
        most = max(most, ended.peak_bytes - whole[case.what].peak_bytes)
        faults = _faults(case, ended, whole[case.what], canary)
        if ended.code:
            named = any(word in line for line in ended.said for word in (folder.name, file.name, *_WHAT_TO_DO))
            tally.refuse(f"{case.what}, {case.file}, {case.name}: {ended.err.strip()[-300:]}", named)
        tally.count([f"{case.what}, {case.file}, {case.name}: {fault}" for fault in faults])
        if not faults:
            shutil.rmtree(folder)
        ground.say(f"  {number + 1} of {len(chosen)}: {case.what}, {case.file}, {case.name}")
    tally.measured["most memory beyond whole files, MB"] = round(most / 1e6)
    return tally


def _faults(case: Case, ended: Ended, whole: Ended, canary: Path) -> list[str]:
    """What is wrong with how a command took a tampered folder."""
    faults = ["its code was run"] if canary.exists() else []
    if ended.code == 0:
        if not case.harmless:
            faults.append("it was taken for whole")
    else:
        faults += ended.faults(2)
    if ended.peak_bytes > whole.peak_bytes + MORE_BYTES:
        faults.append(f"it took {(ended.peak_bytes - whole.peak_bytes) / 1e6:.0f} MB more than whole files")
    return faults


class _Bases:
    """Whole folders of each kind, made when the first copy is asked for, and the command that loads one."""

    def __init__(self, ground: Ground) -> None:
        self.ground, self.folder = ground, ground.folder
        self.home = self.folder / "home"
        write_classes(self.folder / "videos", 8, ground.seed)
        self.video = min((self.folder / "videos").rglob("*.mp4"))
        self.jobs = {"training": Train(), "pretraining": Pretrain()}

    def copy(self, what: str, name: str) -> Path:
        """A copy of a whole folder."""
        base = self.folder / f"whole-{what}"
        if not base.exists():
            getattr(self, f"_make_{what}")(base)
        return shutil.copytree(base, self.folder / f"{what}-{name}")

    def load(self, what: str, folder: Path) -> Ended:
        """Run the command that loads it."""
        if what in ("adapter", "head"):
            return self._run("predict", self.video, "--adapter", folder)
        if what == "encoder":
            return self._run("encode", self.video, "--encoder", folder, "--store", folder / "features")
        return self._run(*self.jobs[what].words(self.folder / f"data-{what}", Place(folder)), home=folder / "home")

    def _run(self, *words: str | Path, home: Path | None = None) -> Ended:
        return prismhub(*words, home=home or self.home, limit_s=LIMIT_S)

    def _make_adapter(self, base: Path) -> None:
        self._train("linear", base)

    def _make_head(self, base: Path) -> None:
        self._train("map_classifier", base)

    def _train(self, kind: str, base: Path) -> None:
        how = ("--adapter", kind, "--epochs", "2", "--val-fraction", "0", "--name", f"whole-{kind}")
        self._run("train", "--data", self.folder / "videos", *how)
        shutil.copytree(self.home / "adapters" / f"whole-{kind}" / "v1", base)

    def _make_encoder(self, base: Path) -> None:
        shutil.copytree(NANO, base)

    def _make_training(self, base: Path) -> None:
        self._make_run("training", base)

    def _make_pretraining(self, base: Path) -> None:
        self._make_run("pretraining", base)
        for encoder in base.rglob("encoder"):  # the checkpoint is read again where what was made of it is gone
            shutil.rmtree(encoder)

    def _make_run(self, what: str, base: Path) -> None:
        place, data = Place(base), self.folder / f"data-{what}"
        self.jobs[what].prepare(data, Ground(self.folder, self.ground.seed, small=True))
        base.mkdir()
        self._run(*self.jobs[what].words(data, place), home=place.home)
