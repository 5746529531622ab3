"""Register the drawn world: its datasets, recipes, benchmarks, commands and exhibits.

Flow: sa2va/extensions.py reads the dictionaries; a reference is imported when its name is used.
"""

FLOOR = 6

# Groups of commands: typer.Typer objects.
GROUPS = {"world": "sa2va.world.commands.world:app", "ablate": "sa2va.world.commands.ablate:app"}

# Functions of keyword options (seed, split, those of the task) that return a data.base.Dataset.
DATASETS = {
    "world/caption": "sa2va.world.tasks.datasets:caption",
    "world/conversation": "sa2va.world.tasks.datasets:conversation",
    "world/refseg": "sa2va.world.tasks.datasets:refseg",
    "world/gcg": "sa2va.world.tasks.datasets:gcg",
    "world/region": "sa2va.world.tasks.datasets:region",
    "world/video_caption": "sa2va.world.tasks.datasets:video_caption",
    "world/video_conversation": "sa2va.world.tasks.datasets:video_conversation",
    "world/video_refseg": "sa2va.world.tasks.datasets:video_refseg",
}

# Functions that return a training.config.RunConfig.
RECIPES = {
    "tiny": "sa2va.world.training.recipes:tiny",
    "tiny_more": "sa2va.world.training.recipes:tiny_more",
    "tiny_gpu": "sa2va.world.training.recipes:tiny_gpu",
    "tiny_tracking": "sa2va.world.training.recipes:tiny_tracking",
    "tiny_rl": "sa2va.world.training.recipes:tiny_rl",
    "tiny_motion": "sa2va.world.training.recipes:tiny_motion",
    "world_supervised": "sa2va.world.training.recipes:world_supervised",
    "world_layouts": "sa2va.world.training.recipes:world_layouts",
}

# Base model -> function that returns the shares of datasets that fine-tuning rehearses.
REHEARSAL = {"tiny": "sa2va.world.training.recipes:rehearsal"}

# Functions of an evaluation.benchmark.Selection that return a Benchmark.
BENCHMARKS = {
    "world/referring": "sa2va.world.benchmarks.short:referring",
    "world/heldout": "sa2va.world.benchmarks.short:heldout",
    "world/reserved": "sa2va.world.benchmarks.short:reserved",
    "world/kinds": "sa2va.world.benchmarks.short:kinds",
    "world/absent": "sa2va.world.benchmarks.short:absent",
    "world/groups": "sa2va.world.benchmarks.short:groups",
    "world/calibration": "sa2va.world.benchmarks.short:calibration",
    "world/conversation": "sa2va.world.benchmarks.short:conversation",
    "world/grounded_caption": "sa2va.world.benchmarks.short:grounded_caption",
    "world/region": "sa2va.world.benchmarks.short:region",
    "world/caption": "sa2va.world.benchmarks.short:caption",
    "world/video": "sa2va.world.benchmarks.short:video",
    "world/occlusion": "sa2va.world.benchmarks.short:occlusion",
    "world/long": "sa2va.world.benchmarks.long:long_clips",
    "world/video_conversation": "sa2va.world.benchmarks.short:video_conversation",
    "world/video_caption": "sa2va.world.benchmarks.short:video_caption",
}

# Functions of (root of the data, split, seed, num_items) that export what evaluation lacks and yield its names.
EXPORTS = {"world": "sa2va.world.export.evaluation:export_evaluation"}

# Functions of (predictor, model folder, seed, folder for clips) that yield apps.demo.page.Exhibit.
EXHIBITS = {
    "chat": "sa2va.world.exhibits:show_conversations",
    "segment": "sa2va.world.exhibits:show_segmentation",
    "caption": "sa2va.world.exhibits:show_captions",
    "region": "sa2va.world.exhibits:show_regions",
    "track": "sa2va.world.exhibits:show_clips",
}

# Base model -> captioner of `sa2va synth`, a class of (predictor, name of its weights).
CAPTIONERS = {"tiny": "sa2va.world.captioner:DrawnCaptioner"}
