"""List every scanpath metric and every gaze dataset by name.

Flow: evaluation -> METRICS[name] -> a pure function of arrays, with its range and unit;
    a recipe or a check -> DATASETS[name](path) -> trials.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sa2va.gaze.datasets.coco_search18 import read_coco_search18
from sa2va.gaze.datasets.osie import read_osie
from sa2va.gaze.datasets.refcoco_gaze import read_refcoco_gaze
from sa2va.gaze.metrics import (
    behavior,
    distance,
    diversity,
    likelihood,
    maps,
    motion,
    multimatch,
    scanmatch,
    sequence,
    sizes,
    target,
)
from sa2va.gaze.trial import Trial


@dataclass(frozen=True)
class Metric:
    """A metric function with its direction, range, unit and source."""

    function: Callable[..., Any]
    better: str  # "higher", "lower", or "human": closer to the human value is better
    low: float
    high: float
    unit: str
    source: str


INF = float("inf")

# SS and FED take cluster symbols (clusters.py). SemSS and SemFED take the labels of a segmentation
# (strings.label_symbols). For the timed variants, strings.repeated_by_time repeats the symbols by duration.
METRICS: dict[str, Metric] = {
    "SS": Metric(sequence.sequence_score, "higher", 0, 1, "share", "Yang et al., CVPR 2020"),
    "FED": Metric(sequence.fixation_edit_distance, "lower", 0, INF, "symbols", "Mondal et al., CVPR 2023"),
    "SS_pack": Metric(sequence.pack_sequence_score, "higher", 0, 1, "share", "RefCOCO-Gaze, ECCV 2024"),
    "FED_pack": Metric(sequence.pack_edit_distance, "lower", 0, INF, "symbols", "RefCOCO-Gaze, ECCV 2024"),
    "SemSS": Metric(sequence.sequence_score, "higher", 0, 1, "share", "Yang et al., CVPR 2022"),
    "SemFED": Metric(sequence.fixation_edit_distance, "lower", 0, INF, "symbols", "Mondal et al., CVPR 2023"),
    "CC_NSS_pack": Metric(maps.score_packs, "higher", -INF, INF, "r, SD", "RefCOCO-Gaze, ECCV 2024"),
    "CC_NSS_image": Metric(maps.score_image, "higher", -INF, INF, "r, SD", "Bylinskii et al., TPAMI 2019"),
    "ScanMatch": Metric(scanmatch.scanmatch, "higher", 0, 1, "share", "Cristino et al., 2010"),
    "MultiMatch": Metric(multimatch.compare, "higher", 0, 1, "share", "Dewhurst et al., 2012"),
    "DTW": Metric(distance.closest_dtw, "lower", 0, INF, "% of canvas", "Sakoe and Chiba, 1978"),
    "TDE": Metric(distance.time_delay_embedding, "lower", 0, INF, "px", "Wang et al., CVPR 2011"),
    "LBM": Metric(distance.local_bipartite_matching, "lower", 0, 1, "L1", "Meng et al., CVPR 2021"),
    "last_hit": Metric(target.last_hit, "higher", 0, 1, "share", "RefCOCO-Gaze, ECCV 2024"),
    "any_hit": Metric(target.any_hit, "higher", 0, 1, "share", "RefCOCO-Gaze, ECCV 2024"),
    "hit_curve": Metric(target.curve_gap, "lower", 0, 1, "share", "own"),
    "latency": Metric(target.latency_to_target, "human", 0, INF, "ms", "own"),
    "size_nll": Metric(sizes.size_nll, "lower", 0, INF, "nats", "own"),
    "size_accuracy": Metric(sizes.size_accuracy, "higher", 0, 1, "share", "own"),
    "size_mae": Metric(sizes.size_mae, "lower", 0, INF, "fixations", "own"),
    "empty_calibration": Metric(sizes.empty_calibration, "lower", 0, 1, "share", "Naeini et al., AAAI 2015"),
    "motion_kl": Metric(motion.kl_divergence, "lower", 0, INF, "nats", "own"),
    "motion_emd": Metric(motion.earth_mover, "lower", 0, INF, "px, ms", "Rubner et al., IJCV 2000"),
    "angle_emd": Metric(motion.circular_earth_mover, "lower", 0, 180, "degrees", "Rabin et al., 2011"),
    "waiting": Metric(motion.waiting_share, "human", 0, 1, "share", "RefCOCO-Gaze, ECCV 2024"),
    "saccade_kinds": Metric(behavior.saccade_kinds, "human", 0, INF, "saccades", "RefCOCO-Gaze, ECCV 2024"),
    "DSS": Metric(diversity.diversity_score, "higher", 0, 1, "share", "ScanDiff, ICCV 2025"),
    "RSS": Metric(diversity.recall_score, "higher", 0, 1, "share", "ScanDiff, ICCV 2025"),
    "bits": Metric(likelihood.bits_per_fixation, "higher", -INF, INF, "bits", "Kümmerer et al., PNAS 2015"),
}


def read_simulated(**options: Any) -> list[Trial]:
    """Simulate trials on synthetic scenes; imports the extension `world`, so that recorded datasets work without it."""
    from sa2va.gaze.simulator import dataset

    return dataset.read_simulated(**options)


# Name -> reader of a file; datasets without an entry in FILES are simulated.
DATASETS: dict[str, Callable[..., list[Trial]]] = {
    "refcoco_gaze": read_refcoco_gaze,
    "coco_search18": read_coco_search18,
    "osie": read_osie,
    "world": read_simulated,
}

# Name -> file name as published.
FILES = {
    "refcoco_gaze": "refcocogaze_*.json",
    "coco_search18": "coco_search18_fixations_*.json",
    "osie": "fixations.mat or fixations.json",
}
