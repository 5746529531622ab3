"""Check that a mixture draws every record as often as its share says, in batches of similar length."""

import pickle
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stored_layouts import write_refcoco

from sa2va.data import catalog
from sa2va.data.base import Generated
from sa2va.data.stored import Draw, DrawConfig, Extent, StoredDataset
from sa2va.training.config import apply_overrides
from sa2va.training.loader import StepSampler
from sa2va.training.mixture import GROUPED_STEPS, BatchOrder, DatasetShare, TokenCosts, TrainingMixture, open_mixture
from sa2va.training.stage import StageConfig
from sa2va.training.supervised import SupervisedConfig
from sa2va.types import Sample, Turn

COSTS = TokenCosts(picture=100, frame=10, num_frames=5)


@dataclass(frozen=True)
class Text:
    """Record of a dataset of texts: its length in characters."""

    length: int


class Texts(StoredDataset[Text]):
    """Texts of given lengths, without media."""

    def build_sample(self, record: Text, draw: Draw) -> Sample:
        word = "abcdefgh"[int(draw.rng.integers(8))]
        return Sample(turns=(Turn(question="?", answer=word * record.length),), task=self.name)

    def describe(self, record: Text) -> str:
        return f"text of {record.length}"

    def extent(self, index: int) -> Extent:
        return Extent(0, self.records[index].length)


def write_texts(name: str, lengths: tuple[int, ...], path: Path, *, split: str, draw: DrawConfig) -> Texts:
    assert split == "train"
    return Texts(name, [Text(length) for length in lengths], draw)


SIZES = {
    "few": (5, 900, 17),
    "some": tuple(range(3, 1200, 60)),
    "many": tuple(40 * (i * 7 % 97) + 1 for i in range(97)),
}


@pytest.fixture(autouse=True)
def datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, lengths in SIZES.items():
        monkeypatch.setitem(catalog.DATASETS, name, partial(write_texts, name, lengths))
    monkeypatch.setitem(catalog.DATASETS, "drawn", partial(Generated, lambda i: Sample(turns=(), task="drawn")))


def mix(tmp_path: Path, seed: int = 0, **repeats: float) -> TrainingMixture:
    shares = [DatasetShare(name=name, path=str(tmp_path), repeats=number) for name, number in repeats.items()]
    return open_mixture(shares, "", DrawConfig(), seed)


def order(mixture: TrainingMixture, batch_size: int, steps: int, group_size: int, seed: int = 0) -> BatchOrder:
    return BatchOrder(mixture, COSTS, batch_size, steps, group_size, seed)


@pytest.mark.parametrize("group_size", [0, 1, 11])
def test_an_epoch_draws_every_record_of_every_dataset_as_often_as_it_repeats(tmp_path: Path, group_size: int) -> None:
    mixture = mix(tmp_path, few=10, some=3, many=1)
    assert mixture.num_items(1) == 30 + 60 + 97
    keys = [key for drawn in [order(mixture, 11, 17, group_size)] for step in range(17) for key in drawn.keys(step)]
    counts = Counter((source, item) for _, source, item, _ in keys)
    assert sorted(index for index, *_ in keys) == list(range(187))
    for source, repeats in enumerate((10, 3, 1)):
        drawn = [counts[source, item] for item in range(len(mixture.datasets[source]))]
        assert abs(sum(drawn) - repeats * len(drawn)) <= 8  # the last block of the mixture is cut
        assert max(drawn) - min(drawn) <= 1  # no record is drawn again before all were
    assert all(epoch <= 10 for *_, epoch in keys)


@pytest.mark.parametrize("group_size", [0, 3])
def test_an_epoch_of_one_small_dataset_has_each_record_once(tmp_path: Path, group_size: int) -> None:
    drawn = order(mix(tmp_path, few=1), 3, 4, group_size)
    records = [sorted((item, epoch) for _, _, item, epoch in drawn.keys(step)) for step in range(4)]
    found = sorted(pair for step in records for pair in step)
    assert found == [(item, epoch) for item in range(3) for epoch in range(4)]


def test_two_openings_and_a_worker_have_the_same_order(tmp_path: Path) -> None:
    """The released loader shuffles each worker's indices anew, so that an epoch misses a third of the data."""
    one, other = (order(mix(tmp_path, seed=3, few=2, many=1), 6, 40, 3, seed=3) for _ in range(2))
    sent = pickle.loads(pickle.dumps(one)) if one.keys(7) else None
    assert sent is not None
    late = [other.keys(step) for step in range(30, 40)]
    assert late == [one.keys(step) for step in range(30, 40)] == [sent.keys(step) for step in range(30, 40)]
    assert late != [order(mix(tmp_path, few=2, many=1), 6, 40, 3).keys(step) for step in range(30, 40)]


def test_a_repeated_record_is_drawn_anew(tmp_path: Path) -> None:
    mixture = mix(tmp_path, few=9)
    drawn = order(mixture, 3, 9, 1)
    answers = [mixture.draw(key).turns[0].answer for step in range(9) for key in drawn.keys(step) if key[2] == 0]
    assert len(answers) == 9 and len(set(answers)) > 3
    assert mixture.describe((0, 0, 1, 4)) == "dataset few, text of 900, epoch 4"


@settings(max_examples=20, deadline=None)
@given(batch=st.sampled_from([4, 8, 12]), group=st.sampled_from([1, 2, 4]), steps=st.integers(1, 2 * GROUPED_STEPS + 3))
def test_every_item_is_used_exactly_once_and_steps_are_sorted(batch: int, group: int, steps: int) -> None:
    mixture = mix(Path("."), few=3, many=1)
    keys = [order(mixture, batch, steps, group).keys(step) for step in range(steps)]
    assert sorted(index for step in keys for index, *_ in step) == list(range(batch * steps))
    for step in keys:
        lengths = [COSTS.of(mixture.datasets[source].extent(item)) for _, source, item, _ in step]
        assert len(step) == batch and lengths == sorted(lengths)


@pytest.mark.parametrize(("num_processes", "accumulate"), [(1, 1), (1, 4), (2, 2), (4, 1), (4, 2)])
def test_processes_and_parts_do_not_change_the_batch_of_a_step(
    tmp_path: Path, num_processes: int, accumulate: int
) -> None:
    drawn = order(mix(tmp_path, some=1, many=2), 8, 20, 2)
    config = StageConfig(name="s", steps=20, batch_size=8, lr=1, accumulate=accumulate)
    found: list[list[Any]] = [[] for _ in range(20)]
    for rank in range(num_processes):
        sampler = StepSampler(drawn, config, range(20), rank=rank, num_processes=num_processes)  # ty: ignore
        for number, batch in enumerate(sampler):
            found[number // accumulate] += batch
    assert [sorted(step) for step in found] == [sorted(drawn.keys(step)) for step in range(20)]


def padding(drawn: BatchOrder, mixture: TrainingMixture, steps: int, width: int) -> float:
    """Return the padding of batches of `width` samples as a share of their tokens."""
    used = padded = 0
    for step in range(steps):
        keys = drawn.keys(step)
        lengths = [COSTS.of(mixture.datasets[source].extent(item)) for _, source, item, _ in keys]
        for start in range(0, len(lengths), width):
            part = lengths[start : start + width]
            used, padded = used + sum(part), padded + width * max(part)
    return 1 - used / padded


def test_groups_of_similar_length_need_less_padding_and_still_mix_datasets(tmp_path: Path) -> None:
    mixture = mix(tmp_path, few=10, some=2, many=1)
    mixed, grouped = order(mixture, 16, 100, 0), order(mixture, 16, 100, 4)
    assert padding(mixed, mixture, 100, 4) > 0.35
    assert padding(grouped, mixture, 100, 4) < 0.08
    sources = [{key[1] for key in grouped.keys(step)} for step in range(100)]
    assert sum(len(found) > 1 for found in sources) > 90
    assert len({tuple(key[1] for key in grouped.keys(step)) for step in range(100)}) > 50


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "group_size", "side_by_side"),
    [(64, 4, 0, 16), (64, 1, 0, 16), (256, 8, 0, 64), (8, 1, 8, 8), (5, 1, 0, 1), (1, 1, 0, 1), (6, 1, 2, 2)],
)
def test_at_most_a_quarter_of_a_step_has_one_length(
    batch_size: int, accumulate: int, group_size: int, side_by_side: int
) -> None:
    config = SupervisedConfig(
        name="s", datasets=(), batch_size=batch_size, accumulate=accumulate, group_size=group_size
    )  # fmt: skip
    assert config.side_by_side == side_by_side
    assert replace(config, group_by_length=False).side_by_side == 0


def test_steps_and_warmup_follow_from_the_size_of_the_mixture(tmp_path: Path) -> None:
    mixture = mix(tmp_path, few=10, some=3, many=1)
    config = SupervisedConfig(name="s", datasets=mixture.shares, batch_size=4, epochs=2)
    assert (config.of_mixture(mixture).steps, config.of_mixture(mixture).warmup_steps) == (94, 5)
    assert (
        replace(config, steps=20).of_mixture(mixture).steps,
        replace(config, steps=20).of_mixture(mixture).warmup_steps,
    ) == (20, 1)
    weighed = open_mixture([DatasetShare(name="drawn", weight=1)], "", DrawConfig(), 0)
    with pytest.raises(ValueError, match="steps is 0, and a mixture of weights has no epoch; set steps"):
        config.of_mixture(weighed)


def test_rows_show_wanted_and_drawn_shares(tmp_path: Path) -> None:
    mixture = mix(tmp_path, few=10, some=0, many=1)
    assert [share.name for share in mixture.shares] == ["few", "many"]
    wanted = [30 / 127, 97 / 127]
    before = mixture.rows({})
    assert [list(row) for row in before] == [["dataset", "records", "wanted"]] * 2
    assert [row["wanted"] for row in before] == pytest.approx(wanted)
    after = mixture.rows({"drawn few": 3, "drawn many": 9, "tokens": 7})
    assert [(row["drawn"], row["samples"], row["records"]) for row in after] == [(0.25, 3, 3), (0.75, 9, 97)]


def test_datasets_are_found_below_the_root_of_all_data(tmp_path: Path) -> None:
    write_refcoco(tmp_path / "ref_seg" / "refcoco")
    mixture = open_mixture([DatasetShare(name="refcoco", repeats=5)], str(tmp_path), DrawConfig(), 0)
    assert mixture.num_items(1) == 10 and len(mixture.draw((0, 0, 1, 0)).turns) > 1
    validation = DatasetShare(name="refcoco", repeats=1, split="val")
    assert open_mixture([validation], str(tmp_path), DrawConfig(), 0).num_items(1) == 1


def put(*numbers: dict[str, Any]) -> list[DatasetShare]:
    return [DatasetShare(**number) for number in numbers]


FEW = {"name": "few", "path": ".", "repeats": 1}
ENDLESS = {"name": "drawn", "weight": 1}


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        (put({"name": "refcoco", "repeats": 1}), "refcoco needs files: set data=ROOT, the folder that has ref_seg/ref"),
        (put(FEW | {"path": "gone"}, FEW | {"name": "many", "path": "away"}), "gone, away not found; put the data"),
        (put(FEW, FEW), "dataset few is twice"),
        (put(FEW, ENDLESS), "some datasets of the mixture have a weight and others repeats"),
        (put({"name": "drawn", "repeats": 1}), "dataset drawn is endless; give a weight"),
        (put(FEW | {"repeats": 0}), "no dataset of a share above 0 among few"),
        ([], "no dataset of a share above 0 among none"),
    ],
)
def test_a_mixture_that_cannot_be_drawn_is_one_line(shares: list[DatasetShare], told: str) -> None:
    with pytest.raises(ValueError) as caught:
        open_mixture(shares, "", DrawConfig(), 0)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("numbers", [{}, {"weight": 1, "repeats": 2}, {"weight": -1}])
def test_a_share_has_one_number(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="dataset x: "):
        DatasetShare(name="x", **numbers)


def test_overrides_change_add_and_replace_datasets() -> None:
    shares = (DatasetShare(name="refcoco+", repeats=5), DatasetShare(name="mevis", repeats=4))
    stage = SupervisedConfig(name="supervised", datasets=shares)

    def override(*words: str) -> dict[str, DatasetShare]:
        return {share.name: share for share in apply_overrides(stage, words).datasets}

    assert override("datasets.refcoco+.repeats=2")["refcoco+"].repeats == 2
    assert override("datasets.mevis.path=/data/a.b")["mevis"].path == "/data/a.b"
    assert override("datasets+=own:path=photos:repeats=3")["own"] == DatasetShare(name="own", path="photos", repeats=3)
    assert list(override("datasets=own:path=photos:repeats=3,few:repeats=.5")) == ["own", "few"]
    assert list(override("datasets+=own:repeats=1", "datasets.own.repeats=2", "datasets.mevis.repeats=0")) == [
        "refcoco+", "mevis", "own",
    ]  # fmt: skip
    assert apply_overrides(stage, ["draw.groups=union"]).draw.groups == "union"
    for word, told in {
        "datasets+=own": "dataset own: give either weight or repeats",
        "datasets+=own:share=3": "'share=3' is unknown; expected path=, split=, weight= or repeats=",
        "datasets+=own:repeats=x": "'repeats=x': expected a number",
        "datasets+=own:repeats=nan": "weight or repeats is nan; expected 0 or more",
        "datasets+=own:weight=inf": "weight or repeats is inf",
        "datasets.nothing.repeats=3": "no setting",
        "steps+=3": "only a list can be extended with +=; write steps=3",
        "datasets.mevis.name=x": "no setting",
    }.items():
        with pytest.raises(ValueError) as caught:
            override(word)
        assert told in str(caught.value) and "\n" not in str(caught.value)


def test_lengths_count_pictures_key_frames_and_characters() -> None:
    extents = [Extent(0, 40), Extent(1, 40), Extent(3, 40), Extent(60, 0)]
    assert [COSTS.of(extent) for extent in extents] == [10, 110, 40, 50]
    assert np.argsort([COSTS.of(extent) for extent in extents]).tolist() == [0, 2, 3, 1]
