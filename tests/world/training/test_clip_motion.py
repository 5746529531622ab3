"""Check the labels of moving objects, and that the temporal encoder learns them from stored visual tokens."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.small_model import EMBEDDED, build_model
from transformers import PreTrainedTokenizerFast

from sa2va.model.processor import Processor
from sa2va.model.sa2va import Sa2VA
from sa2va.training.stage import RunContext
from sa2va.training.trainer import fit_stage
from sa2va.types import Sample
from sa2va.world.scenes.motion import MOTIONS
from sa2va.world.scenes.sampling import make_scene
from sa2va.world.scenes.scene import Scene
from sa2va.world.training.clip_motion import NOBODY, MotionConfig, label_motions, motion_words

KEYFRAMES = [0, 5, 10, 15]


def draw_clip(index: int) -> tuple[Scene, Sample]:
    scene = make_scene(0, "train", index, moving=True)
    drawn = scene.render(256, 16)
    frames, masks = drawn.frames[KEYFRAMES], drawn.masks[:, KEYFRAMES]
    return scene, Sample.of_arrays(frames=frames, turns=(), masks=masks, meta={"scene": scene})


def build_stage(folder: Path, **settings: int):
    model, processor = build_model(seed=1)
    context = RunContext(model=model, processor=processor, seed=0, folder=folder, device=torch.device("cpu"))
    values = {"steps": 30, "batch_size": 4, "num_clips": 6, "num_workers": 0, "warmup_steps": 2} | settings
    return MotionConfig(name="motion", lr=5e-3, autocast=False, **values).build(context), model, processor


def test_each_motion_has_a_token_of_its_own() -> None:
    words = motion_words(PreTrainedTokenizerFast.from_pretrained(EMBEDDED))
    assert len(set(words.tolist())) == len(MOTIONS)


def test_labels_name_the_object_that_covers_most_of_a_cell() -> None:
    side = 8
    for index in range(3):
        scene, sample = draw_clip(index)
        labels = label_motions([sample, sample], side)
        first = labels.cells[:, 0] == 0
        assert torch.equal(labels.kinds[first], labels.kinds[~first])
        named = dict(zip(labels.cells[first, 1].tolist(), labels.kinds[first].tolist(), strict=True))
        for place in range(len(KEYFRAMES) * side**2):
            frame, row, column = place // side**2, place // side % side, place % side
            cell = sample.masks[:, frame, row * 32 : row * 32 + 32, column * 32 : column * 32 + 32].mean((1, 2))
            wanted = MOTIONS.index(scene.objects[int(cell.argmax())].motion.kind) if cell.max() >= 0.2 else None
            assert named.get(place) == wanted


def test_encoded_clips_equal_prompts_and_are_read_again(tmp_path: Path) -> None:
    stage, model, processor = build_stage(tmp_path)
    clips = stage.data.clips
    config = stage.config
    scene = make_scene(config.seed, "train", config.first_scene + 2, moving=True)
    frames = scene.render(256, 16).frames[KEYFRAMES]
    pixels = torch.cat([picture.pixel_values for picture in processor.read_pictures(frames)])
    with torch.no_grad():
        wanted = model.mllm.encode_images(pixels, torch.zeros(0, 3)).tokens
    torch.testing.assert_close(clips.tokens[2].float(), wanted, atol=2e-2, rtol=2e-2)
    labels = clips.label(torch.tensor([2]))
    assert len(labels.kinds) == int((clips.owners[2] != NOBODY).sum()) > 0
    assert set(labels.kinds.tolist()) <= {MOTIONS.index(one.motion.kind) for one in scene.objects}
    path = tmp_path / "motion" / "clips.safetensors"
    written = path.stat().st_mtime_ns
    again, *_ = build_stage(tmp_path)
    assert path.stat().st_mtime_ns == written and torch.equal(again.data.clips.tokens, clips.tokens)
    with pytest.raises(ValueError, match=r"clips.safetensors holds 6 clips; expected 7"):
        build_stage(tmp_path, num_clips=7)


def test_each_pass_shows_each_clip_once(tmp_path: Path) -> None:
    stage, *_ = build_stage(tmp_path, batch_size=4)
    seen = [int(key[1]) for step in range(3) for key in stage.data.keys(step)]
    assert sorted(seen[:6]) == sorted(seen[6:]) == list(range(6))


@pytest.mark.slow
def test_the_stage_learns_the_clips_that_it_sees_and_trains_nothing_else(tmp_path: Path) -> None:
    stage, model, _ = build_stage(tmp_path, steps=60)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = stage.data.collate(list(range(6)))
    losses = []
    for _ in range(2):
        with torch.no_grad():
            terms = stage.module(batch)
        losses.append(float(terms["word_motion"].total) / float(terms["word_motion"].count))
        fit_stage(stage)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert losses[1] < 0.8 * losses[0]
    assert changed and all(name.startswith("mllm.temporal.") for name in changed)


def test_a_model_without_temporal_encoder_is_refused(tmp_path: Path) -> None:
    _, processor = build_model()
    config = replace(processor.config, temporal_heads=0)
    context = RunContext(
        model=Sa2VA(config), processor=Processor(config, processor.tokenizer), seed=0, folder=tmp_path,
        device=torch.device("cpu"),
    )  # fmt: skip
    with pytest.raises(ValueError, match="no temporal encoder"):
        MotionConfig(name="motion", steps=1, batch_size=1, num_clips=1, lr=1e-3).build(context)
