"""Predict where people look while they listen: `sa2va gaze predict|stream|train|eval`.

Flow: command line -> gaze/ -> PNG, animation and JSON of scanpaths, or a table of figures.
"""

import typer

from sa2va.apps.commands.gaze_eval import evaluate

app = typer.Typer(
    help="Predict where people look, word by word.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("eval")(evaluate)


@app.callback()
def gaze() -> None:
    """Predict where people look, word by word."""
