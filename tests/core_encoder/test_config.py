from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

from adapters import adapter_kinds
from adapters.registry import adapter_kind
from adapters.training.training_config import TrainingConfig
from core_encoder.config import (
    config_from_dict,
    config_to_dict,
    convert_options,
    expand_grid,
    group,
    option,
    options_of,
    parse_grid,
)
from core_encoder.errors import InputError


@dataclass(frozen=True)
class Example:
    width: int = option(3, "a width")
    rate: float | None = option(None, "a rate")
    sizes: tuple[int, ...] = option((), "sizes")
    on: bool = option(False, "a switch")


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """Options of its own around those of a group, one of them without a default."""

    files: tuple[str, ...] = option(help="which files", positional=True)
    example: Example = group()
    again: bool = option(False, "once more")


def test_options_of_groups_are_options_of_the_whole() -> None:
    known = options_of(Grouped)
    assert list(known) == ["files", "width", "rate", "sizes", "on", "again"]
    assert {name: one.group for name, one in known.items() if one.group} == dict.fromkeys(
        ("width", "rate", "sizes", "on"), "example"
    )
    assert [name for name, one in known.items() if one.required] == ["files"]
    made = config_from_dict(Grouped, {"files": ["a"], "width": "5", "again": True})
    assert made == Grouped(files=("a",), example=Example(5), again=True)
    flat = config_to_dict(made)
    assert flat == {"files": ["a"], "width": 5, "rate": None, "sizes": [], "on": False, "again": True}
    assert config_from_dict(Grouped, flat) == made


def test_errors_of_groups_are_those_of_options() -> None:
    with pytest.raises(InputError, match=r"run\.yaml: option 'files' is missing: which files"):
        config_from_dict(Grouped, {"width": 5}, "run.yaml")
    with pytest.raises(InputError, match="unknown option 'widht'; did you mean 'width'?"):
        config_from_dict(Grouped, {"files": ["a"], "widht": 5})
    with pytest.raises(InputError, match="option 'example'|unknown option 'example'"):
        config_from_dict(Grouped, {"files": ["a"], "example": {}})
    assert convert_options(Grouped, {"width": "7"}) == {"width": 7}


def test_two_groups_cannot_have_an_option_of_one_name() -> None:
    @dataclass(frozen=True)
    class Twice:
        one: Example = group()
        width: int = option(1, "another width")

    with pytest.raises(AssertionError, match="two options of one name: .*width"):
        options_of(Twice)


def test_text_becomes_values() -> None:
    made = config_from_dict(Example, {"width": "5", "rate": "1e-3", "sizes": ["2", 3], "on": "true"})
    assert made == Example(5, 1e-3, (2, 3), True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widht": 1}, "run.yaml: unknown option 'widht'; did you mean 'width'?"),
        ({"width": 1.5}, "run.yaml: option 'width' cannot be 1.5"),
        ({"rate": "nan"}, "run.yaml: option 'rate' cannot be 'nan': input should be a finite number"),
        ({"sizes": "abc"}, "run.yaml: option 'sizes' cannot be 'abc'"),
    ],
)
def test_errors_name_the_key(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        config_from_dict(Example, values, "run.yaml")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_grid_is_a_product() -> None:
    assert expand_grid({"a": [1, 2], "b": [3, 4]}) == [
        {"a": 1, "b": 3},
        {"a": 1, "b": 4},
        {"a": 2, "b": 3},
        {"a": 2, "b": 4},
    ]
    assert parse_grid(["lr=1e-3, 3e-4", "dropout=0"]) == [
        {"lr": "1e-3", "dropout": "0"},
        {"lr": "3e-4", "dropout": "0"},
    ]
    assert parse_grid([]) == [{}]


@pytest.mark.parametrize("text", ["lr", "lr=", "=1", "lr=1,,2"])
def test_a_bad_grid_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not of the form option=value,value"):
        parse_grid([text])


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'lr' is given twice"):
        parse_grid(["lr=1", "lr=2"])


@pytest.mark.parametrize("config", [TrainingConfig, *(adapter_kind(kind).Config for kind in adapter_kinds())])
def test_every_option_has_a_help_text(config: type) -> None:
    assert all(field.metadata.get("help") for field in fields(config))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("lr", 0),
        ("weight_decay", -0.1),
        ("warmup_fraction", 1.0),
        ("patience", 0),
        ("precision", "fp16"),
        ("devices", 0),
    ],
)
def test_training_options_out_of_range(name: str, value: object) -> None:
    with pytest.raises(InputError, match=name):
        config_from_dict(TrainingConfig, {name: value})
