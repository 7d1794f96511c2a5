"""launch.sh with a stand-in for the interpreter, so that nothing is installed: what it asks for, and how it fails."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAND_IN = """#!/bin/sh
case "$*" in
  *"-m pip --version"*) exit 0 ;;
  *"-m pip install"*)
    echo "$*" >> "{folder}/installs"
    if [ -e "{folder}/slow" ]; then sleep 1; fi
    if [ -e "{folder}/offline" ]; then echo "ERROR: no route to the package index"; exit 1; fi ;;
  *) echo "ran $*" ;;
esac
"""


@pytest.fixture
def project(tmp_path):
    """A copy of the project with the stand-in as its `.venv/bin/python`."""
    folder = tmp_path / "project"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("launch.sh", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    python = folder / ".venv" / "bin" / "python"
    python.write_text(STAND_IN.format(folder=folder))
    python.chmod(0o755)
    return folder


def launch(project, *arguments, **environment):
    command = ["bash", str(project / "launch.sh"), *arguments]
    env = {name: value for name, value in os.environ.items() if name not in ("ACCELERATOR", "PYTHON")} | environment
    done = subprocess.run(command, cwd=project.parent, capture_output=True, text=True, env=env)
    return done.returncode, done.stdout, done.stderr


def installs(project):
    path = project / "installs"
    return path.read_text().splitlines() if path.exists() else []


def test_it_installs_once_and_again_when_the_metadata_changes(project):
    assert launch(project, "corpora", "--x=1")[1] == "ran -P -m experiments.corpora --x=1\n"
    assert launch(project)[1] == "ran -P -m experiments.compare\n"
    assert launch(project, "--folds=2")[1] == "ran -P -m experiments.compare --folds=2\n"
    assert len(installs(project)) == 1
    with (project / "setup.cfg").open("a") as file:
        file.write("# changed\n")
    launch(project, "corpora")
    assert len(installs(project)) == 2


def test_of_two_first_calls_at_once_one_installs(project):
    (project / "slow").touch()
    command = ["bash", str(project / "launch.sh"), "corpora"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ["ran -P -m experiments.corpora\n"] * 2
    assert len(installs(project)) == 1


def test_it_runs_the_tests_with_what_they_need(project):
    assert launch(project, "test", "-k", "x")[1] == "ran -P -m pytest -k x\n"
    assert installs(project)[-1].endswith("[cpu,vectors,files,chinese,tensorboard,serve,export,pretrain,notebook,test]")
    launch(project, "corpora")  # its extra is installed now
    launch(project, "test")
    assert len(installs(project)) == 1


def test_a_variable_chooses_the_accelerator(project):
    launch(project, "corpora", ACCELERATOR="cuda13")
    assert installs(project)[-1].endswith("[cuda13,vectors,files,chinese,tensorboard,serve,export,pretrain,notebook]")
    launch(project, "test", ACCELERATOR="tpu")
    assert installs(project)[-1].endswith("[tpu,vectors,files,chinese,tensorboard,serve,export,pretrain,notebook,test]")
    code, _, err = launch(project, "corpora", ACCELERATOR="abacus")
    assert code != 0
    assert err == "launch.sh: ACCELERATOR is 'abacus', expected cpu, cuda12, cuda13 or tpu\n"


def test_a_failed_installation_is_one_line_and_the_next_call_recovers(project):
    (project / "offline").touch()
    code, out, err = launch(project, "corpora")
    assert code != 0
    assert out == ""
    assert "the installation failed (ERROR: no route to the package index)" in err.splitlines()[-1]
    (project / "offline").unlink()
    assert launch(project, "corpora")[0] == 0
    assert len(installs(project)) == 2


def test_too_old_a_python_is_one_line(project, tmp_path):
    shutil.rmtree(project / ".venv")
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    code, _, err = launch(project, "corpora", PYTHON=str(old))
    assert code != 0
    assert err.count("\n") == 1
    assert "Python 3.11 or newer is needed" in err


def test_help_says_what_each_program_is_for(project):
    code, out, _ = launch(project, "help")
    assert code == 0
    assert (
        "corpora     List the known corpora with language, classes, size and origin, and the folder of the cache.\n"
        in out
    )
    assert "program " not in out  # a helper, not a program
    assert not installs(project)


def test_an_unknown_program_names_the_known_ones(project):
    code, _, err = launch(project, "trian")
    assert code == 2
    assert err.count("\n") == 1
    for name in ("compare", "corpora", "evaluate", "predict", "report", "train"):
        assert name in err
    assert launch(project, "program")[0] == 2  # a helper, not a program
