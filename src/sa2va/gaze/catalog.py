"""List every scanpath metric and every gaze dataset by name. Open this first.

Flow: evaluation looks a name up -> METRICS[name] -> a pure function of arrays, and how to read its figure;
    a recipe or a check -> DATASETS[name](path) -> trials.
Shapes: none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sa2va.gaze.datasets.coco_search18 import read_coco_search18
from sa2va.gaze.datasets.osie import read_osie
from sa2va.gaze.datasets.refcoco_gaze import read_refcoco_gaze
from sa2va.gaze.metrics import (
    behaviour,
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
    """A function and how to read what it gives."""

    function: Callable[..., Any]
    better: str  # "higher", "lower", or "human": the closer to people's own figure the better
    low: float
    high: float
    unit: str
    source: str


INF = float("inf")

# Name -> function, which way is better, range, unit, source. SS and FED take symbols of clusters (clusters.py), SemSS
# and SemFED those of a label map (strings.label_symbols), the timed ones strings.repeated_by_time.
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
    "saccade_kinds": Metric(behaviour.saccade_kinds, "human", 0, INF, "saccades", "RefCOCO-Gaze, ECCV 2024"),
    "DSS": Metric(diversity.diversity_score, "higher", 0, 1, "share", "ScanDiff, ICCV 2025"),
    "RSS": Metric(diversity.recall_score, "higher", 0, 1, "share", "ScanDiff, ICCV 2025"),
    "bits": Metric(likelihood.bits_per_fixation, "higher", -INF, INF, "bits", "Kümmerer et al., PNAS 2015"),
}


def read_world(**options: Any) -> list[Trial]:
    """Simulate trials on drawn scenes; the import needs the extension world, which a recorded dataset does without."""
    from sa2va.gaze.simulator import dataset

    return dataset.read_world(**options)


# Name -> function of a file that returns its trials; what FILES does not name is made, not read.
DATASETS: dict[str, Callable[..., list[Trial]]] = {
    "refcoco_gaze": read_refcoco_gaze,
    "coco_search18": read_coco_search18,
    "osie": read_osie,
    "world": read_world,
}

# Name -> how the file is called as it was published.
FILES = {
    "refcoco_gaze": "refcocogaze_*.json",
    "coco_search18": "coco_search18_fixations_*.json",
    "osie": "fixations.mat or fixations.json",
}
