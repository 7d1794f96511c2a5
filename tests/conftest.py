"""Strict JAX for every test: two CPU devices (JAX_NUM_CPU_DEVICES=8 says otherwise), no silent promotion of ranks.

Promotion of dtypes is forbidden where variants are applied (`test_models.py`); Optax itself relies on it.
"""

import contextlib
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import jax
import pytest

from research.data.cache import cache_folder
from research.data.corpora import load
from tests.made_up_comparison import write_comparison
from tests.subset import write_subset

if "JAX_NUM_CPU_DEVICES" not in os.environ:
    jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Most of a test's time is compilation: what one process compiled serves the others, and the next call.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache_folder("xla-tests"))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

gc.set_threshold(100_000)  # as programs do: a collection walks over all that JAX has imported and traced

hypothesis.settings.register_profile("default", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("default")

ROOT = Path(__file__).parent.parent
# Files that take longer than a few seconds: `./launch.sh test -m "not slow"` does without them.
SLOW = {
    *(
        "api",
        "bert",
        "compare_flags",
        "comparison",
        "explain",
        "export",
        "hostile",
        "keras",
        "kills",
        "linear",
        "models",
    ),
    *("multihost", "pretrain", "pretrain_runs", "programs", "recurrent", "settings", "sharding", "train_runs"),
    *("classifier", "foreign_models", "prediction_tables", "refit"),
}
# Files that need `./launch.sh test --all`: they kill real processes, start several that train together, open a browser,
# try thousands of inputs, or train encoders. In other files single tests are marked `extra`.
EXTRA = {"bert", "compare_flags", "hostile", "kills", "multihost", "page", "pretrain_runs"}

# Files that check properties, with many programs that each run a few times: without optimization these compile in half
# the time. All others, whose results are compared with what users get, compile as users do.
UNOPTIMIZED = {
    *("api", "article_formulas", "audit", "benchmark", "bert", "checkpoints", "claim", "claims", "code_hash"),
    *("compare_flags", "comparison", "corpora", "disk", "divergence", "docs", "equations", "fingerprints", "frames"),
    *("flops", "hostile", "keras", "launch", "learning", "linear", "model_building", "models", "optimizers"),
    *("plan", "pretrain", "pretrain_mistakes", "pretrain_runs", "product", "reader", "recurrent", "report"),
    *("results", "resume", "settings", "sharding", "simulation", "splits", "structure", "token_stream"),
    *("tokenizer", "train_runs", "tuning", "unlabelled_texts", "variants", "vectors", "warm_start"),
    *("classifier", "foreign_models", "prediction_tables", "refit"),
    *("bert_relatives", "explain", "export", "multihost", "own_metric", "page", "pretrain_runs", "probe", "programs"),
    *("serve", "tensorboard", "tokenizer_files"),
}


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run every test, also those that take long")


def pytest_collection_modifyitems(config, items):
    """Mark tests by their file, and leave out those marked `extra` unless `--all` or a file is named."""
    for item in items:
        name = item.path.stem.removeprefix("test_")
        if name in SLOW:
            item.add_marker("slow")
        if name in EXTRA:
            item.add_marker("extra")
    names_files = any(Path(argument.partition("::")[0]).exists() for argument in config.invocation_params.args)
    if not (config.getoption("--all") or names_files or "extra" in config.getoption("-m")):
        extra = [item for item in items if item.get_closest_marker("extra")]
        config.hook.pytest_deselected(items=extra)
        items[:] = [item for item in items if not item.get_closest_marker("extra")]


@pytest.fixture(scope="module", autouse=True)
def compilation(request):
    """Of a file of tests, which takes along what it has compiled: some gigabytes, over all of them."""
    plain = request.path.stem.removeprefix("test_") in UNOPTIMIZED and jax.default_backend() == "cpu"
    jax.config.update("jax_disable_most_optimizations", plain)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(plain))  # for processes
    yield
    jax.clear_caches()


@pytest.fixture
def two_devices():
    """Skips where there are fewer."""
    if len(jax.local_devices()) < 2:
        pytest.skip("one device, expected two: JAX_NUM_CPU_DEVICES=2")


@pytest.fixture
def no_plots(monkeypatch):
    """Reports whose plots nobody looks at: they are empty files."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, dpi: Path(path).write_bytes(b""))


@pytest.fixture(scope="session")
def small_tsv(tmp_path_factory):
    """240 sentences of rotten_tomatoes in a TSV file."""
    return write_subset(tmp_path_factory.mktemp("corpus") / "reviews.tsv")


@pytest.fixture(scope="session")
def small_corpus(small_tsv):
    return load(small_tsv)


@pytest.fixture
def comparison(tmp_path, small_tsv):
    """The folder of a comparison with made-up predictions."""
    write_comparison(tmp_path, small_tsv)
    return tmp_path


@pytest.fixture(scope="module")
def command_line():
    """A function (program, folder to stand in, flags) -> exit code, output, errors and the names in the folder.

    All command lines of a program in a folder are run by one process, so that they cost little.
    """
    with contextlib.ExitStack() as stack:
        children = {}

        def run(program, folder, flags):
            if (program, folder) not in children:
                command = [sys.executable, "-P", str(ROOT / "tests" / "child.py"), program]
                pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
                environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "COLUMNS": "200"}  # no worker processes
                child = subprocess.Popen(command, cwd=folder, text=True, env=environment, **pipes)
                children[program, folder] = stack.enter_context(child)
            child = children[program, folder]
            child.stdin.write(json.dumps(list(map(str, flags))) + "\n")
            child.stdin.flush()
            answer = child.stdout.readline()
            assert answer, child.stderr.read()
            return SimpleNamespace(**json.loads(answer))

        yield run


@pytest.fixture(scope="module")
def ask(command_line):
    """A function (program, folder to stand in, flags) -> (exit code, standard error, names in the folder)."""

    def ask(program, folder, flags):
        answer = command_line(program, folder, flags)
        return answer.code, answer.err, answer.names

    return ask


@pytest.fixture(scope="module")
def run(command_line):
    """A function (program, *flags, cwd=, code=0) -> (standard output, standard error) of a command line."""

    def run(program, *flags, cwd, code=0):
        answer = command_line(program, cwd, flags)
        assert answer.code == code, answer.err
        assert "Traceback" not in answer.err
        return answer.out, answer.err

    return run
