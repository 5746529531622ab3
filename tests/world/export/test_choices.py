"""Check the questions of chat benchmarks: options, pairs of yes and no, and their wording."""

import numpy as np
import pytest
from world.export.conftest import Export

from sa2va.evaluation.benchmark import Selection
from sa2va.evaluation.benchmarks import chat
from sa2va.world.export import choices
from sa2va.world.language.questions import Question
from sa2va.world.scenes.scene import COLORS
from sa2va.world.scenes.splits import UNSEEN_PAIRS
from sa2va.world.tasks.catalog import TASKS


def test_wrong_options_never_hold_the_answer() -> None:
    for kind, answers in choices.CHOICES.items():
        for answer in answers:
            options, right = choices.pick_options(Question("?", answer, kind), np.random.default_rng(0))
            assert options[right] == answer and len(set(options)) == 4
    assert set(choices.CHOICES["color"]) == set(COLORS)


def test_questions_of_training_name_no_withheld_pair() -> None:
    withheld = {" ".join(pair) for pair in UNSEEN_PAIRS}
    for index in range(30):
        scene = TASKS["conversation"](0, "train", index).meta["scene"]
        rng = np.random.default_rng(index)
        for category in choices.MME_CATEGORIES:
            _, pair = choices.ask_pair(scene, rng, category, UNSEEN_PAIRS)
            assert pair[0] != pair[1]
            assert not any(f" {one}?" in text or f" {one} " in text for one in withheld for text in pair)


@pytest.mark.parametrize(
    ("layout", "benchmark", "split"),
    [("seedbench", chat.seedbench, "image"), ("mmbench", chat.mmbench, "dev"), ("videomme", chat.videomme, "test")],
)
def test_training_asks_in_the_words_of_the_harness(write: Export, layout: str, benchmark, split: str) -> None:
    pytest.importorskip("lmms_eval")
    root, _ = write(layout, "dev", items=1)
    built = benchmark(Selection(split=split, root=root))
    document = built.load(0).documents[0]
    asked = built.ask(built.load(0))[0].prompt
    if layout == "videomme":
        options = [one.removesuffix(".").partition(". ")[2] for one in document["options"]]
        assert asked == choices.write_video_mme_prompt(document["question"], options)
    elif layout == "mmbench":
        options = [document[letter] for letter in choices.LETTERS]
        assert asked == choices.write_mmbench_prompt(document["question"], options)
    else:
        options = [document[f"choice_{letter.lower()}"] for letter in choices.LETTERS]
        assert asked == choices.write_seed_prompt(document["question"], options)


def test_training_asks_for_one_word_in_the_words_of_the_harness(write: Export) -> None:
    pytest.importorskip("lmms_eval")
    root, _ = write("mme", "dev", items=1)
    built = chat.mme(Selection(split="test", root=root))
    asked = built.ask(built.load(0))[0].prompt
    text = built.load(0).documents[0]["question"].removesuffix(" Please answer yes or no.")
    assert asked == choices.IN_ONE_WORD.format(text)
