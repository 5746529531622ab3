"""Read gRefCOCO: expressions for one, several or no objects of COCO pictures.

Flow: <folder>/instances.json (COCO), <folder>/grefs(unc).json, or .p as evaluation has it -> refcoco.build.
Source: GRES, arXiv:2306.00968. An expression of several objects gets a mask each, or one for all; an expression of
    nothing is answered in words, or with an empty mask: see `groups` and `absent` of DrawConfig.
"""

from functools import partial

from sa2va.data.refcoco import build

grefcoco = partial(build, "grefcoco", ("grefs(unc).json", "grefs(unc).p"))
