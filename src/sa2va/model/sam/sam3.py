"""Track with SAM 3's tracker: SAM 2's memory and decoder behind a plain vision transformer.

Flow: as sam2.py; a drop-in for it.
Source: SAM 3, arXiv:2511.16719.
"""

from transformers import Sam3TrackerVideoConfig, Sam3TrackerVideoModel

from sa2va.model.sam.sam2 import Sam2


class Sam3Tracker(Sam2):
    """The tracker of SAM 3 with the interface of Sam2, without the detector.

    processor.py normalizes its pixels as SAM 2's; the published one expects a mean and a deviation of 0.5.
    """

    NATIVE_CLASS = Sam3TrackerVideoModel
    CONFIG_CLASS = Sam3TrackerVideoConfig
