"""Predict where people look while they listen: word by word, or a whole expression at once.

Flow: picture -> GazePredictor.start -> GazeStream: .bot, .hear(word), .end() -> Packs in px of the picture;
    predict() is the stream run to its end.
Source: RefCOCO-Gaze, Mondal et al., ECCV 2024, arXiv:2407.19605, for the task.
Shapes: S samples, H W picture, g h g w grid of cells on the canvas; xy px, ms.
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
from sa2va.gaze.model.events import Word, words_of
from sa2va.gaze.model.listening import MAX_WORDS, check_word, split_words
from sa2va.gaze.model.rollout import Landing, Mode, Rollout
from sa2va.gaze.model.scanpath_model import SIGNED, ScanpathModel, fingerprint, picture_features, view
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
LONGEST_SOUND = 3_600_000.0  # ms, an hour


@dataclass(frozen=True)
class Target:
    """Where the target is believed to be so far."""

    mask: NDArray[np.bool_]  # (H, W)
    score: float  # 0..1, mean chance of the mask's own pixels; 0 for an empty mask


def save_gaze(decoder: EventDecoder, folder: Path, card: Mapping[str, Any] | None = None) -> None:
    """Write an event decoder beside the model it was trained on: gaze.safetensors and gaze.json.

    Args:
        decoder: to be written.
        folder: where.
        card: how it was trained, for people to read.

    Raises:
        ValueError: the disk refuses a file; `folder` is as before.
    """
    record = {"decoder": asdict(decoder.config), "card": dict(card or {})}
    with whole_folder(folder) as draft:
        save_tensors(
            draft / WEIGHTS_FILE, {name: value.detach().float().cpu() for name, value in decoder.state_dict().items()}
        )
        write_text(draft / CONFIG_FILE, json.dumps(record, indent=1) + "\n")


@plain_defaults()
def load_decoder(folder: Path) -> EventDecoder:
    """Read what `save_gaze` wrote.

    Raises:
        ValueError: there is nothing, or it is damaged.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}: it knows no gaze; train it with `sa2va gaze train`")
    try:
        config = DecoderConfig(**read_json(folder / CONFIG_FILE, MAX_CONFIG_BYTES)["decoder"])
        with torch.device("meta"):  # sizes are compared before any memory is taken
            outlines = EventDecoder(config).state_dict()
    except (TypeError, ValueError, KeyError, AssertionError, RuntimeError) as error:
        raise ValueError(
            f"{folder / CONFIG_FILE} describes no gaze decoder ({type(error).__name__}: {error}); "
            f"take the file that was saved beside {WEIGHTS_FILE}"
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
    """Compare names and shapes of weights with those that a configuration describes.

    Raises:
        ValueError: they differ.
    """
    for name in sorted(values.keys() ^ outlines.keys()):
        raise ValueError(f"tensor {name} is {'unknown' if name in values else 'missing'}")
    for name, outline in outlines.items():
        if values[name].shape != outline.shape:
            raise ValueError(f"{name} has shape {tuple(values[name].shape)}, expected {tuple(outline.shape)}")


def load_gaze(name: str | Path = "tiny", *, gaze: str | Path | None = None, **options: Any) -> "GazePredictor":
    """Load a model with its gaze weights.

    Args:
        name: as for `sa2va.load`.
        gaze: folder of the gaze weights; None = beside the model, in the same revision.
        options: as for `sa2va.load`.

    Raises:
        ValueError: there is no such model, it has no gaze weights, or they were trained on other weights of it.
    """
    where = {key: options[key] for key in ("revision", "offline") if key in options}
    folder = Path(gaze) if gaze is not None else find_model(name, **where)
    decoder = load_decoder(folder)
    predictor = load(name, **options)
    if options.get("adapter") is None and options.get("quantize") is None:  # these change weights on purpose
        check_listener(folder, predictor.model)
    model = ScanpathModel(predictor.model, predictor.processor, decoder.to(predictor.device))
    return GazePredictor(model, is_embedded=predictor.is_embedded)


def check_listener(folder: Path, model: Sa2VA) -> None:
    """See that gaze weights were trained on this model: the states of another one mean other things to them.

    That is an error, not a remark, since such gaze looks sound and is not. It is the same in every precision. A card
    that names no model, or does so by a fingerprint of an older kind, is taken on trust.

    Raises:
        ValueError: the card beside the weights names another model.
    """
    trained = read_card(folder).get("model")
    if not isinstance(trained, str) or not trained.startswith(SIGNED):
        return
    if trained != (ours := fingerprint(model)):
        raise ValueError(
            f"{folder / CONFIG_FILE}: trained on the model {trained}, this one is {ours}; "
            "take the model that the gaze weights were trained on (revision?), or train them on this one"
        )


def read_card(folder: Path) -> dict[str, Any]:
    """How the gaze weights of a folder were trained, as `save_gaze` wrote it; empty where nothing is said."""
    card = json.loads((folder / CONFIG_FILE).read_text()).get("card")
    return card if isinstance(card, dict) else {}


class GazePredictor(Unpicklable):
    """A model of gaze that is ready for pictures."""

    instead = "let each process load its own with sa2va.load_gaze(...)"

    def __init__(self, model: ScanpathModel, *, is_embedded: bool = False) -> None:
        self.is_embedded = is_embedded  # it knows drawn shapes only, and says so
        self.model = model.eval()

    def start(
        self,
        image: Any,
        num_samples: int = 10,
        seed: int = 0,
        *,
        mode: Mode = "sample",
        landing: Landing = "hard",
        first_onset: float = FIRST_ONSET,
    ) -> "GazeStream":
        """Show a picture and wait for words. Many streams may run at once.

        Args:
            image: see `sa2va.media.source.open_media`; one picture.
            num_samples: S, looks that share everything but chance.
            seed: of chance, >= 0; sample s draws the same numbers however many others there are, so that it looks at
                the same, up to rounding.
            mode: "sample" draws each scanpath; "mode" takes the likeliest place at each step and stops where half of
                the people would have: one scanpath, the same for all samples and seeds.
            landing: "hard" holds the last fixation to the target, "soft" leaves that to what was learned.
            first_onset: ms, where the first word begins: the pack before the words ends there.

        Raises:
            ValueError: the picture cannot be read, or a number is out of range.
        """
        if mode not in ("sample", "mode"):
            raise ValueError(f"mode {mode!r}: expected sample or mode; consensus is for predict(), of whole scanpaths")
        if landing not in ("soft", "hard"):
            raise ValueError(f"landing {landing!r}: expected soft or hard")
        whole = all(isinstance(number, Integral) and not isinstance(number, bool) for number in (num_samples, seed))
        if not whole or not 1 <= num_samples <= MAX_SAMPLES or seed < 0:
            raise ValueError(
                f"{num_samples!r} samples, seed {seed!r}: expected 1..{MAX_SAMPLES} samples, a seed of 0 or more"
            )
        if self.is_embedded:
            warn_once()
        return GazeStream(self.model, image, num_samples, seed, mode, landing, _time("first onset", first_onset))

    def predict(
        self,
        image: Any,
        expression: str,
        timing: SpeechTiming | None = None,
        num_samples: int = 10,
        mode: Mode | Literal["consensus"] = "sample",
        seed: int = 0,
        *,
        landing: Landing = "hard",
    ) -> list[Scanpath]:
        """Run a stream over a whole expression.

        Args:
            image: as for `start`.
            expression: words between spaces.
            timing: when each word is spoken; None predicts it from the words.
            num_samples: S.
            mode: as for `start`, or "consensus": of S drawn scanpaths, the one that is most like the others.
            seed: as for `start`.
            landing: as for `start`.

        Returns:
            S scanpaths, px of the picture; one of them with mode "consensus".

        Raises:
            ValueError: as `start`; an empty or overlong expression, or a timing of another number of words.
        """
        words = [check_word(word) for word in split_words(expression)]
        if timing is not None and len(timing.onsets) != len(words):
            raise ValueError(f"expression of {len(words)} words, timing of {len(timing.onsets)}: expected as many")
        before, *following = words_of(words, timing)
        assert before.end is not None
        _time("end of the sound", following[-1].onset)
        each: Mode = "sample" if mode == "consensus" else mode
        stream = self.start(image, num_samples, seed, mode=each, landing=landing, first_onset=before.end)
        for word in following:
            stream._look(word)
        return [choose_consensus(stream.scanpaths)] if mode == "consensus" else stream.scanpaths


class GazeStream(Unpicklable):
    """One picture and the words so far, with S people who look at it."""

    instead = "begin another with start(image) and the same words, in a process of its own after sa2va.load_gaze(...)"

    @plain_defaults()
    @torch.no_grad()
    def __init__(
        self,
        model: ScanpathModel,
        image: Any,
        num_samples: int,
        seed: int,
        mode: Mode,
        landing: Landing,
        first_onset: float,
    ) -> None:
        media = open_media(image)
        if not media.is_image:
            raise ValueError(f"{media.name}: expected a picture, got a video; pass one of its frames")
        self.name, self._model = media.name, model
        self._box = Letterbox(image_size=(media.width, media.height))
        self._hearing = model.listener.open(media.frames([0]))
        seen = view(model.decoder, *picture_features(self._hearing.features), self._box.image_size)
        self._rollout = Rollout(
            model.decoder, num_samples=num_samples, seed=seed, mode=mode, landing=landing, view=seen
        )
        self._packs: list[list[Pack]] = [[] for _ in range(num_samples)]
        self.words: list[str] = []
        self.onsets: list[float] = []
        self.bot = self._look(Word(None, 0.0, first_onset))

    def hear(self, word: str, onset: float | None = None, duration: float | None = None) -> list[Pack]:
        """Hear one word and look until it is over.

        Args:
            word: without white space.
            onset: ms from the beginning of the sound; None = where the word before ends, or the first onset.
            duration: ms; None = predicted from this word alone.

        Returns:
            S packs, px of the picture.

        Raises:
            ValueError: no word, a time that cannot be, or the stream has ended.
        """
        word = check_word(word)
        if self._ended:
            raise ValueError(f"word {word!r:.40}: the stream has ended; start a new one")
        if len(self.words) == MAX_WORDS:
            raise ValueError(f"word {word!r:.40}: expected at most {MAX_WORDS} words; start a new stream")
        begin = self._clock if onset is None else _time("onset", onset)
        if begin < self._clock:  # what was looked at until then has been given out
            limit = "where the last word ends" if self.words else "the first_onset of start(); begin with a smaller one"
            raise ValueError(f"word {word!r:.40}: onset {begin} ms lies before {self._clock} ms, {limit}")
        length = predict_duration(word) if duration is None else _time("duration", duration)
        return self._look(Word(word, begin, begin + length))

    def end(self) -> list[Pack]:
        """Say that no word follows, and look until everybody has stopped.

        Raises:
            ValueError: no word has been heard, or the stream has ended.
        """
        if self._ended or not self.words:
            raise ValueError(
                "the stream has ended; start a new one" if self._ended else "no word has been heard; hear one first"
            )
        return self._look(Word(None, self._clock, None))

    @property
    def target(self) -> Target:
        """Where the target is believed to be so far."""
        sam2, (width, height) = self._model.sa2va.sam2, self._box.image_size
        chance = sam2.enlarge(self._logits[None], height, width)[0].sigmoid()
        mask = chance > 0.5
        return Target(mask.cpu().numpy(), float(chance[mask].mean()) if mask.any() else 0.0)

    @property
    def scanpaths(self) -> list[Scanpath]:
        """S whole scanpaths, once the stream has ended, px of the picture.

        Raises:
            ValueError: it has not ended.
        """
        if not self._ended:
            raise ValueError("the stream has not ended; call end() first")
        width, height = self._box.image_size
        return [Scanpath(packs=tuple(p), width=width, height=height, image=self.name) for p in self._packs]

    @plain_defaults()
    @torch.no_grad()
    def _look(self, word: Word) -> list[Pack]:
        """Hear what a pack brings, and look until it is over."""
        if word.text is not None:
            self._hearing.hear(word.text)
            self.words.append(word.text)
            self.onsets.append(word.onset)
        if word.end is not None:  # after the words nothing new is known
            self._clock = word.end
            self._logits: Tensor = self._hearing.probe()
            self._belief = self._model.belief(self._logits[None], self._box.image_size)[0]
        self._ended = word.end is None
        new = self._rollout.hear(word, self._belief, self._hearing.state)
        packs = [Pack(tuple(map(self._to_image, fixations)), word.text) for fixations in new]
        for row, pack in zip(self._packs, packs, strict=True):
            row.append(pack)
        return packs

    def _to_image(self, fixation: Fixation) -> Fixation:
        ((x, y),) = self._box.to_image([(fixation.x, fixation.y)]).tolist()
        return Fixation(x, y, fixation.start, fixation.duration)


def choose_consensus(paths: Sequence[Scanpath]) -> Scanpath:
    """Choose the scanpath that is most like the others: the medoid by dynamic time warping per fixation.

    Args:
        paths: at least one, each with a fixation.
    """
    from sa2va.gaze.metrics.distance import dtw  # needs scipy, which looking alone does not

    points = [path.points for path in paths]
    far = np.zeros((len(points), len(points)))
    for row, one in enumerate(points):
        for column, other in enumerate(points[:row]):
            far[row, column] = far[column, row] = dtw(one, other) / max(len(one), len(other))
    return paths[int(far.sum(0).argmin())]


def _time(name: str, value: float) -> float:
    """Return a time in ms, or say what is wrong with it."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= LONGEST_SOUND:
        raise ValueError(f"{name} {value!r:.40}: expected a number of ms, 0 to {LONGEST_SOUND:,.0f}")
    return float(value)
