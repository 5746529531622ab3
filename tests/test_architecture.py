"""Hold the house to its own rules: floors, budgets and docstrings.

Flow: every .py file of the repository is parsed, never imported; each rule names the file and line that breaks it.
Source: the floor table of CONTRIBUTING.md.
"""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support.lint import EVERY_FILE, ROOT, SOURCES, SRC, refuse, where

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_CORE_DEPENDENCIES = 12
MAX_PRIVATE_NAMES = 11  # that cross a file
PUBLIC_NAMES = {"_replace", "_asdict", "_exit"}  # of named tuples and os, documented

# Room -> floor. A room imports itself and what lies strictly below it, so rooms of one floor are blind to each
# other; the ground floor alone is one shared room, kept free of cycles by a test of its own.
FLOORS = {
    "types": 0, "tokens": 0, "masks": 0, "journal": 0, "terminal": 0, "metrics": 0, "draw": 0, "files": 0, "media": 0,
    "extensions": 0, "extras": 0, "endpoint": 0,
    "model": 1, "data": 1,
    "checkpoints": 2,
    "inference": 3,
    "training": 4, "evaluation": 4, "bulk": 4, "synth": 4,
    "apps": 5,
    "world": 6,
    "gaze": 7,
}  # fmt: skip
FACE = "sa2va"  # src/sa2va/__init__.py; it leads to the predictor, so it stands above inference

# What a room may not import, whatever its floor: the ground needs no model library, a dataset no tokenizer.
FORBIDDEN_LIBRARIES = {0: {"transformers", "tokenizers", "peft", "accelerate"}}
FORBIDDEN_IN_DATA = {"transformers", "tokenizers"}

# The one file that may open pickled tensors, for `sa2va convert --unsafe-pickle-ok`.
PICKLE_READER = SRC / "checkpoints" / "pickled.py"
# The one file that may import pickle: it reads annotations of public datasets, and refuses every class and function.
PLAIN_PICKLE_READER = SRC / "data" / "plain_pickle.py"

# Imported when a user asks for it; the error says how to install it. In no extra: supervision needs opencv-python,
# which does not live beside opencv-python-headless; lmms-eval needs torchvision and an old PyAV, so it goes in without
# its dependencies, of which datasets and loguru are two.
ON_REQUEST = {"supervision", "lmms_eval", "datasets", "loguru"}

IMPORT_NAMES = {  # where the name to import is not the name to install
    "PIL": "pillow",
    "pillow_heif": "pillow-heif",
    "cv2": "opencv-python-headless",
    "sklearn": "scikit-learn",
    "yaml": "transformers",  # which cannot work without it
    "huggingface_hub": "transformers",  # which cannot work without it
    "httpx2": "transformers",  # of huggingface_hub, whose errors it raises
    "filelock": "torch",  # which cannot work without it
}


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(parse(path)))


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def imported_modules(path: Path) -> list[tuple[str, int]]:
    """List (dotted name, line) of each import, those inside functions and under TYPE_CHECKING included."""
    found = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where(path, node.lineno)}: relative import; write it in full"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.append((full if full in MODULES else base, node.lineno))
    return found


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else FACE


def may_import(importer: str, imported: str) -> bool:
    """Tell whether one room may import another; both are names of FLOORS or FACE."""
    if importer == FACE:
        return True  # lazily, which test_the_face_is_lazy checks
    if imported == FACE:
        return FLOORS[importer] > FLOORS["inference"]
    if importer == imported:
        return True
    below = FLOORS[imported] < FLOORS[importer]
    ground = FLOORS[importer] == FLOORS[imported] == 0
    return below or ground


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(name) for name in MODULES} - {FACE}
    assert rooms <= set(FLOORS), f"no floor for {sorted(rooms - set(FLOORS))}: add it to FLOORS and to CONTRIBUTING.md"


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("media", "types", True),  # the ground floor is one room
        ("model", "masks", True),
        ("model", "data", False),  # siblings are blind
        ("data", "model", False),
        ("training", "data", True),
        ("training", "evaluation", False),
        ("evaluation", "training", False),
        ("masks", "model", False),  # upwards
        ("evaluation", "gaze", False),  # the extension is unknown to what it stands on
        ("gaze", "model", True),
        ("apps", "gaze", False),
        ("gaze", "apps", True),
        ("gaze", "world", True),
        ("world", "gaze", False),
        ("checkpoints", "model", True),
        ("model", "checkpoints", False),
        ("inference", "checkpoints", True),
        ("apps", FACE, True),
        ("evaluation", FACE, True),
        ("model", FACE, False),
    ],
)
def test_the_floor_rule_says(importer: str, imported: str, allowed: bool) -> None:
    assert may_import(importer, imported) is allowed


def test_imports_go_down() -> None:
    refuse(
        (
            f"{where(path, line)}: {room_of(importer)} imports {name}"
            for importer, path in MODULES.items()
            for name, line in imported_modules(path)
            if name.split(".")[0] == FACE and not may_import(room_of(importer), room_of(name))
        ),
        "a room imports itself and what lies on a lower floor",
    )


def test_no_import_cycles() -> None:
    graph = {
        name: {target for target, _ in imported_modules(path) if target in MODULES and target != name}
        for name, path in MODULES.items()
        if name != FACE
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"import cycle: {' -> '.join((*trail[trail.index(name) :], name))}"
        if name not in done:
            for target in graph.get(name, ()):
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_libraries_are_declared_and_allowed() -> None:
    declared = {requirement_name(text) for text in project()["dependencies"]}
    declared |= {requirement_name(text) for texts in project()["optional-dependencies"].values() for text in texts}
    offenders = []
    for module, path in MODULES.items():
        room = room_of(module)
        forbidden = FORBIDDEN_LIBRARIES.get(FLOORS.get(room, -1), set()) | (
            FORBIDDEN_IN_DATA if room == "data" else set()
        )
        for name, line in imported_modules(path):
            top = name.split(".")[0]
            if top == FACE or top in sys.stdlib_module_names | ON_REQUEST:
                continue
            if IMPORT_NAMES.get(top, top) not in declared:
                offenders.append(f"{where(path, line)}: {top} is not declared in pyproject.toml")
            if top in forbidden:
                offenders.append(f"{where(path, line)}: {room} must not import {top}")
    refuse(offenders, "libraries are declared, and allowed on this floor")


def requirement_name(text: str) -> str:
    return re.split(r"[\[<>=!~; ]", text, maxsplit=1)[0].lower()


def test_core_dependencies_fit_the_budget() -> None:
    core = project()["dependencies"]
    assert len(core) <= MAX_CORE_DEPENDENCIES, f"{len(core)} core dependencies, at most {MAX_CORE_DEPENDENCIES}"


def test_dependencies_have_a_tested_version() -> None:
    extras = project()["optional-dependencies"]
    installed = [*project()["dependencies"], *extras["dev"], *extras["train"], *extras["gaze"]]  # as make setup does
    wanted = {requirement_name(text) for text in installed}
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins), "constraints.txt: exact, public versions only"
    pinned = {requirement_name(line).replace("_", "-") for line in pins}
    assert wanted <= pinned, f"not in constraints.txt: {sorted(wanted - pinned)}"
    assert "torchvision" not in pinned, "torchvision has no build for every torch we support"


def test_files_and_functions_fit_the_budget() -> None:
    offenders = []
    for path in EVERY_FILE:
        num_lines = len(path.read_text(encoding="utf-8").splitlines())
        if num_lines > MAX_FILE_LINES:
            offenders.append(f"{where(path)}: {num_lines} lines, at most {MAX_FILE_LINES}")
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    offenders.append(f"{where(path, node.lineno)}: {node.name} has {length} lines")
    refuse(offenders, f"a function has at most {MAX_FUNCTION_LINES} lines, a file {MAX_FILE_LINES}")


def test_names_say_something() -> None:
    vague = {"utils", "util", "misc", "common", "helpers"}
    refuse((where(path) for path in EVERY_FILE if {path.stem, path.parent.name} & vague), "name what it does")


def test_modules_introduce_themselves() -> None:
    offenders = []
    for path in SOURCES:
        if path.name == "__init__.py" and path.parent != SRC:
            if path.read_text().strip():
                offenders.append(f"{where(path)}: keep it empty; the only face is sa2va/__init__.py")
            continue
        text = ast.get_docstring(parse(path)) or ""
        first = text.partition("\n\n")[0].replace("\n", " ")
        if not re.match(r"[A-Z][\w-]*[ ,].*\.$", first):
            offenders.append(f"{where(path)}: start with one sentence, got {first!r}")
        if "Flow:" not in text:
            offenders.append(f"{where(path)}: the docstring lacks 'Flow:' (what comes in and where it goes)")
    refuse(offenders, "a module introduces itself")


def test_no_code_comes_from_a_file() -> None:
    """Weights are safetensors: nothing that can run code is ever read."""
    loaders = {"pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
    offenders = []
    for path in SOURCES:
        offenders += [
            f"{where(path, line)}: {name}"
            for name, line in imported_modules(path)
            if name.split(".")[0] in loaders and path != PLAIN_PICKLE_READER
        ]
        for node in nodes(path):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                arguments = {word.arg: ast.unparse(word.value) for word in node.keywords}
                if path != PICKLE_READER or arguments.get("weights_only") != "True":
                    offenders.append(f"{where(path, node.lineno)}: torch.load; use safetensors")
            if isinstance(node, ast.keyword) and node.arg in {"trust_remote_code", "allow_pickle"}:
                offenders.append(f"{where(path, node.value.lineno)}: {node.arg}")
    refuse(offenders, "nothing runs code from a file")


def test_nothing_is_left_lying_about() -> None:
    offenders = []
    for path in SOURCES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(r"#.*\b(TODO|FIXME|XXX|HACK)\b", line):
                offenders.append(f"{where(path, number)}: finish it or drop it")
        for node in nodes(path):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                offenders.append(f"{where(path, node.lineno)}: bare except")
    refuse(offenders, "nothing is left lying about")


def forks(node: ast.AST, path: Path) -> bool:
    """Tell whether a statement may start a process by forking this one."""
    if isinstance(node, ast.ImportFrom) and node.module == "multiprocessing":
        return not {alias.name for alias in node.names} <= {"get_context", "parent_process"}
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    if name.endswith("get_context") and not path.is_relative_to(SRC / "apps"):
        return [ast.unparse(word) for word in node.args] != ["'spawn'"]
    if name == "Parallel":
        return all(ast.unparse(word.value) != "'loky'" for word in node.keywords)
    if name == "DataLoader":
        context = [ast.unparse(word.value) for word in node.keywords if word.arg == "multiprocessing_context"]
        return not (context and context[0].startswith("'spawn'"))
    return name in {"os.fork", "ProcessPoolExecutor"}


def test_processes_are_started_afresh() -> None:
    """A fork of a process that has used torch inherits the locks of its threads, and hangs."""
    modules = {"concurrent.futures.process", "torch.multiprocessing"}
    offenders = []
    for path in SOURCES:
        offenders += [f"{where(path, line)}: {name}" for name, line in imported_modules(path) if name in modules]
        forking = (node for node in nodes(path) if forks(node, path))
        offenders += [f"{where(path, getattr(node, 'lineno', 0))}: {ast.unparse(node)}" for node in forking]
    refuse(offenders, "processes are spawned, and joblib uses loky")


def defined_names(path: Path) -> set[str]:
    """List every name and attribute that a file defines or assigns."""
    names = set()
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def test_few_private_names_cross_a_file() -> None:
    """A name with an underscore belongs to its file; those of libraries are counted too."""
    crossing = {}
    for path in SOURCES:
        own = defined_names(path)
        for node in nodes(path):
            names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            names += [node.attr] if isinstance(node, ast.Attribute) else []
            for name in names:
                if re.match(r"_[^_]", name) and name not in own | PUBLIC_NAMES:
                    crossing[path, name] = f"{where(path, getattr(node, 'lineno', 0))}: {name}"
    assert len(crossing) <= MAX_PRIVATE_NAMES, "\n".join(crossing.values())


def test_the_face_is_lazy() -> None:
    code = "import sys, sa2va; print(sorted({'torch', 'transformers', 'numpy', 'PIL'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_tests_mirror_the_source() -> None:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        folder = path.relative_to(ROOT / "tests").parent
        if folder.parts and folder.parts[0] not in {"parity", "e2e"}:
            assert (SRC / folder).is_dir(), f"{where(path)}: src/sa2va/{folder} does not exist"


def test_contributing_lists_every_room() -> None:
    """The floor table of CONTRIBUTING.md holds what FLOORS says."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (\d) \| (.+?) \|", text, re.MULTILINE)
    listed = {room: int(floor) for floor, rooms in rows for room in re.findall(r"`(\w+)`", rooms)}
    assert listed == FLOORS


MISSING = {room for room in FLOORS if not list(SRC.glob(f"{room}*"))}  # extensions whose folder was deleted


def test_contributing_says_where_to_add() -> None:
    """Every file or folder of the table is there; `<name>` stands for any."""
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where do I add")[2].partition("\n## ")[0]
    rows = "".join(re.findall(r"^\|.*$", table, re.MULTILINE))
    places = [place for place in re.findall(r"`([\w/<>.]+)`", rows) if "/" in place]
    here = [place for place in places if not MISSING & {place.partition("/")[0]} and not (MISSING and place[0] == "<")]
    patterns = {place: re.sub(r"<\w+>", "*", place) for place in here}
    gone = [place for place, one in patterns.items() if not [*SRC.glob(one), *ROOT.glob(one)]]
    refuse(gone, "CONTRIBUTING.md names what is not there")
    assert len(places) > 15


def test_the_tree_of_contributing_exists() -> None:
    """Every file and folder that the tree names is there, and every room has its line."""
    block = (ROOT / "CONTRIBUTING.md").read_text().partition("## The tree\n\n```text\n")[2].partition("```")[0]
    trail: list[str] = []
    rooms = set()
    for line in block.splitlines()[1:]:
        if match := re.match(r"((?:\|  |   )*)\|- (\S+)", line):
            trail = [*trail[: len(match[1]) // 3], match[2]]
            rooms.add(trail[0].rstrip("/").removesuffix(".py"))
        folder = SRC.joinpath(*[part for part in trail if part.endswith("/")])
        for name in re.findall(r"\b\w+\.py\b|\b\w+/", line):
            known = (folder / name).exists() or f"{folder.name}/" == name
            assert known or MISSING & {trail[0].rstrip("/"), name.rstrip("/")}, f"{'/'.join(trail)}: no {name}"
    assert set(FLOORS) <= rooms
