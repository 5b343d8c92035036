"""The right column of the page: what became of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import gradio as gr

from sam_refine_ui import view

KEPT_S: Final = 6 * 3600
"""How long uploads, and what the pictures of a result are made from, are kept at most."""

_CHANGES: Final = "Changed pixels: press to enlarge"
_ENLARGED: Final = "Enlarged four times"


@dataclass(frozen=True)
class Results:
    """The right column."""

    hint: gr.Markdown
    column: gr.Column
    shown: gr.State
    slider: gr.ImageSlider
    changes: gr.Image
    enlarged: gr.ImageSlider
    legend: gr.HTML
    numbers: gr.HTML
    files: gr.File
    table: gr.Dataframe

    def outputs(self) -> list[gr.blocks.Block]:
        """What `Actions.refine` fills after the messages."""
        return [getattr(self, field.name) for field in fields(self)]


def draw_results() -> Results:
    """The right column, with a hint until there is a result."""
    hint = gr.Markdown(
        "The result appears here: add a photo and a coarse map and press Refine, or look at the "
        "example first."
    )
    with gr.Column(visible=False) as column:
        gr.HTML(
            "<div class='sides'><span>◀ Before: coarse</span><span>After: refined ▶</span></div>"
        )
        slider = _slider("Coarse and refined map over the photo")
        with gr.Row():
            with gr.Column(min_width=320):
                gr.HTML(f"<div class='sides'>{_CHANGES}</div>")
                changes = gr.Image(
                    label=_CHANGES,
                    show_label=False,
                    interactive=False,
                    buttons=["fullscreen"],
                    format="png",
                    height=320,
                )
            with gr.Column(min_width=320):
                gr.HTML(f"<div class='sides'>{_ENLARGED}</div>")
                enlarged = _slider(_ENLARGED, height=320)
        legend = gr.HTML()
        numbers = gr.HTML()
        files = gr.File(label="Files", file_count="multiple", interactive=False, elem_id="files")
        table = gr.Dataframe(
            headers=list(view.TABLE_HEADINGS), label="Regions", interactive=False, max_height=360
        )
    shown = gr.State(time_to_live=KEPT_S)
    return Results(hint, column, shown, slider, changes, enlarged, legend, numbers, files, table)


def _slider(label: str, height: int | None = None) -> gr.ImageSlider:
    return gr.ImageSlider(
        label=label,
        show_label=False,  # it would cover a corner of the pictures
        interactive=False,
        buttons=["fullscreen"],
        format="png",
        height=height,
    )
