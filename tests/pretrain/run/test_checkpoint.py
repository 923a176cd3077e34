"""Checkpoints: exact, whole or absent, the newest few kept, and refused when they are another run's."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core_encoder.errors import InputError
from core_encoder.files import storage
from core_encoder.files.storage import read_tensors, write_tensors
from fit.checkpoint import full_tensor
from pretrain.recipe import PartConfig
from pretrain.run.checkpoint import checkpoints, latest_checkpoint, load_checkpoint, read_about, save_checkpoint
from pretrain.stages.optimizer import build_optimizer


class Net(nn.Module):
    """A matrix, a vector, a scalar, a frozen parameter and a buffer that changes."""

    def __init__(self, seed: int, width: int = 5) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.linear = nn.Linear(width, 3)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.locked = nn.Parameter(torch.randn(3, generator=generator), requires_grad=False)
        self.register_buffer("mean", torch.zeros(3))
        with torch.no_grad():
            for parameter in self.linear.parameters():
                parameter.normal_(generator=generator)

    def loss(self, x: Tensor) -> Tensor:
        y = self.linear(x) * self.scale + self.locked
        self.mean.lerp_(y.detach().mean(0), 0.5)
        return (y - self.mean).square().mean()


def config(name: str) -> PartConfig:
    return PartConfig(optimizer=name, lr=0.05, weight_decay=0.01)  # type: ignore[arg-type]


def train(net: Net, optimizer: torch.optim.Optimizer, ema: dict[str, Tensor], first: int, last: int) -> list[float]:
    losses = []
    for step in range(first, last):
        optimizer.zero_grad()
        loss = net.loss(torch.randn(4, 5, generator=torch.Generator().manual_seed(step)))
        loss.backward()
        optimizer.step()
        for name, parameter in net.named_parameters():
            if name in ema:
                ema[name].lerp_(parameter.detach(), 0.1)
        losses.append(loss.item())
    return losses


def averages(net: Net) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def saved(folder: Path, step: int = 3, seed: int = 0, keep: int = 2, **about: Any) -> Path:
    net = Net(seed)
    optimizer = build_optimizer(net, config("adamw"))
    train(net, optimizer, {}, 0, 1)
    return save_checkpoint(folder, step, net, optimizer, {}, about, keep)


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
@pytest.mark.parametrize("averaged", [False, True])
def test_going_on_from_a_checkpoint_equals_never_having_stopped(tmp_path: Path, name: str, averaged: bool) -> None:
    net = Net(0)
    optimizer = build_optimizer(net, config(name))
    ema = averages(net) if averaged else {}
    train(net, optimizer, ema, 0, 4)
    path = save_checkpoint(tmp_path, 4, net, optimizer, ema, {"last": {"loss": 0.5}, "stream_state": None}, keep=2)
    expected = train(net, optimizer, ema, 4, 9)

    resumed = Net(1)
    other = build_optimizer(resumed, config(name))
    other_ema = averages(resumed) if averaged else {}
    about = load_checkpoint(path, resumed, other, other_ema)
    assert about == {"last": {"loss": 0.5}, "stream_state": None, "step": 4}
    assert train(resumed, other, other_ema, 4, 9) == expected
    for key, tensor in net.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], tensor), key
    for key, tensor in ema.items():
        assert torch.equal(other_ema[key], tensor), key
    for (_, mine), (_, theirs) in zip(net.named_parameters(), resumed.named_parameters(), strict=True):
        state = optimizer.state.get(mine, {})
        assert state.keys() == other.state.get(theirs, {}).keys()
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(other.state[theirs][key])), key


def test_bf16_weights_come_back_bit_by_bit(tmp_path: Path) -> None:
    net, other = Net(0).to(torch.bfloat16), Net(1).to(torch.bfloat16)
    path = save_checkpoint(tmp_path, 1, net, build_optimizer(net, config("adamw")), {}, {}, keep=1)
    load_checkpoint(path, other, build_optimizer(other, config("adamw")), {})
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in net.state_dict().items())


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None and latest_checkpoint(tmp_path / "nowhere") is None
    (tmp_path / "checkpoint-12.safetensors").write_bytes(b"not ours")
    (tmp_path / "notes.txt").write_text("mine")
    for step in (9, 10, 100, 11):
        saved(tmp_path, step, keep=3)
    assert [read_about(path)["step"] for path in checkpoints(tmp_path)] == [10, 11, 100]
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-00000100.safetensors"
    assert (tmp_path / "checkpoint-12.safetensors").exists() and (tmp_path / "notes.txt").exists()


def test_a_process_that_does_not_write_leaves_the_folder_alone(tmp_path: Path) -> None:
    net = Net(0)
    for step in (1, 2):
        saved(tmp_path, step)
    before = sorted(tmp_path.iterdir())
    save_checkpoint(tmp_path, 3, net, build_optimizer(net, config("adamw")), {}, {}, keep=1, is_writer=False)
    assert sorted(tmp_path.iterdir()) == before


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    aside = tmp_path / ".checkpoint-00000007.safetensors.123-abc.tmp"
    aside.write_bytes(b"half")
    (tmp_path / ".other.tmp").write_bytes(b"mine")
    assert latest_checkpoint(tmp_path) == path
    assert not aside.exists() and (tmp_path / ".other.tmp").exists()


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "text", "no header", "missing"])
def test_a_damaged_checkpoint_is_one_line_that_says_what_to_do(tmp_path: Path, damage: str) -> None:
    path = saved(tmp_path)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-20])
    elif damage == "header":
        path.write_bytes(content[:40])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_bytes(b"hello " * 100)
    elif damage == "no header":
        write_tensors(path, read_tensors(path))
    else:
        path.unlink()
    net = Net(1)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    optimizer = build_optimizer(net, config("adamw"))
    for read in (lambda: read_about(path), lambda: load_checkpoint(path, net, optimizer, {})):
        with pytest.raises(InputError) as caught:
            read()
        line = str(caught.value)
        assert line.startswith(str(path)) and "\n" not in line and "delete it" in line
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())


def refusal(path: Path, net: nn.Module, ema: dict[str, Tensor]) -> str:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_checkpoint(path, net, build_optimizer(net, config("adamw")), ema)
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())  # all or nothing
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def test_another_models_weights_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert "another model's weights" in refusal(path, nn.Linear(5, 3), {})
    assert "linear.weight" in refusal(path, Net(1, width=1), {})  # (3, 1) would broadcast the wrong way round
    assert "linear.weight" in refusal(path, Net(1, width=7), {})
    narrow = save_checkpoint(tmp_path / "narrow", 1, net := Net(0, 1), build_optimizer(net, config("adamw")), {}, {}, 1)
    assert "linear.weight" in refusal(narrow, Net(1), {})  # (3, 1) broadcasts to (3, 5)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("weights/linear.weight", lambda tensor: tensor * float("nan"), "NaN or infinity in weights/linear.weight"),
        ("optimizer/linear.bias/exp_avg", lambda tensor: tensor[None], "state of another shape"),
    ],
)
def test_tampered_tensors_are_refused(tmp_path: Path, name: str, change: Any, says: str) -> None:
    path = saved(tmp_path)
    tensors = read_tensors(path)
    write_tensors(path, tensors | {name: change(tensors[name])}, {"about": json.dumps(read_about(path))})
    net = Net(1)
    with pytest.raises(InputError, match=says):
        load_checkpoint(path, net, build_optimizer(net, config("adamw")), {})


def test_a_missing_moving_average_is_refused(tmp_path: Path) -> None:
    net = Net(1)
    assert "ema/" in refusal(saved(tmp_path), net, averages(net))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_older_checkpoints_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    older = [saved(tmp_path, step, keep=2) for step in (1, 2)]
    contents = [path.read_bytes() for path in older]

    def full(descriptor: int) -> None:
        raise OSError(number, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(storage.os, "fsync", full)
        with pytest.raises(InputError, match=r"checkpoint-00000003.safetensors: the disk is full"):
            saved(tmp_path, 3, keep=2)
    assert [path.read_bytes() for path in older] == contents
    assert sorted(tmp_path.iterdir()) == older  # nothing half-written either
    assert latest_checkpoint(tmp_path) == older[-1]
    assert saved(tmp_path, 3, keep=2).exists() and checkpoints(tmp_path)[0] == older[1]


def test_the_header_says_where_the_run_stood(tmp_path: Path) -> None:
    about = {"seconds": 1.5, "stream_state": {"0": [1, "ü"]}, "last": {}}
    assert read_about(saved(tmp_path, 5, **about)) == json.loads(json.dumps(about)) | {"step": 5}


def test_a_full_tensor_is_a_copy_without_gradients() -> None:
    parameter = nn.Parameter(torch.ones(2))
    assert not full_tensor(parameter).requires_grad and torch.equal(full_tensor(parameter), torch.ones(2))
