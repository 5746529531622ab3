"""Build tasks of lmms-eval on local files: its prompts, media, scores and aggregation, without its loop.

Flow: name of a task, parquet files -> load_task -> Task -> evaluation/benchmarks/chat.py.
Source: lmms-eval 0.7.3 (https://github.com/EvolvingLMMs-Lab/lmms-eval), imported when a benchmark is built. It cannot
    be a dependency: its own dependencies include torchvision and PyAV older than 16.
"""

import contextlib
import io
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from sa2va.evaluation.lmms.messages import speak, to_options, to_request
from sa2va.inference.requests import DEFAULT_NEW_TOKENS, Request

VERSION = "0.7.3"
INSTALL = (
    f"pip install --no-deps lmms-eval=={VERSION} && pip install datasets evaluate httpx jsonlines loguru openai "
    "openpyxl pytablewriter python-dotenv sacrebleu sqlitedict tenacity tqdm-multiprocess zstandard"
)
Document = dict[str, Any]  # row of a dataset


@contextlib.contextmanager
def quiet_harness() -> Generator[None]:
    """Silence the prints, log lines and progress bars of lmms-eval and the libraries that it reads with."""
    import datasets  # ty: ignore
    from loguru import logger  # ty: ignore

    shows_bars = not datasets.are_progress_bars_disabled()
    logger.disable("lmms_eval")
    datasets.disable_progress_bars()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.enable("lmms_eval")
        if shows_bars:
            datasets.enable_progress_bars()


class Task:
    """A task of lmms-eval on local files.

    Attributes:
        documents: rows of the split, without pictures.
        options: of every request, from the task's generation arguments; text only.
    """

    def __init__(self, task: Any) -> None:
        self._task = task
        self._shown = _Delayed(task.test_docs())
        self.documents: Sequence[Document] = task.test_docs_no_media()
        options = to_options(task.config.generation_kwargs or {})
        # A longer limit than the default would be reserved in the context of every prompt.
        self.options = replace(options, max_new_tokens=min(options.max_new_tokens, DEFAULT_NEW_TOKENS))

    def column(self, name: str) -> list[Any]:
        """Return the values of a column, of all rows."""
        return list(self._task.test_docs_no_media()[name])

    def ask(self, row: int, *, as_clip: bool = False) -> Request:
        """Build the request of a row; pictures are decoded when the model reads them.

        Args:
            row: number of the document.
            as_clip: its pictures are the frames of a clip.
        """
        return to_request(self._task.doc_to_messages(self._shown[row]), as_clip=as_clip)

    def score(self, row: int, text: str) -> dict[str, Any]:
        """Score an answer, with its special tokens; the keys are the metrics of the task."""
        with quiet_harness():
            return self._task.process_results(self.documents[row], [speak(text)])

    def aggregate(self, metric: str, values: Sequence[Any]) -> float:
        """Aggregate the values of a metric as lmms-eval does."""
        with quiet_harness():
            return float(self._task.aggregation()[metric](list(values)))


def load_task(name: str, folder: str, tables: Sequence[Path], **overrides: Any) -> Task:
    """Load a task of lmms-eval.

    Args:
        name: of the task.
        folder: of the task below lmms_eval/tasks.
        tables: parquet files of its split.
        overrides: entries of its configuration that differ.

    Raises:
        ValueError: lmms-eval is not installed.
    """
    manager, config = open_manager(folder), local_config(name, tables, **overrides)
    with quiet_harness():
        return Task(manager.load_task_or_group([config], task_type="chat")[name])


def open_manager(folder: str) -> Any:
    """Open lmms-eval's index of the tasks in one of its folders; that of all folders takes seconds.

    Raises:
        ValueError: lmms-eval is not installed.
    """
    try:
        with quiet_harness():
            import lmms_eval.tasks as tasks  # ty: ignore
    except ImportError as error:
        raise ValueError(
            f"this benchmark runs through lmms-eval, which is not installed ({error}); {INSTALL}"
        ) from None
    with quiet_harness():
        index = str(Path(tasks.__file__).parent / folder)
        return tasks.TaskManager(include_path=index, include_defaults=False, model_name="sa2va")


def local_config(name: str, tables: Sequence[Path], **overrides: Any) -> dict[str, Any]:
    """Return the entries of a task's configuration that make it read local files."""
    return {
        "task": name,
        "test_split": "test",
        "dataset_path": "parquet",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": [str(path) for path in tables]}},
        **overrides,
    }


class _Delayed:
    """Rows of a dataset with pictures that are opened but not decoded."""

    def __init__(self, documents: Any) -> None:
        self._stored = documents.with_format("arrow")  # gives pictures as their bytes

    def __getitem__(self, row: int) -> Document:
        return {name: _open_all(value) for name, value in self._stored[row].to_pylist()[0].items()}


def _open_all(value: Any) -> Any:
    """Open a stored picture, or those of a list; return any other value as it is."""
    if isinstance(value, list):
        return [_open_all(one) for one in value]
    return open_later(value) if isinstance(value, dict) and value.keys() == {"bytes", "path"} else value


def open_later(stored: Mapping[str, Any]) -> Image.Image:
    """Open a stored picture without decoding it, nor when a task converts it to RGB, as our reader does later.

    Raises:
        ValueError: its bytes are no picture.
    """
    try:
        picture = Image.open(io.BytesIO(stored["bytes"]) if stored["bytes"] is not None else stored["path"])
    except (OSError, TypeError) as error:
        raise ValueError(f"picture {stored['path']}: cannot be read ({error}); download the dataset again") from None
    unchanged: Callable[..., Image.Image] = lambda *args, **kwargs: picture  # noqa: E731
    setattr(picture, "convert", unchanged)  # noqa: B010 - shadows the method of this one picture
    return picture
