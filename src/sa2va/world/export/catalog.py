"""List every layout that the drawn world can be written in.

Flow: `sa2va world export --as NAME` -> LAYOUTS -> layout.export.
"""

from sa2va.world.export import (
    chat,
    chat_benchmarks,
    gcg,
    mevis,
    osprey,
    reasonseg,
    refcoco,
    refsav,
    refytvos,
    region_caption,
    revos,
)
from sa2va.world.export.layout import Layout

LAYOUTS: dict[str, Layout] = {
    "refcoco": refcoco.REFCOCO,
    "refcoco+": refcoco.REFCOCO_PLUS,
    "refcocog": refcoco.REFCOCOG,
    "grefcoco": refcoco.GREFCOCO,
    "llava": chat.LLAVA,
    "infinity_mm": chat.INFINITY_MM,
    "mevis": mevis.MEVIS,
    "revos": revos.REVOS,
    "refytvos": refytvos.REFYTVOS,
    "davis": refytvos.DAVIS,
    "refsav": refsav.REFSAV,
    "videochat": chat.VIDEOCHAT,
    "gcg": gcg.GCG,
    "osprey": osprey.OSPREY,
    "reasonseg": reasonseg.REASONSEG,
    "mme": chat_benchmarks.MME_LAYOUT,
    "mmbench": chat_benchmarks.MMBENCH_LAYOUT,
    "seedbench": chat_benchmarks.SEED_LAYOUT,
    "videomme": chat_benchmarks.VIDEO_MME_LAYOUT,
    "mmbench_video": chat_benchmarks.MMBENCH_VIDEO_LAYOUT,
    "region_caption": region_caption.REGION_CAPTION,
}
