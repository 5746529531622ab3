"""Time a follow-up question relative to the first, which fills the vision features and the KV cache.

Flow: random weights of a released size -> Conversation.ask twice, answers of equal length -> ratio.
Run: python benchmarks/followup.py [--model ByteDance/Sa2VA-1B]
"""

import sys

import numpy as np
from image_speed import build
from measure import Table, choose_clock, name_clock, parser, repeat_command, report

from sa2va.inference.requests import Options

LIMIT = 0.25
ANSWER_TOKENS = 2


def main() -> int:
    made = parser("follow-up questions")
    made.add_argument("--model", default="ByteDance/Sa2VA-1B")
    made.add_argument("--dtype", default="bfloat16")
    made.add_argument("--device", default="cpu")
    options = made.parse_args()
    predictor = build(options.model, options.dtype, options.device)
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    limits = Options(max_new_tokens=ANSWER_TOKENS)
    predictor.open(picture[:64, :64]).ask("Warm up?", options=limits)
    chat, spent, clock = predictor.open(picture), [], choose_clock(options.device)
    for question in ("What is in the picture?", "And what is left of it?"):
        start = clock()
        chat.ask(question, options=limits)
        spent.append(clock() - start)
    title = f"{options.model}, random weights, {options.dtype}, one 640x480 image, {ANSWER_TOKENS} tokens per answer"
    table = Table(title, ("question", name_clock(clock)))
    table.add("first", spent[0])
    table.add("second", spent[1])
    table.judge("second / first", spent[1] / spent[0], LIMIT)
    return report(repeat_command("followup.py", made, options), [table], record=options.record, device=options.device)


if __name__ == "__main__":
    sys.exit(main())
