"""Write and check expressions for the objects of clips, step by step, so that a killed run goes on where it was.

Flow: SourceClips in blocks -> views -> per level Captioner.caption and Checker.check, then Captioner.merge -> a record
    per clip and step in OUT/journal.jsonl -> Outcome per object -> layout.py, report.py. A step whose record is there
    is not asked again. The clips of a block are asked together, so batches do not depend on when a run was killed.
Source: Sa2VA, arXiv:2501.04001, section on Ref-SAV: object, scene and video level, merged to one caption.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sa2va.journal import Journal
from sa2va.synth.captioner import LEVELS, OBJECT, Captioner, Checker, Part, Parts, Verdict
from sa2va.synth.layout import place_media
from sa2va.synth.sources import SourceClip
from sa2va.synth.views import View, read_views

JOURNAL = "journal.jsonl"
MERGE = "merge"

_Place = tuple[str, int]  # clip, object


@dataclass(frozen=True)
class Outcome:
    """What became of one object.

    Attributes:
        clip: name of the clip.
        object: place of the object among the masks of the clip.
        parts: by level, what was written.
        verdicts: by level, what the checker said.
        caption: merged long caption; "" = the object is rejected.
    """

    clip: str
    object: int
    parts: Parts
    verdicts: Mapping[str, Verdict]
    caption: str = ""

    def problem(self, level: str) -> str:
        """Return why a level was rejected; "" = it was accepted, or there is nothing to accept."""
        if level not in self.parts:
            return ""
        return self.parts[level].problem or self.verdicts.get(level, Verdict()).problem

    @property
    def accepted(self) -> list[str]:
        """Levels whose expression was accepted."""
        return [name for name in self.parts if self.parts[name].expression and not self.problem(name)]

    @property
    def kept(self) -> Parts:
        """Parts of the long caption: what the object is, and accepted levels; none without an accepted expression."""
        accepted = self.accepted
        return {name: part for name, part in self.parts.items() if name in (OBJECT, *accepted)} if accepted else {}

    @property
    def expressions(self) -> list[str]:
        """Accepted short expressions, each once."""
        return list(dict.fromkeys(self.parts[name].expression for name in self.accepted))


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run.

    Attributes:
        folder: for the results.
        clips: of all shards.
        captioner: see captioner.py.
        checkers: each is asked about what those before accepted; none = everything is accepted.
        block: clips whose questions are asked together.
    """

    folder: Path
    clips: Sequence[SourceClip]
    captioner: Captioner
    checkers: Sequence[Checker]
    block: int = 8

    @property
    def num_blocks(self) -> int:
        return -(-len(self.clips) // self.block)

    def clips_of(self, block: int) -> list[tuple[int, SourceClip]]:
        """Return the clips of a block with their numbers in the run."""
        first = block * self.block
        return list(enumerate(self.clips[first : first + self.block], first))


class Engine:
    """Runs the steps of blocks of clips."""

    def __init__(self, job: Job) -> None:
        """Open the journal.

        Raises:
            ValueError: it is damaged.
        """
        self.job, self.journal = job, Journal(job.folder / JOURNAL)

    def is_done(self, block: int) -> bool:
        """Return whether all clips of a block have their captions."""
        return all(self.journal.done(_key(clip.name, MERGE)) for _, clip in self.job.clips_of(block))

    def run(self, block: int) -> None:
        """Run the missing steps of a block.

        Raises:
            ValueError: a server cannot be reached, or the disk refuses a file.
        """
        if self.is_done(block):
            return
        clips = self.job.clips_of(block)
        read = _read_all([clip for _, clip in clips])
        errors = {name: found for name, found in read.items() if isinstance(found, str)}
        views = [view for found in read.values() if not isinstance(found, str) for view in found]
        outcomes = self._merge(self._ask(views, list(read)))
        for number, clip in clips:
            if any(one.caption for one in outcomes if one.clip == clip.name):
                place_media(self.job.folder, clip, number)
        done = {
            name: {"error": errors.get(name, ""), "objects": [asdict(one) for one in outcomes if one.clip == name]}
            for name in read
        }
        self.journal.append_all([(_key(name, MERGE), record) for name, record in done.items()])

    def _ask(self, views: Sequence[View], clips: Sequence[str]) -> list[Outcome]:
        """Caption and check all levels of a block."""
        captioner = self.job.captioner
        parts: dict[_Place, dict[str, Part]] = {_place(view): {} for view in views}
        verdicts: dict[_Place, dict[str, Verdict]] = {_place(view): {} for view in views}
        for level in LEVELS:
            open_ = [view for view in views if level == OBJECT or _is_described(parts[_place(view)])]
            earlier = [parts[_place(view)] for view in open_]
            written = self._step(level, clips, open_, lambda v, e=earlier, n=level: captioner.caption(n, v, e))
            for view, one in zip(open_, written, strict=True):
                if one is not None:
                    parts[_place(view)][level] = Part(**one)
            asked = [view for view in open_ if _is_open(parts[_place(view)].get(level))]
            for checker in self.job.checkers:
                wanted = [parts[_place(view)][level] for view in asked]
                name = f"{checker.step} {level}"
                checked = self._step(name, clips, asked, lambda v, w=wanted, c=checker: c.check(v, w))
                for view, one in zip(asked, checked, strict=True):
                    before = verdicts[_place(view)].get(level, Verdict())
                    verdicts[_place(view)][level] = before.and_then(Verdict(**one))
                asked = [view for view in asked if not verdicts[_place(view)][level].problem]
        return [Outcome(*place, parts[place], verdicts[place]) for place in parts]

    def _merge(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Write the long captions of the objects that have an accepted expression."""
        kept = [one for one in outcomes if one.kept]
        texts = iter(self.job.captioner.merge([one.kept for one in kept]) if kept else ())
        return [replace(one, caption=next(texts)) if one.kept else one for one in outcomes]

    def _step(
        self, name: str, clips: Sequence[str], views: Sequence[View], ask: Callable[[Sequence[View]], Sequence[Any]]
    ) -> list[Any]:
        """Return the stored answers of a step, one per view; ask for all of them if one is missing."""
        keys = {clip: _key(clip, name) for clip in clips}
        stored: dict[str, dict[str, Any]] = {clip: self.journal.get(key) or {} for clip, key in keys.items()}
        # A clip that could not be read when the run was killed has a record without objects.
        has_all = all(str(view.object) in stored[view.clip] for view in views)
        if not (has_all and all(map(self.journal.done, keys.values()))):
            found = list(ask(views)) if views else []
            stored = {clip: {} for clip in clips}
            for view, one in zip(views, found, strict=True):
                stored[view.clip][str(view.object)] = None if one is None else asdict(one)
            self.journal.append_all([(keys[clip], record) for clip, record in stored.items()])
        return [stored[view.clip][str(view.object)] for view in views]

    def outcomes(self) -> Iterator[tuple[SourceClip, str, list[Outcome]]]:
        """Yield each finished clip, why it could not be read ("" if it could), and what became of its objects."""
        journal = Journal(self.job.folder / JOURNAL)  # with what other shards wrote meanwhile
        for clip in self.job.clips:
            record = journal.get(_key(clip.name, MERGE))
            if record is not None:
                yield clip, record["error"], [_read_outcome(one) for one in record["objects"]]


def _read_all(clips: Sequence[SourceClip]) -> dict[str, list[View] | str]:
    """Decode clips: by name the views of the objects, or why the clip cannot be read."""
    found: dict[str, list[View] | str] = {}
    for clip in clips:
        try:
            found[clip.name] = read_views(clip)
        except ValueError as error:
            found[clip.name] = " ".join(str(error).split())
    return found


def _key(clip: str, step: str) -> str:
    return f"{clip} {step}"


def _place(view: View) -> _Place:
    return view.clip, view.object


def _is_described(parts: Parts) -> bool:
    """Return whether the levels above the object can build on its description."""
    return OBJECT in parts and not parts[OBJECT].problem


def _is_open(part: Part | None) -> bool:
    """Return whether a part has an expression to check."""
    return part is not None and bool(part.expression) and not part.problem


def _read_outcome(values: Mapping[str, Any]) -> Outcome:
    parts = {level: Part(**one) for level, one in values["parts"].items()}
    verdicts = {level: Verdict(**one) for level, one in values["verdicts"].items()}
    return Outcome(values["clip"], values["object"], parts, verdicts, values["caption"])
