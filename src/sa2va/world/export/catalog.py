"""List every layout that the drawn world can be written in.

Flow: `sa2va world export --as NAME` -> LAYOUTS -> layout.export.
"""

from sa2va.world.export import chat, gcg, mevis, osprey, reasonseg, refcoco, refsav, refytvos, region_caption, revos
from sa2va.world.export.layout import Layout

LAYOUTS: dict[str, Layout] = {
    "refcoco": refcoco.REFCOCO,
    "refcoco+": refcoco.REFCOCO_PLUS,
    "refcocog": refcoco.REFCOCOG,
    "grefcoco": refcoco.GREFCOCO,
    "llava": chat.LLAVA,
    "mevis": mevis.MEVIS,
    "revos": revos.REVOS,
    "refytvos": refytvos.REFYTVOS,
    "davis": refytvos.DAVIS,
    "refsav": refsav.REFSAV,
    "videochat": chat.VIDEOCHAT,
    "gcg": gcg.GCG,
    "osprey": osprey.OSPREY,
    "reasonseg": reasonseg.REASONSEG,
    "region_caption": region_caption.REGION_CAPTION,
}
