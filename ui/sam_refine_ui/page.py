"""The page: what is where, and which of `actions` each button calls."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import gradio as gr

from sam_refine_ui.actions import Actions, Source, open_tab
from sam_refine_ui.inputs import brush_legend, draw_inputs
from sam_refine_ui.knobs import values_of
from sam_refine_ui.results import KEPT_S, draw_results

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
.gradio-container { overflow: clip !important; }  /* hidden would keep #go from sticking */
#go { position: sticky; bottom: 0; z-index: 1000; gap: 8px; padding: 8px 0 12px;
  background: var(--body-background-fill); border-top: 1px solid var(--border-color-primary); }
#state { min-height: 24px; }
#state > .translucent { background: var(--body-background-fill); height: 100%; min-height: 0;
  padding: 0; }
#state > .translucent svg { display: none; }
#state .progress-text { inset: 0 auto auto 12px; transform: none; font: inherit;
  font-weight: 700; }
#results { scroll-margin-top: 8px; }
#files .label-clear-button { display: none; }
"""


_SHOW_RESULTS: Final = """() => {
  const alert = document.querySelector("[role=alert]");
  const shown = alert || document.getElementById("results");
  const { top } = shown.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2)
    shown.scrollIntoView({ behavior: "smooth", block: alert ? "center" : "start" });
}"""
"""What came of a try is brought into sight, as on a phone: the result, or the first error."""


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
    page = gr.Blocks(title="sam-refine", analytics_enabled=False, delete_cache=(600, KEPT_S))
    with page:
        gr.Markdown(
            "# sam-refine\nSegment Anything snaps a coarse label map to the edges of things: "
            f"add a photo and a map, and see. Refined by {server}."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                load = gr.Button("Show the example", size="sm")
                given = draw_inputs()
                with gr.Column(elem_id="go", min_width=0):
                    about_work = gr.HTML(visible=False)
                    state = gr.HTML(elem_id="state")
                    refine = gr.Button("Refine", variant="primary")
            with gr.Column(scale=3, min_width=320, elem_id="results"):
                results = draw_results()
        messages = [given.about_photo, given.about_map, about_work]

        asked: Any = {"queue": False, "show_progress": "hidden", **_PRIVATE}
        page.load(actions.server_state, [], state, **asked)
        gr.Timer(STATE_EVERY_S).tick(actions.server_state, [], state, **asked)
        for source, tab in given.tabs.items():
            about_other = [given.about_map, about_work]
            tab.select(
                partial(open_tab, source), [], [given.source, *about_other], queue=False, **_PRIVATE
            )
        given.names.change(brush_legend, given.names, given.brushes, queue=False, **_PRIVATE)
        given.preset.input(values_of, given.preset, given.knobs, queue=False, **_PRIVATE)

        inputs, outputs = given.arguments(), [*messages, *results.outputs()]
        working = [state, results.slider, results.changes, results.enlarged]
        results.changes.select(actions.enlarge, results.shown, results.enlarged, **_PRIVATE)
        refine.click(
            actions.refine, inputs, outputs, show_progress_on=working, **_ONE_AT_A_TIME
        ).then(None, [], [], js=_SHOW_RESULTS, **_PRIVATE)
        example = [given.is_example, given.all_tabs, given.preset, *inputs]
        quiet: Any = {"show_progress": "hidden", **_PRIVATE}  # it would stay on a closed tab
        refining = [
            on(actions.load_example, [], example, **quiet).success(
                then, [*first, *inputs], outputs, show_progress_on=working, **_ONE_AT_A_TIME
            )
            for on, then, first in (
                (load.click, actions.refine, []),
                (page.load, actions.refine_example, [given.is_example]),
            )
        ]
        given.photo.input(
            actions.take_photo,
            [given.photo, given.is_example],
            [*outputs, given.painting, given.is_example, given.all_tabs, given.source,
             given.scores, given.names],
            cancels=refining,
            **quiet,
        )  # fmt: skip
        for source, file in ((Source.LABELS, given.labels), (Source.SCORES, given.scores)):
            file.upload(
                partial(actions.take_map, source),
                given.is_example,
                [*outputs, given.is_example, given.photo, given.painting, given.scores,
                 given.names],
                cancels=refining,
                **quiet,
            )  # fmt: skip
    page.queue(api_open=False, max_size=16)
    return page
