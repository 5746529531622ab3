"""Predict human gaze while an expression is spoken: word by word, or for a whole expression.

Flow: image -> GazePredictor.start -> GazeStream: .bot, .hear(word), .end() -> Packs in px of the image; predict()
    runs a stream to its end.
Source: RefCOCO-Gaze, Mondal et al., ECCV 2024, arXiv:2407.19605, for the task.
Shapes: S samples, H W image, g h g w grid of cells on the canvas; xy px, ms.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sa2va.checkpoints.find import find_model
from sa2va.checkpoints.shards import save_tensors
from sa2va.files.atomic import whole_folder, write_text
from sa2va.files.json_file import read_json
from sa2va.gaze.letterbox import Letterbox
from sa2va.gaze.model.decoder import DecoderConfig, EventDecoder
from sa2va.gaze.model.events import Word, pack_words
from sa2va.gaze.model.grounding import MAX_WORDS, check_word, split_words
from sa2va.gaze.model.rollout import LastFixation, Mode, Rollout
from sa2va.gaze.model.scanpath_model import SIGNED, ScanpathModel, canvas_features, fingerprint, image_features
from sa2va.gaze.scanpath import Fixation, Pack, Scanpath
from sa2va.gaze.speech import FIRST_ONSET, predict_duration
from sa2va.gaze.timing import SpeechTiming
from sa2va.inference.embedded import warn_once
from sa2va.inference.loading import load
from sa2va.inference.unpicklable import Unpicklable
from sa2va.media.source import open_media
from sa2va.model.sa2va import Sa2VA
from sa2va.model.torch_defaults import plain_defaults

WEIGHTS_FILE, CONFIG_FILE = "gaze.safetensors", "gaze.json"
MAX_SAMPLES = 1000
MAX_CONFIG_BYTES = 2**20
MAX_TIME = 3_600_000.0  # ms, one hour of speech


@dataclass(frozen=True)
class Target:
    """Predicted target of the words so far."""

    mask: NDArray[np.bool_]  # (H, W)
    score: float  # 0..1, mean probability of the mask's pixels; 0 for an empty mask


def save_gaze(decoder: EventDecoder, folder: Path, card: Mapping[str, Any] | None = None) -> None:
    """Save an event decoder as gaze.safetensors and gaze.json.

    Args:
        decoder: Event decoder.
        folder: Folder to write, usually that of the model it was trained on.
        card: Training details, for people to read.

    Raises:
        ValueError: a file cannot be written; `folder` is then unchanged.
    """
    record = {"decoder": asdict(decoder.config), "card": dict(card or {})}
    with whole_folder(folder) as draft:
        save_tensors(
            draft / WEIGHTS_FILE, {name: value.detach().float().cpu() for name, value in decoder.state_dict().items()}
        )
        write_text(draft / CONFIG_FILE, json.dumps(record, indent=1) + "\n")


@plain_defaults()
def load_decoder(folder: Path) -> EventDecoder:
    """Load an event decoder saved by `save_gaze`.

    Raises:
        ValueError: a file is missing, damaged, or does not fit the configuration.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}: no gaze weights; train them with `sa2va gaze train`")
    try:
        config = DecoderConfig(**read_json(folder / CONFIG_FILE, MAX_CONFIG_BYTES)["decoder"])
        with torch.device("meta"):  # compare shapes before allocating memory
            outlines = EventDecoder(config).state_dict()
    except (TypeError, ValueError, KeyError, AssertionError, RuntimeError) as error:
        raise ValueError(
            f"{folder / CONFIG_FILE} describes no gaze decoder ({type(error).__name__}: {error}); "
            f"use the file that was saved with {WEIGHTS_FILE}"
        ) from error
    try:
        values = load_file(folder / WEIGHTS_FILE)
        _check_shapes(values, outlines)
        decoder = EventDecoder(config)
        decoder.load_state_dict(values)
    except (SafetensorError, RuntimeError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder / WEIGHTS_FILE} does not fit {CONFIG_FILE}: {reason:.160}") from error
    bad = next((name for name, value in values.items() if not value.isfinite().all()), None)
    if bad is not None:
        raise ValueError(f"{folder / WEIGHTS_FILE}: {bad} holds values that are not finite; the file is damaged")
    return decoder.eval()


def _check_shapes(values: Mapping[str, Tensor], outlines: Mapping[str, Tensor]) -> None:
    """Check names and shapes of weights against the configuration.

    Raises:
        ValueError: naming the first tensor that differs.
    """
    for name in sorted(values.keys() ^ outlines.keys()):
        raise ValueError(f"tensor {name} is {'unknown' if name in values else 'missing'}")
    for name, outline in outlines.items():
        if values[name].shape != outline.shape:
            raise ValueError(f"{name} has shape {tuple(values[name].shape)}, expected {tuple(outline.shape)}")


def load_gaze(name: str | Path = "tiny", *, gaze: str | Path | None = None, **options: Any) -> "GazePredictor":
    """Load a model with its gaze weights.

    Args:
        name: Model name or folder, as for `sa2va.load`.
        gaze: Folder of the gaze weights; None = beside the model, in the same revision.
        options: Options of `sa2va.load`. `compile` has no effect: gaze runs uncompiled.

    Raises:
        ValueError: the model or its gaze weights are missing, or the gaze weights were trained on another model.
    """
    where = {key: options[key] for key in ("revision", "offline") if key in options}
    folder = Path(gaze) if gaze is not None else find_model(name, **where)
    decoder = load_decoder(folder)
    predictor = load(name, **options)
    if options.get("adapter") is None and options.get("quantize") is None:  # these change weights on purpose
        check_base_model(folder, predictor.model)
    model = ScanpathModel(predictor.model, predictor.processor, decoder.to(predictor.device))
    return GazePredictor(model, is_embedded=predictor.is_embedded)


def check_base_model(folder: Path, model: Sa2VA) -> None:
    """Check that gaze weights were trained on this model; hidden states of models are not interchangeable.

    A mismatch is an error rather than a warning: the predictions would look plausible and be wrong. The check does not
    depend on precision. A card without a fingerprint, or with one in an older format, passes.

    Raises:
        ValueError: the card beside the weights names another model.
    """
    trained = read_card(folder).get("model")
    if not isinstance(trained, str) or not trained.startswith(SIGNED):
        return
    if trained != (ours := fingerprint(model)):
        raise ValueError(
            f"{folder / CONFIG_FILE}: trained on the model {trained}, this one is {ours}; "
            "load the model that the gaze weights were trained on (revision?), or train them on this one"
        )


def read_card(folder: Path) -> dict[str, Any]:
    """Read the training details that `save_gaze` wrote; empty without a card."""
    card = json.loads((folder / CONFIG_FILE).read_text()).get("card")
    return card if isinstance(card, dict) else {}


class GazePredictor(Unpicklable):
    """Gaze prediction with a loaded model."""

    instead = "let each process load its own with sa2va.load_gaze(...)"

    def __init__(self, model: ScanpathModel, *, is_embedded: bool = False) -> None:
        self.is_embedded = is_embedded  # trained on synthetic shapes only; `start` warns once
        self.model = model.eval()

    def start(
        self,
        image: Any,
        num_samples: int = 10,
        seed: int = 0,
        *,
        mode: Mode = "sample",
        last_fixation: LastFixation = "hard",
        first_onset: float = FIRST_ONSET,
    ) -> "GazeStream":
        """Start a stream on an image, ready for the first word. Any number of streams may run at once.

        Args:
            image: One image, in any form that `sa2va.media.source.open_media` takes.
            num_samples: S, number of scanpaths to sample.
            seed: Random seed, >= 0. Sample s does not depend on the number of samples, up to rounding.
            mode: "sample" draws each scanpath. "mode" takes the most likely position at each step and stops at the
                median number of fixations: one scanpath, the same for all samples and seeds.
            last_fixation: "hard" constrains the last fixation to the predicted target, "soft" does not.
            first_onset: Onset of the first word, ms; the pack before the words ends there.

        Raises:
            ValueError: the image cannot be read, or an argument is out of range.
        """
        if mode not in ("sample", "mode"):
            raise ValueError(
                f"mode {mode!r}: expected sample or mode; consensus needs whole scanpaths, use predict() for it"
            )
        if last_fixation not in ("soft", "hard"):
            raise ValueError(f"last_fixation {last_fixation!r}: expected soft or hard")
        whole = all(isinstance(number, Integral) and not isinstance(number, bool) for number in (num_samples, seed))
        if not whole or not 1 <= num_samples <= MAX_SAMPLES or seed < 0:
            raise ValueError(
                f"{num_samples!r} samples, seed {seed!r}: expected 1..{MAX_SAMPLES} samples, a seed of 0 or more"
            )
        if self.is_embedded:
            warn_once()
        onset = _check_time("first onset", first_onset)
        return GazeStream(self.model, image, num_samples, seed, mode, last_fixation, onset)

    def predict(
        self,
        image: Any,
        expression: str,
        timing: SpeechTiming | None = None,
        num_samples: int = 10,
        mode: Mode | Literal["consensus"] = "sample",
        seed: int = 0,
        *,
        last_fixation: LastFixation = "hard",
    ) -> list[Scanpath]:
        """Predict scanpaths for a whole expression.

        Args:
            image: As for `start`.
            expression: Words separated by spaces.
            timing: Times of the words; None = predicted from the words.
            num_samples: S.
            mode: As for `start`, or "consensus": the medoid of S sampled scanpaths.
            seed: As for `start`.
            last_fixation: As for `start`.

        Returns:
            S scanpaths in px of the image; one with mode "consensus".

        Raises:
            ValueError: as for `start`; an empty or too long expression, or a timing for a different number of words.
        """
        words = [check_word(word) for word in split_words(expression)]
        if timing is not None and len(timing.onsets) != len(words):
            raise ValueError(f"expression of {len(words)} words, timing of {len(timing.onsets)}: expected equal counts")
        before, *following = pack_words(words, timing)
        assert before.end is not None
        _check_time("end of the sound", following[-1].onset)
        each: Mode = "sample" if mode == "consensus" else mode
        stream = self.start(image, num_samples, seed, mode=each, last_fixation=last_fixation, first_onset=before.end)
        for word in following:
            stream._advance(word)
        return [choose_consensus(stream.scanpaths)] if mode == "consensus" else stream.scanpaths


class GazeStream(Unpicklable):
    """One image and the words so far, with S scanpaths being sampled."""

    instead = "call sa2va.load_gaze(...) and start(image) in the other process, then pass the same words"

    @plain_defaults()
    @torch.no_grad()
    def __init__(
        self,
        model: ScanpathModel,
        image: Any,
        num_samples: int,
        seed: int,
        mode: Mode,
        last_fixation: LastFixation,
        first_onset: float,
    ) -> None:
        media = open_media(image)
        if not media.is_image:
            raise ValueError(f"{media.name}: expected a picture, got a video; pass one of its frames")
        self.name, self._model = media.name, model
        self._box = Letterbox(image_size=(media.width, media.height))
        self._grounding = model.grounder.open_stream(media.frames([0]))
        image_maps = canvas_features(model.decoder, *image_features(self._grounding.features), self._box.image_size)
        self._rollout = Rollout(
            model.decoder, num_samples=num_samples, seed=seed, mode=mode,
            last_fixation=last_fixation, image_maps=image_maps,
        )  # fmt: skip
        self._packs: list[list[Pack]] = [[] for _ in range(num_samples)]
        self.words: list[str] = []
        self.onsets: list[float] = []
        self.bot = self._advance(Word(None, 0.0, first_onset))

    def hear(self, word: str, onset: float | None = None, duration: float | None = None) -> list[Pack]:
        """Process one word and sample the fixations that begin while it is spoken.

        Args:
            word: One word, without white space.
            onset: ms from the beginning of the sound; None = the end of the previous word, or the first onset.
            duration: ms; None = predicted from this word alone.

        Returns:
            S packs in px of the image.

        Raises:
            ValueError: an invalid word or time, or the stream has ended.
        """
        word = check_word(word)
        if self._ended:
            raise ValueError(f"word {word!r:.40}: the stream has ended; start a new one")
        if len(self.words) == MAX_WORDS:
            raise ValueError(f"word {word!r:.40}: expected at most {MAX_WORDS} words; start a new stream")
        begin = self._clock if onset is None else _check_time("onset", onset)
        if begin < self._clock:  # fixations up to the clock have been returned
            limit = "the end of the last word" if self.words else "the first_onset of start(); pass a smaller one there"
            raise ValueError(f"word {word!r:.40}: onset {begin} ms lies before {self._clock} ms, {limit}")
        length = predict_duration(word) if duration is None else _check_time("duration", duration)
        return self._advance(Word(word, begin, begin + length))

    def end(self) -> list[Pack]:
        """End the expression and sample the fixations after the last word.

        Raises:
            ValueError: no word has been processed, or the stream has ended.
        """
        if self._ended or not self.words:
            raise ValueError(
                "the stream has ended; start a new one" if self._ended else "no word has been heard; call hear() first"
            )
        return self._advance(Word(None, self._clock, None))

    @property
    def target(self) -> Target:
        """Predicted target of the words so far."""
        sam2, (width, height) = self._model.sa2va.sam2, self._box.image_size
        probability = sam2.enlarge(self._logits[None], height, width)[0].sigmoid()
        mask = probability > 0.5
        return Target(mask.cpu().numpy(), float(probability[mask].mean()) if mask.any() else 0.0)

    @property
    def scanpaths(self) -> list[Scanpath]:
        """S whole scanpaths in px of the image, once the stream has ended.

        Raises:
            ValueError: the stream has not ended.
        """
        if not self._ended:
            raise ValueError("the stream has not ended; call end() first")
        width, height = self._box.image_size
        return [Scanpath(packs=tuple(p), width=width, height=height, image=self.name) for p in self._packs]

    @plain_defaults()
    @torch.no_grad()
    def _advance(self, word: Word) -> list[Pack]:
        """Ground a pack's word and sample the pack's fixations."""
        if word.text is not None:
            self._grounding.append(word.text)
            self.words.append(word.text)
            self.onsets.append(word.onset)
        if word.end is not None:  # the pack after the words reuses the last word's belief
            self._clock = word.end
            self._logits: Tensor = self._grounding.probe()
            self._belief = self._model.belief(self._logits[None], self._box.image_size)[0]
        self._ended = word.end is None
        new = self._rollout.run_pack(word, self._belief, self._grounding.state)
        packs = [Pack(tuple(map(self._to_image, fixations)), word.text) for fixations in new]
        for row, pack in zip(self._packs, packs, strict=True):
            row.append(pack)
        return packs

    def _to_image(self, fixation: Fixation) -> Fixation:
        ((x, y),) = self._box.to_image([(fixation.x, fixation.y)]).tolist()
        return Fixation(x, y, fixation.start, fixation.duration)


def choose_consensus(paths: Sequence[Scanpath]) -> Scanpath:
    """Choose the medoid scanpath under dynamic time warping, normalized by the longer length.

    Args:
        paths: At least one, each with a fixation.
    """
    from sa2va.gaze.metrics.distance import dtw  # imports scipy, which prediction alone does not need

    points = [path.points for path in paths]
    distances = np.zeros((len(points), len(points)))
    for row, one in enumerate(points):
        for column, other in enumerate(points[:row]):
            distances[row, column] = distances[column, row] = dtw(one, other) / max(len(one), len(other))
    return paths[int(distances.sum(0).argmin())]


def _check_time(name: str, value: float) -> float:
    """Return a time in ms as a float.

    Raises:
        ValueError: it is no number in 0..MAX_TIME.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= MAX_TIME:
        raise ValueError(f"{name} {value!r:.40}: expected a number of ms, 0 to {MAX_TIME:,.0f}")
    return float(value)
