from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.features import (
    Example,
    InMemoryFeatures,
    digest_of,
    epoch_batches,
    ids_of,
    read_ahead,
    read_batch,
    targets_of,
)
from core_encoder.errors import InputError
from tests.adapters.toy import toy_features


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_sees_every_sample_once_in_even_batches(n: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = epoch_batches(n, batch_size, seed, epoch)
    assert sorted(i for batch in batches for i in batch) == list(range(n))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    assert batches == epoch_batches(n, batch_size, seed, epoch)


def test_epochs_and_seeds_differ() -> None:
    orders = {str(epoch_batches(50, 50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_read_ahead_keeps_the_order() -> None:
    data = InMemoryFeatures(torch.arange(12.0)[:, None], torch.zeros(12))
    batches = [[3, 4], [5], [0, 1, 2]]
    assert [[int(i) for i in batch.ids] for batch in read_ahead(data, batches)] == batches
    assert list(read_ahead(data, [])) == []


def test_the_next_batch_is_read_while_the_caller_works() -> None:
    class Announced(InMemoryFeatures):
        second_begun = threading.Event()

        def __getitem__(self, index: int) -> Example:
            if index == 1:
                self.second_begun.set()
            return super().__getitem__(index)

    data = Announced(torch.zeros(3, 1), torch.zeros(3))
    batches = read_ahead(data, [[0], [1], [2]])
    next(batches)
    assert data.second_begun.wait(10), "nobody asked for the second batch yet, and still it is being read"
    batches.close()


def test_errors_of_the_reader_arrive() -> None:
    class Broken(InMemoryFeatures):
        def __getitem__(self, index: int) -> Example:
            if index == 2:
                raise InputError("sample 2 is gone")
            return super().__getitem__(index)

    data = Broken(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(InputError, match="sample 2 is gone"):
        list(read_ahead(data, [[0], [1], [2], [3]]))


def test_shapes_that_differ_are_named() -> None:
    class Ragged(InMemoryFeatures):
        def __getitem__(self, index: int) -> Example:
            sample = super().__getitem__(index)
            return Example(sample.features[: 1 + index], None, sample.target, sample.id)

    data = Ragged(torch.zeros(2, 4, 3), torch.zeros(2), ids=["a", "b"])
    with pytest.raises(InputError, match=r"features of 'b' have shape \(2, 3\) but those of 'a' \(1, 3\)"):
        read_batch(data, [0, 1])


def test_a_plain_sequence_of_samples_is_a_data_set() -> None:
    samples = [Example(torch.ones(2), None, i % 2, f"s{i}") for i in range(3)]
    assert ids_of(samples) == ["s0", "s1", "s2"] and targets_of(samples) == [0, 1, 0]
    batch = read_batch(samples, [2, 0])
    assert batch.ids == ("s2", "s0") and batch.targets.tolist() == [0, 0] and batch.mask is None


def test_the_digest_sees_ids_targets_and_order() -> None:
    base = toy_features(6)
    same = toy_features(6, seed=5)
    assert digest_of(base) == digest_of(same), "the features themselves are not read"
    renamed = InMemoryFeatures(base.features, base.targets, ids=list("abcdef"))
    relabelled = InMemoryFeatures(base.features, base.targets.flip(0))
    assert len({digest_of(d) for d in (base, renamed, relabelled, toy_features(5))}) == 4


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="equally many"):
        InMemoryFeatures(torch.zeros(3, 2), [0, 1])
