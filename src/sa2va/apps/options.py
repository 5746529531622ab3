"""Define command-line options shared by several commands, and their parsers.

Flow: command line -> Annotated types of apps/commands/*.py -> numbers, paths and the chosen model.
"""

import inspect
import io
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from functools import wraps
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, get_type_hints

import typer

import sa2va
from sa2va.apps.report import Manner
from sa2va.tokens import require_utf8, strip_expression

if TYPE_CHECKING:
    from sa2va.inference.compiling import CompileMode
    from sa2va.inference.predictor import Predictor
    from sa2va.inference.requests import Options


CHECK_FAILED = 1  # exit code of a command that measured something below its bar
HELP = {"help_option_names": ["-h", "--help"]}


def build_group(about: str) -> typer.Typer:
    """Create a group of commands that shows its help if no command is given."""
    group = typer.Typer(help=about, no_args_is_help=True, context_settings=HELP)
    group.callback()(lambda: None)  # keeps a group of one command a group
    return group


def parse_path(text: str | Path) -> Path:
    """Parse a path; reject an empty one (an unset shell variable), which would mean the current folder.

    Raises:
        typer.BadParameter: it is empty.
    """
    if not str(text):
        raise typer.BadParameter("the name is empty; give a file or folder")
    return Path(text)


MediaArgument = Annotated[
    str, typer.Argument(metavar="MEDIA", help="Image, video, GIF or folder of frames.", show_default=False)
]
ExpressionArgument = Annotated[
    str, typer.Argument(metavar="EXPRESSION", help='Referring expression, as in "the red car".', show_default=False)
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FOLDER", parser=parse_path, help="Folder for the results.", show_default=False
    ),
]
RegionOption = Annotated[
    list[str] | None,
    typer.Option("--region", metavar="X0,Y0,X1,Y1", help="Box in px, or a point X,Y. Repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]


def keep_quiet(context: typer.Context, quiet: bool) -> bool:
    """Silence remarks and progress bars, those of downloads included."""
    context.ensure_object(Manner).quiet = quiet
    if quiet:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    return quiet


QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=keep_quiet, help="Only the answer: no remarks, no progress bar."),
]

Region = tuple[float, ...]  # (x, y) point or (x0, y0, x1, y1) box, px

MODEL_HELP = '"tiny" (embedded), a model folder, or ORG/NAME on the hub.'
MODEL_PANEL = "The model"


class Dtype(StrEnum):
    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Quantize(StrEnum):
    INT8 = "int8"
    INT4 = "int4"


class Compile(StrEnum):
    AUTO = "auto"
    ON = "on"
    OFF = "off"

    @property
    def mode(self) -> "CompileMode":
        """The argument of `sa2va.load`."""
        return "auto" if self is Compile.AUTO else self is Compile.ON


def model_option(name: str, metavar: str | None, text: str) -> Any:
    return typer.Option(name, metavar=metavar, help=text, rich_help_panel=MODEL_PANEL)


@dataclass(frozen=True)
class ModelChoice:
    """Model of a command: the arguments of `sa2va.load` as options."""

    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAME", help=MODEL_HELP, rich_help_panel=MODEL_PANEL)
    ] = "tiny"
    adapter: Annotated[str | None, model_option("--adapter", "NAME", "LoRA adapter: a folder, or ORG/NAME.")] = None
    sam: Annotated[
        str | None,
        model_option("--sam", "NAME", "Original SAM 2 for consistent video, as in facebook/sam2-hiera-large."),
    ] = None
    device: Annotated[str, model_option("--device", "NAME", "auto, cpu, cuda, cuda:1 or mps.")] = "auto"
    dtype: Annotated[Dtype, model_option("--dtype", None, "Precision; auto is the fastest on the device.")] = Dtype.AUTO
    quantize: Annotated[Quantize | None, model_option("--quantize", None, "Integer quantization of the MLLM.")] = None
    revision: Annotated[str | None, model_option("--revision", "NAME", "Branch, tag or commit on the hub.")] = None
    offline: Annotated[bool, model_option("--offline", None, "No downloads.")] = False
    compile: Annotated[
        Compile,
        model_option(
            "--compile", None, "torch.compile for the steps that repeat; auto: on a GPU, for long clips and much use."
        ),
    ] = Compile.AUTO

    def of_process(self) -> "ModelChoice":
        """Return the choice of a process that torchrun started: the GPU of its rank within its machine."""
        local = os.environ.get("LOCAL_RANK")
        if local is None or self.device not in ("auto", "cuda"):
            return self
        from sa2va.checkpoints.device import choose_device

        return replace(self, device=f"cuda:{local}") if choose_device(self.device).type == "cuda" else self

    def load(self) -> "Predictor":
        """Load the model."""
        return sa2va.load(self.model, **self.arguments())

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `sa2va.load` other than the name."""
        return {
            "adapter": self.adapter,
            "sam": self.sam,
            "device": self.device,
            "dtype": self.dtype.value,
            "quantize": None if self.quantize is None else self.quantize.value,
            "revision": self.revision,
            "offline": self.offline,
            "compile": self.compile.mode,
        }

    def sources(self) -> dict[str, Any]:
        """Return the load settings that an evaluation records but a loaded model does not keep."""
        return {name: self.arguments()[name] for name in ("adapter", "sam", "quantize", "revision", "compile")}

    def folder(self) -> Path:
        """Return the model's folder, downloaded if it is not on this machine."""
        from sa2va.checkpoints.find import find_model

        return find_model(self.model, revision=self.revision, offline=self.offline)

    def identity(self) -> dict[str, Any]:
        """Return what decides the answers of the model: hashes of its files, and arguments of `sa2va.load`."""
        from sa2va.checkpoints.find import find_model
        from sa2va.evaluation.stamp import hash_files, list_model_files

        folder = self.folder()
        hashes: dict[str, str | None] = {"weights": hash_files(folder, list_model_files(folder))}
        for name, value in {"adapter": self.adapter, "sam": self.sam}.items():
            place = None if value is None else find_model(value, offline=self.offline)
            files = () if place is None else sorted(p for p in place.iterdir() if p.suffix in (".json", ".safetensors"))
            hashes[name] = None if place is None else hash_files(place, files)
        return hashes | {name: self.arguments()[name] for name in ("dtype", "quantize", "compile")}


def takes(
    command: Callable[..., Any],
    name: str,
    options: Mapping[str, tuple[Any, Any]],
    gather: Callable[[dict[str, Any]], Any],
) -> Callable[..., Any]:
    """Add options to a command, which receives their values as one argument.

    Args:
        command: the function that implements it.
        name: keyword argument for the values; typer does not see it.
        options: by name, annotation and default; a parameter of the command with the same name takes precedence.
        gather: builds the argument from the values of `options` by name.
    """
    own = inspect.signature(command).parameters
    hints = get_type_hints(command, include_extras=True)
    parameters = [p.replace(annotation=hints[p.name]) for p in own.values() if p.name != name]
    parameters += [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for key, (annotation, default) in options.items()
        if key not in own
    ]

    @wraps(command)
    def run(**values: Any) -> Any:
        gathered = gather({key: values[key] for key in options})
        return command(**{key: values[key] for key in own if key != name}, **{name: gathered})

    run.__annotations__ = {p.name: p.annotation for p in parameters}
    setattr(run, "__signature__", inspect.Signature(parameters))  # noqa: B010 - what typer reads
    return run


def dataclass_options(kind: Any) -> dict[str, tuple[Any, Any]]:
    """Return an option per field of a dataclass, for `takes`: name -> annotation and default."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: (hints[field.name], field.default) for field in fields(kind)}


def takes_model(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option per field of ModelChoice to a command, which receives it as `choice`."""
    return takes(command, "choice", dataclass_options(ModelChoice), lambda values: ModelChoice(**values))


def require_finite(number: float) -> float:
    """Reject NaN and infinity, which float() accepts; callback of every float option.

    Raises:
        typer.BadParameter: the number is not finite.
    """
    if not isfinite(number):
        raise typer.BadParameter(f"{number} is not finite; expected a number as in 0.5")
    return number


@dataclass(frozen=True)
class SamplingChoice:
    """Sampling of a command's answers: the fields of `Options` as options."""

    temperature: Annotated[
        float, typer.Option(min=0.0, callback=require_finite, help="Sampling temperature; 0: greedy.")
    ] = 0.0
    top_p: Annotated[
        float, typer.Option(max=1.0, callback=require_finite, help="Nucleus sampling: sum of the likeliest tokens.")
    ] = 1.0
    seed: Annotated[int, typer.Option(min=0, help="Random seed of sampling.")] = 0
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Stop string, which ends an answer. Repeatable.")
    ] = None
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of tokens per answer.", show_default=False)
    ] = None

    def options(self) -> "Options":
        """Return the options of each request."""
        from sa2va.inference.requests import Options

        given = {name: value for name, value in asdict(self).items() if value is not None}
        return Options(**given)


def takes_sampling(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option per field of SamplingChoice to a command, which receives it as `sampling`."""
    return takes(command, "sampling", dataclass_options(SamplingChoice), lambda values: SamplingChoice(**values))


def parse_region(text: str) -> Region:
    """Parse "x0,y0,x1,y1" (a box) or "x,y" (a point), in px of the picture.

    Raises:
        ValueError: not two or four numbers, or a box without area.
    """
    try:
        region = tuple(float(number) for number in text.split(","))
    except ValueError:
        region = ()
    if len(region) not in (2, 4) or not all(map(isfinite, region)):
        raise ValueError(f"--region {text!r}: expected x0,y0,x1,y1 (a box) or x,y (a point) in px, as in 10,20,200,180")
    if len(region) == 4 and not (region[0] < region[2] and region[1] < region[3]):
        raise ValueError(f"--region {text!r}: an empty box; expected x0 < x1 and y0 < y1")
    return region


def parse_regions(texts: list[str] | None) -> list[Region] | None:
    return [parse_region(text) for text in texts] if texts else None


def require_text(text: str, name: str) -> str:
    """Strip a text and reject an empty one.

    Raises:
        ValueError: there is only white space, or bytes that are not UTF-8.
    """
    if not text.strip():
        raise ValueError(f"{name} is empty; write what to look for, as in 'the red car'")
    return require_utf8(text.strip(), name)


def require_expression(text: str) -> str:
    """Strip white space and closing punctuation from an expression, and reject one without a word.

    Raises:
        ValueError: there are only white space, periods and question marks, or bytes that are not UTF-8.
    """
    expression = strip_expression(require_text(text, "EXPRESSION"))
    if not expression:
        raise ValueError(f"EXPRESSION {text!r} has no word; write what to look for, as in 'the red car'")
    return expression


def standard_input(content: str) -> TextIO:
    """Return standard input with undecodable bytes as surrogates, so that `require_utf8` can name their line.

    Args:
        content: name of its content, for the error message.

    Raises:
        ValueError: it is closed, as after `<&-` in a shell.
    """
    stream = sys.stdin
    if stream is None or stream.closed:
        raise ValueError(f"standard input is closed; type {content}, or pipe them in")
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="surrogateescape")
    return stream
