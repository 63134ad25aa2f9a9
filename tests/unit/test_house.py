"""Where things are, as far as a machine can check it. docs/ARCHITECTURE.md has the plan."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts import keys
from contracts.failures import FailureReason
from contracts.states import JobState

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "services").glob("*/src/*"))
MODULES = sorted(path for source in SOURCES for path in source.rglob("*.py"))
FOLDERS = sorted({path.parent for path in MODULES})
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")],
)
ARCHITECTURE = (ROOT / "docs/ARCHITECTURE.md").read_text()
MOST_MODULES = 15
MOST_LINES = 400
KNOWS_PRIVATE_NAMES = ("api/src/api/web/fast_path.py", "api/src/api/broker/")
OWN = {source.name for source in SOURCES}


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("folder", FOLDERS, ids=shown)
def test_a_folder_is_taken_in_at_a_glance(folder: Path) -> None:
    modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES, (
        f"{shown(folder)} has {len(modules)} modules, more than one takes in: "
        "what belongs together becomes a package of its own"
    )


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_a_module_is_read_in_one_go(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES, (
        f"{shown(path)} has {lines} lines: it holds more than one thing, part it"
    )


def is_private(name: str) -> bool:
    return re.match(r"_[a-z]", name) is not None


def private_names_of_libraries(path: Path) -> Iterator[str]:
    """Yield what a file uses of packages that are not ours though its name has an underscore."""
    tree = ast.parse(path.read_text())
    own = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) in {"self", "cls"}
    }
    own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    own |= {
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=aliases) if module.partition(".")[
                0
            ] not in OWN | {"__future__"}:
                names = [*module.split("."), *(alias.name for alias in aliases)]
                yield from filter(is_private, names)
            case ast.Attribute(attr=name, value=value) if (
                getattr(value, "id", None) not in {"self", "cls"}
                and is_private(name)
                and name not in own
            ):
                yield ast.unparse(node)


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_private_names_of_libraries_are_used_in_two_places_only(path: Path) -> None:
    if shown(path).removeprefix("services/").startswith(KNOWS_PRIVATE_NAMES):
        return
    assert list(private_names_of_libraries(path)) == [], (
        f"{shown(path)} uses a private name of a library, which may change with any version: only "
        "the fast path and the broker package may, where it was measured to be worth it"
    )


def errors_of_jobs() -> set[str]:
    """Return the names of the error classes with which services say how a job failed."""
    found = set()
    for path in (
        ROOT / "services/sdk/src/twinlane_sdk/errors.py",
        ROOT / "services/worker-runtime/src/worker_runtime/job.py",
    ):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                found.add(node.name)
    return found


def test_every_reason_why_a_job_fails_is_in_one_enum() -> None:
    known = {reason.error_type for reason in FailureReason}
    # Its end is `cancelled`, which is no failure.
    assert errors_of_jobs() - known == {"JobCancelledError"}, (
        "an error that can end a job belongs to contracts.failures, with code, title and writer"
    )


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_no_reason_of_a_failure_is_spelled_a_second_time(path: Path) -> None:
    if path.name == "failures.py":
        return
    # What is a class somewhere, ours or Celery's, is written by raising it.
    spelled = {"DeadLettered", "Unconfirmed"}
    strings = {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not spelled & strings, "use FailureReason…error_type of contracts.failures"


def test_state_diagram_names_exactly_the_states_of_a_job() -> None:
    diagram = re.search(r"```mermaid\nstateDiagram-v2\n(.*?)```", ARCHITECTURE, re.DOTALL)
    assert diagram, "docs/ARCHITECTURE.md has no state diagram"
    named = {
        state
        for line in diagram[1].splitlines()
        for state in re.split(r"-->", line.partition(":")[0])
    }
    assert {name.strip() for name in named} - {"[*]", ""} == {state.value for state in JobState}


def test_every_key_in_redis_is_in_the_table_of_keys() -> None:
    made = {
        re.sub(r"<[a-z]+>", "{}", value("<id>", *("<n>",) * (value.__code__.co_argcount - 1)))
        for name, value in vars(keys).items()
        if name.endswith(("_key", "_channel"))
    }
    described = set(re.findall(r"`((?:twinlane|celery-task-meta-)[^`]*)`", ARCHITECTURE))
    assert made <= {re.sub(r"\{[a-z]+\}", "{}", key) for key in described}


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_document_names_only_files_that_are_there(document: Path) -> None:
    text = document.read_text()
    named = re.findall(r"`((?:services|deploy|tests|docs|checks)/[\w./-]+)`", text)
    linked: list[str] = re.findall(r"\]\(([^)#:]+)\)", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    missing += [link for link in linked if not (document.parent / link).exists()]
    assert missing == []
