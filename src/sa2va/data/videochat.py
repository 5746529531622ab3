"""Read conversations about videos in the layout of Chat-UniVi: video_chat.json and a folder of videos.

Flow: <folder>/{video_chat.json, Activity_Videos/<video>} -> one record per conversation -> Sample.
Source: Chat-UniVi, arXiv:2311.08046; videos of ActivityNet. A video listed as .mkv may be there as .mp4. The marker
    of the video is "<image>" in some releases and "<video>" in others.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sa2va.data.conversations import (
    IMAGE_MARKER,
    VIDEO_MARKER,
    Conversation,
    build_turns,
    count_characters,
    read_conversation,
)
from sa2va.data.media_files import UNKNOWN_LENGTH, MediaFolders, StoredVideo
from sa2va.data.records import Record, iterate_records
from sa2va.data.stored import Draw, DrawConfig, Extent, StoredDataset, check_split, read_each
from sa2va.types import Sample

SPLITS = ("train",)
ANNOTATIONS = "video_chat.json"
VIDEOS = "Activity_Videos"


@dataclass(frozen=True, slots=True)
class VideoConversation:
    """A conversation about a video."""

    name: str  # file and record, for messages
    path: Path
    conversation: Conversation


class VideoConversations(StoredDataset[VideoConversation]):
    """Conversations about videos, without masks."""

    def build_sample(self, record: VideoConversation, draw: Draw) -> Sample:
        turns = build_turns(record.conversation)
        return Sample(media=(StoredVideo(record.path),), turns=turns, task=self.name, meta={"video": record.path.name})

    def describe(self, record: VideoConversation) -> str:
        return record.name

    def extent(self, index: int) -> Extent:
        return Extent(UNKNOWN_LENGTH, count_characters(self.records[index].conversation))


def build(path: str | Path, *, split: str = "train", draw: DrawConfig | None = None) -> VideoConversations:
    """Read the conversations.

    Args:
        path: folder with video_chat.json and Activity_Videos.
        split: "train".
        draw: settings of the draws.

    Raises:
        ValueError: a file is missing, or a record is damaged.
    """
    check_split("videochat", split, SPLITS)
    folder = Path(path)
    videos = MediaFolders(folder / VIDEOS)
    records = read_each(lambda record: _read(record, videos), iterate_records(folder / ANNOTATIONS))
    return VideoConversations("videochat", records, draw or DrawConfig())


def _read(record: Record, videos: MediaFolders) -> VideoConversation:
    name = record.text("video")
    others = [str(PurePosixPath(name).with_suffix(".mp4"))] if name.endswith(".mkv") else []
    path = videos.find(name, record, others)
    return VideoConversation(
        f"{record.file}: {record.name}", path, read_conversation(record, VIDEO_MARKER, IMAGE_MARKER)
    )
