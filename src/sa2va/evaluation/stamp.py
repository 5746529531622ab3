"""Identify an evaluation run by everything that decides its answers.

Flow: predictor, the names it was loaded by -> describe_run -> Run -> keys of answers, stamp of the report. Weights are
    hashed by content, code without its comments. Code that only scores does not count: a repaired metric reads the
    answers that are there.
"""

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sa2va
from sa2va.checkpoints import adapter as adapters
from sa2va.checkpoints.find import find_model
from sa2va.checkpoints.folder import CONFIG_FILE
from sa2va.checkpoints.shards import list_shards
from sa2va.checkpoints.tokenizers import tokenizer_folder
from sa2va.evaluation.benchmark import Benchmark
from sa2va.extensions import load_extensions, missing_extensions
from sa2va.inference.compiling import CompileMode
from sa2va.inference.predictor import Predictor
from sa2va.journal import content_key

ANSWER_VERSION = 2  # increase if stored answers become wrong while `hash_code` stays the same
PACKAGE = Path(sa2va.__file__).parent
# Subpackages that no answer depends on; a new one counts until it is listed here. What a benchmark asks is stored with
# the answer.
_NO_PART = {"apps", "bulk", "draw", "evaluation", "metrics", "training"}
_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "pillow", "opencv-python-headless")
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json", "*.jinja")
_SHOWN_ONLY = ("model", "adapter", "sam")  # names, not content
_HASH_LETTERS = 16


@dataclass(frozen=True, kw_only=True)
class Run:
    """Identity of a run: model, settings and code. Two runs with the same keys give the same answers.

    Attributes:
        model: its name, as given.
        model_hash: of weights, config and tokenizer.
        adapter: name of the LoRA adapter, if any.
        adapter_hash: of its weights and config.
        sam: name of the original SAM 2, if any.
        sam_hash: of its weights and config.
        dtype: the precision in use, never "auto".
        quantize: "int8", "int4" or None.
        device: the kind in use: "cpu", "cuda", "mps".
        compile: the argument of `sa2va.load`; compiled steps may round differently.
        libraries: name -> version.
        code_hash: see `hash_code`.
    """

    model: str
    model_hash: str
    adapter: str | None = None
    adapter_hash: str | None = None
    sam: str | None = None
    sam_hash: str | None = None
    dtype: str
    quantize: str | None = None
    device: str
    compile: CompileMode = "auto"
    libraries: dict[str, str]
    code_hash: str

    def key(self, benchmark: Benchmark[Any], item: str) -> str:
        """Return the key of the answers to an item, which is given by its id.

        The protocol does not count: it also says how answers are scored, and the questions are stored beside them.
        """
        decides = {name: value for name, value in asdict(self).items() if name not in _SHOWN_ONLY}
        asked = {name: getattr(benchmark, name) for name in ("name", "split", "seed", "options", "forced")}
        asked["prompts"] = None if benchmark.selection is None else benchmark.selection.prompts
        return content_key({**decides, "benchmark": asked, "item": item})

    def in_words(self) -> str:
        """Describe the run for the head of a report; one without a hash was not of a model of ours."""
        if not self.model_hash:
            return self.model
        adapter = f" with adapter {self.adapter} ({self.adapter_hash})" if self.adapter else ""
        sam = f" and original SAM 2 {self.sam} ({self.sam_hash})" if self.sam else ""
        packed = f", quantized to {self.quantize}" if self.quantize else ""
        compiled = "" if self.compile == "auto" else f", compile={self.compile}"
        return (
            f"{self.model} ({self.model_hash}){adapter}{sam}, {self.dtype}{packed} on {self.device}{compiled}; "
            f"code {self.code_hash}, " + ", ".join(f"{name} {number}" for name, number in self.libraries.items())
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, from which `Run(**values)` is the same run."""
        return asdict(self)


def describe_run(
    predictor: Predictor,
    model: str | Path,
    *,
    adapter: str | Path | None = None,
    sam: str | Path | None = None,
    quantize: str | None = None,
    revision: str | None = None,
    compile: CompileMode = "auto",
) -> Run:
    """Describe a run on a loaded model; pass the same arguments as to `sa2va.load`.

    Raises:
        ValueError: the files of a model, adapter or SAM 2 are no longer there.
    """
    folder = find_model(model, revision=revision, offline=True)
    used = (*_LIBRARIES, *(["bitsandbytes"] if quantize else []), *(["peft"] if adapter else []))
    return Run(
        model=str(model) if revision is None else f"{model}@{revision}",
        model_hash=hash_files(folder, list_model_files(folder)),
        adapter=None if adapter is None else str(adapter),
        adapter_hash=None if adapter is None else _hash_adapter(find_model(adapter, offline=True)),
        sam=None if sam is None else str(sam),
        sam_hash=None if sam is None else _hash_sam(find_model(sam, offline=True)),
        dtype=str(predictor.dtype).removeprefix("torch."),
        quantize=quantize,
        device=predictor.device.type,
        compile=compile,
        libraries={name: version(name) for name in used},
        code_hash=hash_code(),
    )


def _hash_adapter(folder: Path) -> str:
    return hash_files(folder, [folder / adapters.CONFIG_FILE, folder / adapters.WEIGHTS_FILE])


def _hash_sam(folder: Path) -> str:
    return hash_files(folder, [folder / CONFIG_FILE, *list_shards(folder)])


def list_model_files(folder: Path) -> list[Path]:
    """List the files of a model folder that decide an answer: config, weights, tokenizer."""
    place = tokenizer_folder(folder)
    words = {path for pattern in _TOKENIZER_FILES for path in place.glob(pattern) if path.is_file()}
    return [folder / CONFIG_FILE, *list_shards(folder), *sorted(words)]


def hash_files(folder: Path, files: Iterable[Path]) -> str:
    """Hash the relative paths and the content of files."""
    total = hashlib.sha256()
    for path in files:
        total.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:_HASH_LETTERS]


def hash_code(package: Path = PACKAGE) -> str:
    """Hash the source code that decides an answer, prefixed by ANSWER_VERSION; see `hash_sources`."""
    extensions = {name for name, module in load_extensions().items() if not hasattr(module, "BENCHMARKS")}
    left_out = extensions.union(_NO_PART, missing_extensions())
    files = (path for path in package.rglob("*.py") if left_out.isdisjoint(path.relative_to(package).parts))
    return f"{ANSWER_VERSION}-{hash_sources(files, package)}"


def hash_sources(files: Iterable[Path], package: Path = PACKAGE) -> str:
    """Hash the relative paths and the code of Python files, without comments, docstrings and layout."""
    total = hashlib.sha256()
    for path in sorted(files):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        total.update(f"{path.relative_to(package).as_posix()}\n{ast.dump(_without_docstrings(tree))}\n".encode())
    return total.hexdigest()[:_HASH_LETTERS]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
    return tree
