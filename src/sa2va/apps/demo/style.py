"""Define the CSS of the demo page, light and dark.

Flow: STYLE -> page.py -> the <style> element of index.html.
"""

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
.wall { display: grid; gap: 20px; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); }
article { background: var(--card); border: 1px solid var(--line); border-radius: 14px; overflow: hidden; }
article img, article video { display: block; width: 100%; height: auto; }
.text { padding: 16px 18px; }
.ask { margin: 8px 0 2px; color: var(--soft); }
.ask::before { content: "\\203A  "; color: var(--blue); }
.say { margin: 0 0 4px; font-weight: 550; }
.expected { margin: 0; font-size: 14px; color: var(--soft); }
.right, .wrong { font-size: 12px; font-weight: 600; padding: 1px 7px; border-radius: 9px; border: 1px solid; }
.right { color: var(--green); } .wrong { color: var(--red); }
ul { margin: 10px 0 0; padding-left: 18px; font-size: 14px; color: var(--soft); }
table { width: 100%; border-collapse: collapse; background: var(--card); border-radius: 14px; overflow: hidden;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 9px 14px; border-bottom: 1px solid var(--line); }
th { font-size: 13px; color: var(--soft); }
.task td { font-weight: 600; padding-top: 18px; }
.bar { display: inline-block; width: 90px; height: 6px; margin-left: 10px; border-radius: 3px; vertical-align: middle;
  background: linear-gradient(to right, var(--blue) calc(var(--share) * 100%), var(--line) 0); }
footer { margin-top: 56px; font-size: 14px; color: var(--soft); }
"""
