"""Register the gaze extension: public API, commands, dataset checks and demo exhibits.

Flow: sa2va/extensions.py reads the dictionaries; a `module:name` reference is imported on first use.
"""

FLOOR = 7

# Attributes of the package `sa2va`.
FACE = {"load_gaze": "sa2va.gaze.predictor:load_gaze"}

# Groups of commands: typer.Typer objects.
GROUPS = {"gaze": "sa2va.gaze.commands.gaze:app"}

# Functions of (name, path, seed, limit) that return a data.check.Check.
DATASET_CHECKS = {
    "refcoco_gaze": "sa2va.gaze.commands.data:check",
    "coco_search18": "sa2va.gaze.commands.data:check",
    "osie": "sa2va.gaze.commands.data:check",
    "world": "sa2va.gaze.commands.data:check",
}

# Functions of (predictor, model folder, seed, folder for clips) that yield apps.demo.page.Exhibit.
EXHIBITS = {"gaze": "sa2va.gaze.exhibits:show_gaze"}
