from __future__ import annotations

from sam_refine_cli.options.folders import DatasetName
from sam_refine_client.inputs.datasets import DATASETS, Dataset


def test_every_data_set_has_its_folders_and_its_name_on_the_command_line():
    assert set(DATASETS) == set(Dataset)
    assert {each.value for each in DatasetName} == {each.value for each in Dataset}
