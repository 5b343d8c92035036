"""The left column of the page: what somebody gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import gradio as gr
from gradio.data_classes import ImageData

from sam_refine_client import PALETTES, Activation
from sam_refine_client.reading.labels import LABEL_SUFFIXES
from sam_refine_client.reading.score_files import SCORE_SUFFIXES
from sam_refine_ui import view
from sam_refine_ui.actions import NOT_SAID, Source
from sam_refine_ui.classes import BRUSHES, css_colour, split_names
from sam_refine_ui.knobs import KNOBS, component, preset_choice

TABLES: Final = {
    "ade20k": "ADE20K",
    "camvid": "CamVid",
    "camvid11": "CamVid, 11 classes",
    "cityscapes": "Cityscapes",
    "voc": "Pascal VOC",
}
"""What the tables of colours are called by people."""


@dataclass(frozen=True)
class Inputs:
    """The components that take input."""

    source: gr.State
    is_example: gr.State
    """Whether photo and scores are those of the example, to go where somebody's own come."""
    photo: gr.Image
    about_photo: gr.HTML
    all_tabs: gr.Tabs
    tabs: Mapping[Source, gr.Tab]
    painting: gr.ImageEditor
    brushes: gr.HTML
    labels: gr.File
    ignore_label: gr.Textbox
    scores: gr.File
    activation: gr.Radio
    about_map: gr.HTML
    names: gr.Textbox
    palette: gr.Radio
    preset: gr.Radio
    knobs: Sequence[gr.components.Component]

    def arguments(self) -> list[gr.components.Component]:
        """The arguments of `Actions.refine`."""
        return [
            self.source,
            self.photo,
            self.painting,
            self.labels,
            self.ignore_label,
            self.scores,
            self.activation,
            self.names,
            self.palette,
            *self.knobs,
        ]


def draw_inputs() -> Inputs:
    """The left column."""
    photo = gr.Image(
        label="Photo",
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=200,
        buttons=[],
    )
    photo.preprocess = _path_of  # type: ignore[method-assign]
    about_photo = gr.HTML(visible=False)
    with gr.Tabs(overflow_behavior="wrap") as all_tabs:
        with gr.Tab("Label map", id=Source.LABELS.value) as labels_tab:
            gr.Markdown(
                "The class of each pixel, as a number or a colour: a PNG, `.npy` (H, W) or COCO's "
                "`.json`. A smaller map is stretched to the photo."
            )
            labels = _file("The map", *LABEL_SUFFIXES)
            with gr.Accordion("Void and colours", open=False):
                ignore_label = gr.Textbox(
                    "",
                    label="Ignore label",
                    info="Pixels with this label stay as they are. Often 255; empty for none.",
                    max_lines=1,
                )
                palette = gr.Radio(
                    [NOT_SAID, *((TABLES.get(each, each), each) for each in PALETTES)],
                    value=NOT_SAID,
                    label="Colours",
                    info="Which classes the colours of a coloured map stand for.",
                )
        with gr.Tab("Scores", id=Source.SCORES.value) as scores_tab:
            gr.Markdown(
                "As they come from a network: `.npy`, `.npz` or `.pt` (C, h, w), at any resolution "
                "up to the photo's. The coarse map is their argmax."
            )
            scores = _file("Class scores", *SCORE_SUFFIXES)
            activation = gr.Radio(
                [NOT_SAID, *(activation.value for activation in Activation)],
                value=NOT_SAID,
                label="Activation",
                info="softmax or sigmoid if these are raw outputs of a network; none if they are "
                "scores already, and no warning is wanted.",
            )
        with gr.Tab("Paint", id=Source.PAINTED.value) as painted_tab:
            gr.Markdown(
                "Paint roughly over each thing, with one colour for each class; what stays "
                "unpainted is class 0, the background. The map is turned into scores that are high "
                "well inside a thing and fall towards its border and beyond."
            )
            painting = _editor()
            brushes = gr.HTML(brush_legend(""))
    about_map = gr.HTML(visible=False)
    names = gr.Textbox(
        "",
        label="Class names",
        placeholder="background, person, car",
        info="From class 0, separated by commas; may be empty.",
        max_lines=1,
    )
    preset = preset_choice()
    with gr.Accordion("Options", open=False):
        knobs = [component(knob) for knob in KNOBS]
    return Inputs(
        source=gr.State(Source.LABELS),
        is_example=gr.State(False),
        photo=photo,
        about_photo=about_photo,
        all_tabs=all_tabs,
        tabs=dict(zip(Source, (painted_tab, labels_tab, scores_tab), strict=True)),
        painting=painting,
        brushes=brushes,
        labels=labels,
        ignore_label=ignore_label,
        scores=scores,
        activation=activation,
        about_map=about_map,
        names=names,
        palette=palette,
        preset=preset,
        knobs=knobs,
    )


def _file(label: str, *suffixes: str) -> gr.File:
    return gr.File(label=label, file_types=list(suffixes), type="filepath", height=140)


def _path_of(payload: ImageData | None) -> str | None:
    """The photo's file: gradio would open it, and fail with a traceback if it is not a picture."""
    return payload.path if payload else None


def _editor() -> gr.ImageEditor:
    brushes: list[str | tuple[str, float]] = [
        css_colour(class_id) for class_id in range(1, BRUSHES + 1)
    ]
    return gr.ImageEditor(
        label="Paint over the photo",
        show_label=False,  # its tools would cover it on a phone
        type="numpy",
        image_mode="RGBA",
        height=440,
        canvas_size=(600, 400),
        format="png",
        sources=[],
        transforms=[],
        layers=False,
        brush=gr.Brush(20, colors=brushes, default_color=brushes[0], color_mode="fixed"),
        eraser=gr.Eraser(20),
        buttons=[],
    )


def brush_legend(names: str) -> str:
    """HTML that says which class each brush paints; `names` is what was typed."""
    class_names = split_names(names)
    background = view.swatch(0, class_names, " (unpainted)")
    painted = [view.swatch(class_id, class_names) for class_id in range(1, BRUSHES + 1)]
    return "".join(["<div class='legend'>", background, *painted, "</div>"])
