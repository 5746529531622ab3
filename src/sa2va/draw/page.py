"""Write self-contained HTML pages: one style, light and dark, and pictures as data URIs.

Flow: body in HTML -> document -> text of one file without a second file or a request; the demo and the report of an
    evaluation use it.
Shapes: H W picture.
"""

from base64 import b64encode
from collections.abc import Iterable
from html import escape
from io import BytesIO

from PIL import Image

from sa2va.types import Frame

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5c6675; --paper: #f6f4ef; --card: #ffffff;
  --line: #e2ddd2; --blue: #2f6fde; --green: #1f8a5b; --red: #c0392b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaee; --soft: #9aa4b2; --paper: #14171c; --card: #1d2229;
  --line: #2d343e; --blue: #7aa7ff; --green: #5cc99a; --red: #ff8273; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 48px 24px; }
h1 { font-size: 40px; line-height: 1.1; margin: 0 0 16px; letter-spacing: -0.02em; }
h2 { margin: 56px 0 16px; font-size: 24px; letter-spacing: -0.01em; }
h3 { margin: 0 0 8px; font-size: 15px; font-weight: 600; color: var(--soft); }
.lead { font-size: 18px; max-width: 70ch; margin: 0 0 8px; }
.wall { display: grid; gap: 20px; grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)); }
article { background: var(--card); border: 1px solid var(--line); border-radius: 14px; overflow: hidden; }
article img, article video { display: block; width: 100%; height: auto; }
.text { padding: 16px 18px; }
ul { margin: 10px 0 0; padding-left: 18px; font-size: 14px; color: var(--soft); }
table { width: 100%; border-collapse: collapse; background: var(--card); border-radius: 14px; overflow: hidden;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 9px 14px; border-bottom: 1px solid var(--line); }
th { font-size: 13px; color: var(--soft); }
.bar { display: inline-block; width: 90px; height: 6px; margin-left: 10px; border-radius: 3px; vertical-align: middle;
  background: linear-gradient(to right, var(--blue) calc(var(--share) * 100%), var(--line) 0); }
footer { margin-top: 56px; font-size: 14px; color: var(--soft); }
"""


def document(title: str, body: str, style: str = "") -> str:
    """Return a whole page.

    Args:
        title: plain text.
        body: HTML.
        style: CSS in addition to STYLE.
    """
    return (
        "<!doctype html>\n<html lang='en'>\n<head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n<body>\n<main>\n{body}</main>\n</body>\n"
        "</html>\n"
    )


def paragraphs(texts: Iterable[str], kind: str = "") -> str:
    """Return plain texts as paragraphs of a CSS class."""
    opening = f"<p class='{kind}'>" if kind else "<p>"
    return "".join(f"{opening}{escape(text)}</p>" for text in texts)


def picture_to_uri(picture: Frame) -> str:
    """Encode a picture (H, W, 3) as a data URI, in WebP, which compresses flat drawings best."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, format="WEBP", quality=88)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}"
