"""How published data sets lie on disk: where images are, and where their label maps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final


class Dataset(str, Enum):
    """A data set, or a tool, whose folders others follow."""

    CITYSCAPES = "cityscapes"
    HUGGINGFACE = "huggingface"
    MMSEGMENTATION = "mmsegmentation"


@dataclass(frozen=True)
class DatasetFolders:
    """Names below the root of a data set."""

    images: str
    """The folder that has a folder for each split."""
    cut_suffix: str
    """The end of the images' stems that label maps do not have."""
    labels: str
    """Label maps without their ending; {name} is an image's folder and stem."""
    are_listed: bool = False
    """Whether images and label maps, {label}, are those of `image_lists`."""

    def label_maps(self, root: Path) -> Path:
        """The pattern of all label maps, for `ImageFile.companion`."""
        return Path(str(root).replace("{", "{{").replace("}", "}}")) / f"{self.labels}.png"


DATASETS: Final[dict[Dataset, DatasetFolders]] = {
    # leftImg8bit/train/aachen/aachen_0_leftImg8bit.png
    # gtFine/train/aachen/aachen_0_gtFine_labelTrainIds.png
    Dataset.CITYSCAPES: DatasetFolders(
        "leftImg8bit", "_leftImg8bit", "gtFine/{name}_gtFine_labelTrainIds"
    ),
    # train/metadata.csv: 0001.jpg, labels/0001.png
    Dataset.HUGGINGFACE: DatasetFolders("", "", "{label}", are_listed=True),
    # img_dir/train/0001.jpg, ann_dir/train/0001.png
    Dataset.MMSEGMENTATION: DatasetFolders("img_dir", "", "ann_dir/{name}"),
}
