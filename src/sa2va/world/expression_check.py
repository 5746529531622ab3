"""Measure expressions that `sa2va synth` wrote for exported drawn clips: does each denote its object, and only it?

Flow: OUT/expressions.jsonl, the export's record of its scenes -> scenes drawn again -> grammar.denotes -> shares with
    intervals, per level, before and after the check, beside baselines -> commands/world.py.
Shapes: N expressions; intervals resample clips.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sa2va.files.json_file import read_json
from sa2va.metrics.interval import Interval, bootstrap_mean
from sa2va.synth.captioner import LEVELS, OBJECT, SCENE, VIDEO
from sa2va.synth.report import EXPRESSIONS
from sa2va.types import Sample
from sa2va.world.export.clips import draw_samples
from sa2va.world.export.layout import Part, Scenes, record_of
from sa2va.world.export.refsav import BLOCK
from sa2va.world.language.grammar import denotes
from sa2va.world.scenes.scene import Scene
