"""Make the pictures of docs/options.md: the demo's photo, refined with one option turned at a time.

    python docs/demo/make_option_pictures.py [--model-repository DIRECTORY] [--out DIRECTORY]

Needs the extra `local` and a repository that `sam-refine export` made of MobileSAM. Every picture
shows what each value makes of the coarse map, which comes first where there is room; what a picture
does not name is at its default.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sam_refine_client import Embedding, RefineClient, RefineOptions, RefineResult
from sam_refine_client.files.pictures import overlay

ROOT = Path(__file__).parents[2]
DEMO_DATA = ROOT / "cli" / "sam_refine_cli" / "demo_data" / "coffee"

WHOLE = (0, 0, 600, 400)
CUP = (90, 140, 450, 380)
"""Boxes (left, top, right, bottom) of photo pixels, both 3 : 2; most options show where the cup's
foot, its shadow and the spoon meet."""


@dataclass(frozen=True)
class Picture:
    """One option at several values, around one place of the photo."""

    option: str
    values: Sequence[Any]
    around: tuple[int, int, int, int] = CUP
    others: Mapping[str, Any] | None = None
    """Options that the effect needs, at all values; the coarse map's title names them."""


PICTURES = (
    Picture("confidence_threshold", (0.0, 0.8, 0.9), WHOLE),
    Picture("iou_threshold", (0.5, 0.8, 0.9)),
    Picture("mask_prompt", ("trident", "sam", "none")),
    Picture("mask_prompt_scale", (0.005, 0.5, 5.0)),
    Picture("min_region_area", (0, 225, 1000), WHOLE),
    Picture(
        "failed_regions", ("scores_only", "compete", "keep_coarse"), others={"iou_threshold": 0.9}
    ),
    Picture("multimask_output", (False, True)),
    Picture("ignore_label", (None, 2, 3)),
)

_PANEL = (600, 400)
_GAP = 12
_TITLE = 34
_FONT_SIZE = 21
_INK = (32, 33, 36)
_JPEG_QUALITY = 84


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model-repository", type=Path, default=ROOT / "build/model_repository")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/options")
    arguments = parser.parse_args()
    for path in make_pictures(arguments.model_repository, arguments.out):
        print(f"{path} {path.stat().st_size // 1024} KiB")


def make_pictures(
    model_repository: Path, out: Path, pictures: Sequence[Picture] = PICTURES
) -> list[Path]:
    """Write a JPEG for each picture, named by its option; returns their paths."""
    scores = np.load(DEMO_DATA / "coarse_scores.npy")
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    with RefineClient.local(model_repository) as client:
        embedding = client.embed(DEMO_DATA / "photo.jpg")
        for picture in pictures:
            paths.append(out / f"{picture.option}.jpg")
            page = _page(_panels(client, embedding, scores, picture))
            page.save(paths[-1], quality=_JPEG_QUALITY, optimize=True)
    return paths


def _panels(
    client: RefineClient, embedding: Embedding, scores: Any, picture: Picture
) -> list[tuple[str, Image.Image]]:
    """Titled parts of the coarse map and of the maps that each value makes of it."""
    with Image.open(DEMO_DATA / "photo.jpg") as file:
        photo = np.asarray(file.convert("RGB"))
    left, top, right, bottom = picture.around

    def part(labels: Any) -> Image.Image:
        whole = overlay(photo, labels)
        scale = whole.width / photo.shape[1]
        box = left * scale, top * scale, right * scale, bottom * scale
        return whole.crop(box).resize(_PANEL, Image.Resampling.LANCZOS)

    others = picture.others or {}
    panels: list[tuple[str, Image.Image]] = []
    for value in picture.values:
        settings = {**others, picture.option: value}
        result = client.refine(
            embedding=embedding,
            logits=scores,
            options=RefineOptions(**settings),
            outputs=("labels", "coarse_labels", "regions"),
        )
        if not panels and len(picture.values) % 2:
            shared = "".join(f"; all with {name}={its}" for name, its in others.items())
            panels.append((f"Coarse{shared}", part(result.coarse_labels)))
        panels.append((_title(f"{picture.option}={value}", result), part(result.labels)))
    return panels


def _title(setting: str, result: RefineResult) -> str:
    regions = result.regions or ()
    kept = sum(region.kept for region in regions)
    return f"{setting}: {kept} of {len(regions)} kept, {result.changed_fraction:.1%} changed"


def _page(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Titled panels, two to a row."""
    font = ImageFont.load_default(size=_FONT_SIZE)
    rows = -(-len(panels) // 2)
    width, height = 2 * _PANEL[0] + _GAP, rows * (_TITLE + _PANEL[1] + _GAP) - _GAP
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    for index, (title, panel) in enumerate(panels):
        x = index % 2 * (_PANEL[0] + _GAP)
        y = index // 2 * (_TITLE + _PANEL[1] + _GAP)
        draw.text((x, y + _TITLE // 2), title, _INK, font, anchor="lm")
        page.paste(panel, (x, y + _TITLE))
    return page


if __name__ == "__main__":
    main()
