"""An evaluation as one page that needs nothing else: neither other files nor a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sam_refine_client.files.colours import MAX_COLOURS, class_palette
from sam_refine_client.files.whole_files import write_whole
from sam_refine_quality.report.gallery import Exhibit, Gallery
from sam_refine_quality.report.pictures import (
    CHANGE_COLOURS,
    data_uri,
    pictures,
)
from sam_refine_quality.report.rows import class_rows, facts, figure_rows
from sam_refine_quality.result import Evaluation

PAGE: Final = "index.html"


def write_report(directory: Path, evaluation: Evaluation, gallery: Gallery) -> Path:
    """Write `index.html` into a directory, which is made if it is not there; its path.

    Raises `OSError` where it cannot be written, or an image can no longer be read.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    content = environment.get_template("page.html.j2").render(_content(evaluation, gallery))
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / PAGE
    write_whole({path: content.encode("utf-8", "backslashreplace")})  # names may be no text
    return path


def _content(evaluation: Evaluation, gallery: Gallery) -> dict[str, Any]:
    palette = [_css(colour) for colour in class_palette(MAX_COLOURS).tolist()]
    return {
        "images": len(evaluation.images),
        "failed": evaluation.failed,
        "resamples": evaluation.resamples,
        "classes": [
            (name, palette[index % MAX_COLOURS])
            for index, name in enumerate(evaluation.class_names)
        ],
        "changes": [
            (change.name.lower().replace("_", " "), _css(colour))
            for change, colour in CHANGE_COLOURS.items()
        ],
        "sets": [
            {
                "name": name,
                "options": each.options.to_parameters(),
                "figures": figure_rows(each),
                "facts": facts(each),
                "classes": class_rows(each, evaluation.class_names),
                "exhibits": [
                    (title, list(map(_shown, exhibits)))
                    for title, exhibits in (
                        ("Gained most", gallery.gained(name)),
                        ("Lost most", gallery.lost(name)),
                    )
                ],
            }
            for name, each in evaluation.option_sets.items()
        ],
    }


def _shown(exhibit: Exhibit) -> dict[str, Any]:
    titles = [
        f"coarse, {exhibit.coarse_accuracy:.2f}% right",
        f"refined, {exhibit.refined_accuracy:.2f}% right",
        "changed pixels",
    ]
    uris = map(data_uri, pictures(exhibit))
    return {
        "name": exhibit.name,
        "gain": f"{exhibit.gain:+.2f}",
        "pictures": list(zip(titles, uris, strict=True)),
    }


def _css(colour: tuple[int, int, int] | list[int]) -> str:
    red, green, blue = colour
    return f"rgb({red}, {green}, {blue})"
