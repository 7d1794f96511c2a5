"""README and docs: every flag exists, every link leads somewhere, and the marked examples run.

A fence that is marked with `run` (```console run, ```python run) is executed under `./launch.sh test --all`, in a
folder with small corpora. All other commands are only parsed, by the flags of their programs.
"""

import ast
import functools
import itertools
import json
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from experiments.variants import load_config
from research.data.known_corpora import KNOWN
from research.pretraining.preparation import for_pretraining
from research.settings import leaves
from tests.subset import write_subset
from tests.test_structure import LAYERS
from tests.variant_cases import PROBE, contract_variants

ROOT = Path(__file__).parent.parent
FRONT = ("README.md", "README.zh-CN.md")
CURRENT = [*map(ROOT.joinpath, (*FRONT, "CONTRIBUTING.md", "experiments/results/README.md")), *ROOT.glob("docs/*.md")]
PAGES = sorted([*CURRENT, ROOT / "CHANGELOG.md"])  # which names commands and files of its time
FENCE = re.compile(r"^ *```(.*)\n([\s\S]*?)^ *```$", re.MULTILINE)
PROGRAMS = {
    path.stem: ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "experiments").rglob("*.py")
    if "\n    program.launch(main" in path.read_text("utf-8")
}
# Imports a program and parses command lines by its flags, without running it. Prints the first error, and the flags
# that `--help` lists.
PARSE = """
import importlib, json, sys
from absl import flags
program = importlib.import_module(sys.argv[1])
error = ""
for command in json.load(sys.stdin):
    try:
        stray = flags.FLAGS(["program", *command])[1:]
        error = error or (f"{command}: {stray} are no flags" if stray else "")
    except flags.Error as refused:
        error = error or f"{command}: {refused}"
print(json.dumps([error, [flag.name for flag in flags.FLAGS.get_key_flags_for_module(program)]]))
"""
# The examples that train are cut short: by these flags, and by these lines ahead of the Python ones.
QUICK = "--folds=2 --config.training.epochs=2"
QUICK_PYTHON = """
from research.runs import named_configs
def quick(name, make=named_configs.named_config):
    config = make(name)
    config.training.epochs = 2
    return config
named_configs.named_config = quick
"""
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
every_current_page = pytest.mark.parametrize("page", sorted(CURRENT), ids=lambda page: page.name)


def fences(page):
    """Return (info string, content) of the fenced blocks of a page."""
    return FENCE.findall(page.read_text("utf-8"))


def inline_code(page):
    """Return the pieces of inline code of a page, each in one line."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", FENCE.sub("", page.read_text("utf-8")))]


def commands(page):
    """Return [program, flag, ...] of every command of a page. Placeholders such as `--fold=K` are left out."""
    lines = [line for _, block in fences(page) for line in block.replace("\\\n", " ").split("\n")] + inline_code(page)
    after = [line.partition("./launch.sh ")[2] or line for line in lines]
    found = []
    for line in after:
        if line.split(" ")[0] in PROGRAMS and " -" in line:
            arguments = shlex.split(re.split(r"\s[|>]\s", line)[0], comments=True)
            found.append([argument for argument in arguments if not re.search(r"^\.\.\.$|=[A-Z_:]+$", argument)])
    return found


@functools.cache
def parsed(program):
    """Return what is wrong with the first bad command of a program in the docs, and the names of its flags."""
    of_program = [
        [flag for flag in arguments[1:] if flag != "--help" and not flag.startswith("--config.")]
        for page in CURRENT
        for arguments in commands(page)
        if arguments[0] == program
    ]
    parse = [sys.executable, "-P", "-c", PARSE, PROGRAMS[program]]
    done = subprocess.run(parse, cwd=ROOT, input=json.dumps(of_program), capture_output=True, text=True, check=True)
    error, names = json.loads(done.stdout)
    return error, set(names)


@functools.cache
def settings():
    """Return the dotted names of the settings that some variant has, for training or for pre-training."""
    configs = [load_config(variant) for variant in contract_variants()]
    configs.append(load_config("bert:tiny", (), for_pretraining))
    return {name for config in configs for name, _, _ in leaves(config)}


def names_of(arguments):
    """Return the names of flags, without those of settings."""
    names = [argument.lstrip("-").partition("=")[0] for argument in arguments if argument.startswith("-")]
    return [name for name in names if not name.startswith("config.")]


def values_of(arguments, *flags):
    """Return the values of flags, separated by commas."""
    pairs = [argument.removeprefix("--").partition("=") for argument in arguments]
    return [value for flag, _, values in pairs if flag in flags for value in values.split(",")]


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_the_flags_of_every_command_exist(program):
    error, listed = parsed(program)
    assert not error
    used = {flag for page in CURRENT for name, *rest in commands(page) if name == program for flag in names_of(rest)}
    assert used <= listed | {"help"}, "flags that --help does not list"


@every_current_page
def test_the_programs_variants_settings_and_corpora_exist(page):
    for name in re.findall(r"\./launch\.sh (\w+)", page.read_text("utf-8")):
        assert name in PROGRAMS or name in ("test", "help", "NAME"), name
    for arguments in commands(page):
        overrides = [argument for argument in arguments if argument.startswith("--config.")]
        prepare = for_pretraining if arguments[0] == "pretrain" else lambda config: config
        for name in values_of(arguments, "config", "variants", "variant"):
            if name not in ("all", "NAME"):  # a pretrained encoder is the reader's own folder, or a download
                load_config(re.sub("^probe:.*", PROBE, re.sub("^bert:.*", "bert:tiny", name)), overrides, prepare)
        for corpus in values_of(arguments, "corpus", "corpora"):
            assert corpus in (*KNOWN, "sst2") or Path(corpus).suffix in (".tsv", ".txt", ".csv", ".jsonl"), arguments


@every_current_page
def test_the_flags_and_settings_that_are_mentioned_exist(page):
    flags = set().union(*(parsed(program)[1] for program in PROGRAMS)) | {"help", "all"}
    for code in inline_code(page):
        if (flag := re.match(r"--([\w.]+)", code)) and flag[1] != "config.FIELD":
            assert flag[1] in flags or flag[1].removeprefix("config.") in settings(), code
        if re.match(r"(data|model|optimizer|training)\.(?!json|safetensors)\w+$", code):
            assert code in settings(), code


@every_current_page
def test_the_python_examples_are_python(page):
    for info, block in fences(page):
        if info.startswith("python"):
            ast.parse(textwrap.dedent(block))


@every_page
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", FENCE.sub("", page.read_text("utf-8"))):
        assert "://" in target or (page.parent / target).exists(), target


@every_current_page
def test_the_files_and_names_of_the_code_that_are_mentioned_exist(page):
    for code in inline_code(page):
        if re.match(r"(research|experiments|configs|tests|docs)/[\w./-]+$", code) and "NAME" not in code:
            assert (ROOT / code).exists(), code
    for name, path in re.findall(r"`(\w+)`\s+in\s+`([\w/]+\.py)`", page.read_text("utf-8")):
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text("utf-8")), f"{name} is not in {path}"


@pytest.mark.parametrize("name", FRONT)
def test_the_front_pages_are_two_screens_and_link_to_every_page(name):
    text = (ROOT / name).read_text("utf-8")
    assert len(text.splitlines()) <= 150
    assert max(map(len, text.splitlines())) <= 100
    assert [page.name for page in ROOT.glob("docs/*.md") if f"(docs/{page.name})" not in text] == []


@pytest.mark.parametrize("name", ["README.md", "docs/design.md"])
def test_the_layers_are_stated_in_their_order(name):
    (block,) = [block for info, block in fences(ROOT / name) if info == "text" and "pretraining" in block]
    rooms_of = [[room for room in rooms if (ROOT / room.replace(".", "/")).is_dir()] for rooms in reversed(LAYERS[1:])]
    layers = [[room.removeprefix("research.") for room in rooms] for rooms in rooms_of if rooms]
    places = [[re.search(rf"\b{room}/", block).start() for room in rooms] for rooms in layers]
    for i in range(len(places) - 1):
        assert max(places[i]) < min(places[i + 1]), layers[i : i + 2]


def write_example_files(folder):
    """Write the files that the examples name: small corpora, and texts without labels."""
    lines = write_subset(folder / "my.tsv", 80).read_text("utf-8").rstrip("\n").split("\n")
    rows = [line.rsplit("\t", 1) for line in lines]
    (folder / "others.tsv").write_bytes((folder / "my.tsv").read_bytes())
    records = [f"{json.dumps(text)},{label},author {i % 40}" for i, (text, label) in enumerate(rows) if '"' not in text]
    (folder / "reviews.csv").write_text("\n".join(["review,sentiment,author", *records]) + "\n", "utf-8")
    (folder / "texts.txt").write_text("a fine film\n两个小时\n", "utf-8")


def shell_line(line):
    """Return a line of an example as a shell command that calls the programs of this tree."""
    called = re.search(r"\./launch\.sh (\w+)", line)
    if not called:
        return line
    program = f"{shlex.quote(sys.executable)} -P -m {PROGRAMS[called[1]]}"
    trains = called[1] in ("train", "compare") and not {"--help", "--refit"} & set(re.findall("--[a-z_]+", line))
    return line.replace(called[0], f"{program} {QUICK}" if trains else program)


@pytest.mark.extra
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(info.endswith(" run") for info, _ in fences(page))], ids=lambda p: p.name
)
def test_the_examples_run(page, tmp_path):
    write_example_files(tmp_path)
    marked = [(info, block) for info, block in fences(page) if info.endswith(" run")]
    for info, blocks in itertools.groupby(marked, key=lambda fence: fence[0]):
        code = "\n".join(block for _, block in blocks)  # as in one terminal, or one session of Python
        lines = [shell_line(line) for line in code.replace("\\\n", " ").splitlines()]
        run = {
            "console run": ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
            "python run": [sys.executable, "-P", "-c", QUICK_PYTHON + code],
        }
        done = subprocess.run(run[info], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{code}\n{done.stderr}"


@pytest.mark.extra
def test_the_notebook_runs_and_shows_one_line_of_progress_a_call(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(ROOT / "docs" / "compare.ipynb", as_version=4)
    kinds = [output_kinds(cell) for cell in notebook.cells]
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [output_kinds(cell) for cell in notebook.cells] == kinds  # as they are saved
    lines = [
        output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output["output_type"] == "display_data"
    ]
    assert len(lines) == 2
    assert all(re.fullmatch(r"done in \d+ s", line) for line in lines)


def output_kinds(cell):
    """Return the types of the outputs of a cell of a notebook, each with its forms."""
    return [(output["output_type"], sorted(output.get("data", {}))) for output in cell.get("outputs", [])]
