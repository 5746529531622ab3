"""Implement SAM 3's tracker: SAM 2's memory and decoder behind a plain vision transformer.

Flow: as sam2.py, which it replaces.
Source: SAM 3, arXiv:2511.16719.
"""

from transformers import Sam3TrackerVideoConfig, Sam3TrackerVideoModel

from sa2va.model.sam.sam2 import Sam2


class Sam3Tracker(Sam2):
    """SAM 3's tracker behind the interface of Sam2, without the detector.

    processor.py normalizes pixels as for SAM 2; the published tracker expects mean and standard deviation 0.5.
    """

    NATIVE_CLASS = Sam3TrackerVideoModel
    CONFIG_CLASS = Sam3TrackerVideoConfig
