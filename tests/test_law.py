"""The rules of the house that a linter does not know: sizes, the test mirror, what an import loads, start-up time."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from octavo.cli.main import VERBS

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "octavo").rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70
MAX_VERB_LINES = 80
MAX_HELP_SECONDS = 0.3

# path below the repository -> why it may break a size limit
ALLOWED: dict[str, str] = {}

TORCHLESS = [
    "octavo",
    "octavo.config",
    "octavo.config.model",
    "octavo.config.presets",
    "octavo.config.counts",
    "octavo.text",
    "octavo.text.tokenizer",
    "octavo.text.chat",
    "octavo.text.parser",
    "octavo.text.detokenizer",
    "octavo.sandbox",
    "octavo.cli",
    "octavo.cli.main",
    "octavo.engine.request",
    "octavo.engine.plan",
    "octavo.engine.serving.job",
    "octavo.engine.serving.events",
    "octavo.engine.serving.scheduler",
    "octavo.engine.serving.simulate",
    "octavo.engine.serving.grammar",
    "octavo.engine.serving.trials",
    "octavo.engine.serving.settings",
    "octavo.server",
    "octavo.server.app",
    "octavo.server.serve",
    "octavo.server.settings",
    "octavo.cache.layout",
    "octavo.cache.pages",
]


def name(path: Path) -> str:
    """`path` relative to the repository, with slashes."""
    return path.relative_to(ROOT).as_posix()


def test_files_are_short() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {file: n for file, n in lengths.items() if n > MAX_FILE_LINES and file not in ALLOWED} == {}


def test_functions_are_short() -> None:
    long = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES and name(path) not in ALLOWED:
                    long[f"{name(path)}:{node.lineno} {node.name}"] = lines
    assert long == {}


def test_verbs_are_thin() -> None:
    verbs = [ROOT / "octavo" / "cli" / f"{verb}.py" for verb in VERBS]
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in verbs}
    assert {file: n for file, n in lengths.items() if n >= MAX_VERB_LINES and file not in ALLOWED} == {}


def test_allowed_exceptions_still_exist_and_have_reasons() -> None:
    assert all((ROOT / file).is_file() and reason for file, reason in ALLOWED.items())


def test_every_module_and_public_function_is_documented() -> None:
    bare = []
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if tree.body and ast.get_docstring(tree) is None:
            bare.append(name(path))
        for node in tree.body:
            is_public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if is_public and ast.get_docstring(node) is None:
                bare.append(f"{name(path)}:{node.lineno} {node.name}")
    assert bare == []


def mirror_of(path: Path) -> Path | None:
    """The test file that must stand for the product file `path`, or None if it needs none."""
    parts = path.relative_to(ROOT / "octavo").parts
    if parts[-1].startswith("__"):
        is_op = parts[0] == "kernels" and len(parts) == 3
        return ROOT / "tests" / "kernels" / f"test_{parts[1]}.py" if is_op else None
    if parts[:2] == ("bench", "cases"):
        return ROOT / "tests" / "bench" / "test_cases.py"
    if parts[0] == "kernels" and len(parts) > 2:
        return ROOT / "tests" / "kernels" / f"test_{parts[1]}.py"
    return ROOT.joinpath("tests", *parts[:-1], f"test_{parts[-1].lstrip('_')}")


def test_tests_mirror_the_product() -> None:
    wanted = {name(path): mirror for path in FILES if (mirror := mirror_of(path)) is not None}
    assert {file: name(mirror) for file, mirror in wanted.items() if not mirror.is_file()} == {}


def test_nothing_is_left_to_do() -> None:
    pattern = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError")
    places = [f"{name(path)}:{n}" for path in FILES for n, line in enumerate(path.read_text().splitlines(), 1)
              if pattern.search(line)]  # fmt: skip
    assert places == []


@pytest.mark.parametrize("module", TORCHLESS)
def test_import_leaves_torch_alone(module: str) -> None:
    code = f"import sys, {module}; print(sorted(m for m in ('torch', 'transformers') if m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr, run.stdout.strip()) == (0, "", "[]")


def test_help_is_quick() -> None:
    command = [str(Path(sys.executable).with_name("octavo")), "--help"]
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        best = min(best, time.perf_counter() - start)
    assert "octavo read" in run.stdout
    assert best < MAX_HELP_SECONDS


def test_import_law() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def _callees(node: ast.FunctionDef) -> set[str]:
    return {one.func.id for one in ast.walk(node) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)}


def test_what_loops_call_is_a_part_of_them() -> None:
    """See `octavo.kernels.compiled.part`. Names are imported as they are, so that the name tells the function."""
    callers, loops = {}, set()
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                marks = {mark.id for mark in node.decorator_list if isinstance(mark, ast.Name)}
                if marks & {"loop", "part"}:
                    callers[name(path), node.name] = _callees(node)
                if "loop" in marks:
                    loops.add((name(path), node.name))
    assert len(loops) > 20
    for (file, caller), called in callers.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        own = {other for path, other in loops if path == file or re.search(rf"import .*\b{other}\b", text)}
        assert not called & own, f"{caller} of {file} calls {called & own}: mark it @part"
