"""The page: what is where, and which of `actions` each button calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import gradio as gr
from gradio.data_classes import ImageData

from sam_refine_client import PALETTES, Activation
from sam_refine_client.reading.labels import LABEL_SUFFIXES
from sam_refine_client.reading.score_files import SCORE_SUFFIXES
from sam_refine_ui import view
from sam_refine_ui.actions import NOT_SAID, Actions, Source
from sam_refine_ui.classes import BRUSHES, css_colour, split_names
from sam_refine_ui.knobs import KNOBS, component, preset_choice, values_of

_PRIVATE: Final[Any] = {"api_visibility": "private"}
"""Only the page itself needs these calls."""
_ONE_AT_A_TIME: Final[Any] = {**_PRIVATE, "concurrency_id": "refine", "concurrency_limit": 1}
STATE_EVERY_S: Final = 10.0
"""How often the page asks whether the server is ready."""

CSS: Final = """
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; }
.legend .entry { display: inline-flex; align-items: center; gap: 6px; }
.legend i { width: 16px; height: 16px; border-radius: 3px; flex: none;
  border: 1px solid var(--border-color-primary); }
.sides { display: flex; justify-content: space-between; font-weight: 700; }
.numbers { display: flex; flex-wrap: wrap; gap: 8px 28px; }
.numbers div { display: flex; flex-direction: column; }
.numbers b { font-size: 1.4em; }
[role=alert] { padding: 10px 14px; border-radius: 6px; font-weight: 700;
  color: var(--error-text-color); background: var(--error-background-fill);
  border: 1px solid var(--error-border-color); }
[role=note] { padding: 10px 14px; border-radius: 6px;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
[role=status] { font-weight: 700; overflow-wrap: anywhere; }
[role=status].wrong { color: var(--error-text-color); }
.stages { margin-top: 8px; }
#files .label-clear-button { display: none; }
"""


def theme() -> gr.themes.Base:
    """gradio's own theme with the system's fonts, so that none is fetched."""
    default = gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    return default.set(block_info_text_color="*neutral_600")  # the default grey is hard to read


def build(actions: Actions, server: str) -> gr.Blocks:
    """The page; `server` is Markdown that says what does the refining."""
    page = gr.Blocks(title="sam-refine", analytics_enabled=False, delete_cache=(600, 6 * 3600))
    with page:
        gr.Markdown(
            "# sam-refine\nSegment Anything snaps a coarse label map to the edges of things: "
            f"add a photo and a map, and see. Refined by {server}."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                load = gr.Button("Show the example")
                given = _given()
                state = gr.HTML()
                refine = gr.Button("Refine", variant="primary")
                message = gr.HTML(visible=False)
            with gr.Column(scale=3, min_width=320):
                results = _results()

        asked: Any = {"queue": False, "show_progress": "hidden", **_PRIVATE}
        page.load(actions.server_state, [], state, **asked)
        gr.Timer(STATE_EVERY_S).tick(actions.server_state, [], state, **asked)
        for source, tab in given.tabs.items():
            tab.select(partial(_same, source), [], given.source, queue=False, **_PRIVATE)
        given.names.change(brush_legend, given.names, given.brushes, queue=False, **_PRIVATE)
        given.preset.input(values_of, given.preset, given.knobs, queue=False, **_PRIVATE)
        painted_on = [message, given.painting]
        given.photo.input(actions.take_photo, given.photo, painted_on, **_PRIVATE)
        inputs, outputs = given.inputs(), [message, *results]
        refine.click(actions.refine, inputs, outputs, **_ONE_AT_A_TIME)
        loaded = load.click(
            actions.load_example,
            [],
            [given.all_tabs, given.preset, *inputs],
            show_progress="hidden",  # it would stay on what lies in a closed tab
            **_PRIVATE,
        )
        loaded.success(actions.refine, inputs, outputs, **_ONE_AT_A_TIME)
    page.queue(api_open=False, max_size=16)
    return page


@dataclass(frozen=True)
class _Given:
    """The components that take input."""

    source: gr.State
    photo: gr.Image
    all_tabs: gr.Tabs
    tabs: Mapping[Source, gr.Tab]
    painting: gr.ImageEditor
    brushes: gr.HTML
    labels: gr.File
    ignore_label: gr.Textbox
    scores: gr.File
    activation: gr.Radio
    names: gr.Textbox
    palette: gr.Radio
    preset: gr.Radio
    knobs: Sequence[gr.components.Component]

    def inputs(self) -> list[gr.components.Component]:
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


def _given() -> _Given:
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
    with gr.Tabs(overflow_behavior="wrap") as all_tabs:
        with gr.Tab("Label map", id=Source.LABELS.value) as labels_tab:
            gr.Markdown(
                "Pixel values are class ids. The map is turned into scores in the same way as a "
                "painted one. A map of lower resolution is stretched to the photo."
            )
            labels = _file("PNG (grey, palette or colours), .npy (H, W) or COCO", *LABEL_SUFFIXES)
            ignore_label = gr.Textbox(
                "",
                label="Ignore label",
                info="Pixels with this label stay as they are. Often 255; empty for none.",
                max_lines=1,
            )
            palette = gr.Radio(
                [NOT_SAID, *PALETTES],
                value=NOT_SAID,
                label="Colours",
                info="Which classes the colours of a coloured map stand for.",
            )
        with gr.Tab("Class scores", id=Source.SCORES.value) as scores_tab:
            gr.Markdown(
                "As they come from a network, at any resolution up to the photo's; the coarse map "
                "is their argmax."
            )
            scores = _file(".npy, .npz or .pt (C, h, w)", *SCORE_SUFFIXES)
            activation = gr.Radio(
                [NOT_SAID, *(activation.value for activation in Activation)],
                value=NOT_SAID,
                label="Activation",
                info="softmax or sigmoid if these are raw outputs of a network, none if they are "
                "scores already.",
            )
        with gr.Tab("Paint the map", id=Source.PAINTED.value) as painted_tab:
            gr.Markdown(
                "Paint roughly over each thing, with one colour for each class; what stays "
                "unpainted is class 0, the background. The map is turned into scores that are high "
                "well inside a thing and fall towards its border and beyond."
            )
            painting = _editor()
            brushes = gr.HTML(brush_legend(""))
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
    return _Given(
        source=gr.State(Source.LABELS),
        photo=photo,
        all_tabs=all_tabs,
        tabs=dict(zip(Source, (painted_tab, labels_tab, scores_tab), strict=True)),
        painting=painting,
        brushes=brushes,
        labels=labels,
        ignore_label=ignore_label,
        scores=scores,
        activation=activation,
        names=names,
        palette=palette,
        preset=preset,
        knobs=knobs,
    )


def _results() -> list[gr.blocks.Block]:
    """The right column below the message: what `Actions.refine` fills, in order."""
    hint = gr.Markdown(
        "The result appears here: add a photo and a coarse map and press Refine, or look at the "
        "example first."
    )
    with gr.Column(visible=False) as shown:
        gr.HTML(
            "<div class='sides'><span>◀ Before: coarse</span><span>After: refined ▶</span></div>"
        )
        slider = gr.ImageSlider(
            label="Coarse and refined map over the photo",
            show_label=False,
            interactive=False,
            buttons=["fullscreen"],
            format="png",
        )
        changes = gr.Image(
            label="Changed pixels, in the colour of their new class (enlarged to where they are)",
            interactive=False,
            buttons=["fullscreen"],
            format="png",
            height=360,
        )
        legend = gr.HTML()
        numbers = gr.HTML()
        files = gr.File(label="Files", file_count="multiple", interactive=False, elem_id="files")
        table = gr.Dataframe(
            headers=list(view.TABLE_HEADINGS), label="Regions", interactive=False, max_height=360
        )
    return [hint, shown, slider, changes, legend, numbers, files, table]


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


def _same(source: Source) -> Source:
    return source
