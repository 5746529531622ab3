"""List every layout that the drawn world can be written in.

Flow: `sa2va world export --as NAME` -> LAYOUTS -> layout.export.
"""

from sa2va.world.export import refcoco
from sa2va.world.export.layout import Layout

LAYOUTS: dict[str, Layout] = {
    "refcoco": refcoco.REFCOCO,
    "refcoco+": refcoco.REFCOCO_PLUS,
    "refcocog": refcoco.REFCOCOG,
    "grefcoco": refcoco.GREFCOCO,
}
