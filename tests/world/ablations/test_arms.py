"""Check the arms of the ablations against the catalogs of datasets, exports and benchmarks."""

import pytest

from sa2va.data.catalog import DATASETS
from sa2va.evaluation.catalog import list_public
from sa2va.world.ablations.arms import ARMS, BASE, COLUMNS, TABLES
from sa2va.world.export.catalog import LAYOUTS


def test_every_dataset_is_exported_and_every_column_is_a_public_benchmark() -> None:
    exported = {name for layout in LAYOUTS.values() for name in layout.datasets}
    for arm in ARMS.values():
        names = [share.name for share in arm.datasets()]
        assert len(set(names)) == len(names) and set(names) <= exported & set(DATASETS)
    assert {column.benchmark for column in COLUMNS} <= set(list_public())


def test_groups_of_the_base_are_drawn_equally_and_an_arm_without_one_keeps_the_ratio_of_the_others() -> None:
    sums = [sum(group.values()) for group in BASE]
    assert sums == pytest.approx([sums[0]] * 4)
    for name, left_out in zip(
        ("no_image_qa", "no_image_segmentation", "no_video_qa", "no_video_segmentation"), BASE, strict=True
    ):
        weights = {share.name: share.number for share in ARMS["all"].datasets() if share.name not in left_out}
        assert {share.name: share.number for share in ARMS[name].datasets()} == weights


def test_tables_name_known_arms_and_columns_and_share_their_base() -> None:
    assert {row.arm for table in TABLES.values() for row in table.rows} == set(ARMS)
    for table in TABLES.values():
        assert table.rows[0].arm == "all"
        for row in table.rows:
            assert set(row.paper) <= {column.name for column in COLUMNS}
    assert [arm.seg_design for arm in TABLES["seg-tokens"].arms()] == ["", "repeat", "multiple"]


def test_only_the_engines_arm_reads_another_folder(tmp_path) -> None:
    for arm in ARMS.values():
        paths = {share.name: share.path for share in arm.datasets(tmp_path) if share.path}
        assert paths == ({"refsav": str(tmp_path)} if arm.name == "refsav_engine" else {})
