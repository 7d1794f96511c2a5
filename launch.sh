#!/usr/bin/env bash
# ./launch.sh                     set up .venv on first use, then run the default comparison
# ./launch.sh test [pytest args]  set up, also what the tests need, then run the tests
# ./launch.sh NAME [flags]        set up, then run the program NAME of experiments/ in the current folder
# ./launch.sh help                list the programs and what they do
#
# ACCELERATOR=cuda13 (or cuda12, tpu) installs that build of jax. PYTHON is the interpreter for .venv.
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
venv=$root/.venv
log=$venv/install.log

fail() {
  printf 'launch.sh: %s\n' "$1" >&2
  exit 1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$candidate"
      return
    fi
  done
}

# Install the package with the extras $1, unless they are installed and its metadata has not changed since.
install() {
  local extras=$1 wanted python found
  wanted=$(cat "$root/setup.cfg" "$root/pyproject.toml" | cksum) || fail "cannot read setup.cfg"
  # If two first calls run at once, one installs and the other waits. The lock ends with this shell or its exec.
  if command -v flock >/dev/null && { exec 9>"$root/.venv.lock"; } 2>/dev/null; then flock 9; fi
  found=$(cat "$venv/installed" 2>/dev/null)
  case "$found" in "$wanted $root "*) case ",${found##* }," in *",$extras,"*) return ;; esac ;; esac
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    [ -n "$python" ] || fail "Python 3.11 or newer is needed, and was not found as ${PYTHON:-python3, python3.11 or newer}. Install it, or set PYTHON to its path"
    printf 'launch.sh: making %s\n' "$venv" >&2
    rm -rf "$venv"
    "$python" -m venv "$venv" >/dev/null 2>&1 ||
      fail "$python -m venv failed. On Debian and Ubuntu, install python3-venv"
  fi
  printf 'launch.sh: installing (once; details in %s)\n' "$log" >&2
  rm -f "$venv/installed"
  if ! "$venv/bin/python" -m pip install --disable-pip-version-check -e "$root[$extras]" >"$log" 2>&1; then
    fail "the installation failed ($(grep -m 1 -o 'ERROR: .*' "$log" || tail -n 1 "$log")). Check the network and $log, then call again"
  fi
  # Extras of earlier calls are still installed, unless setup.cfg has changed: it may ask for more then.
  case "$found" in "$wanted $root "*) extras=${found##* },$extras ;; esac
  printf '%s %s %s\n' "$wanted" "$root" "$extras" >"$venv/installed"
}

name=${1:-compare}
[ $# -gt 0 ] && shift
accelerator=${ACCELERATOR:-cpu}
case "$accelerator" in cpu | cuda12 | cuda13 | tpu) ;; *) fail "ACCELERATOR is '$accelerator', expected cpu, cuda12, cuda13 or tpu" ;; esac
extras=$accelerator,vectors,files,chinese,tensorboard,serve,export,pretrain,notebook

if [ "$name" = test ]; then
  install "$extras,test"
  cd "$root" || exit 1
  exec "$venv/bin/python" -P -m pytest "$@" 9>&-
fi

if [ "${name#-}" != "$name" ]; then # flags without a program are flags of compare
  set -- "$name" "$@"
  name=compare
fi
# The paths of the programs, such as train.py or studies/aa.py.
paths=$(cd "$root/experiments" && grep -l '^    program.launch(main' ./*.py ./*/*.py | sed 's|^\./||')
known=$(printf '%s\n' "$paths" | sed 's|.*/||; s|\.py$||' | sort)
path_of() { printf '%s\n' "$paths" | grep -x -- "\(.*/\)\{0,1\}$1\.py"; }
if [ "$name" = help ]; then # the first line of each program's docstring
  for each in $known; do sed -n "1s/^\"\"\"\([^\"]*\).*/$(printf %-11s "$each") \1/p" "$root/experiments/$(path_of "$each")"; done
  printf '%-11s %s\n' test 'Run the tests.' NAME 'with --help lists its flags and settings.'
  exit
fi
if ! printf '%s\n' "$known" | grep -qxF -- "$name"; then
  printf 'launch.sh: there is no program %s, expected help, test or one of %s\n' "$name" "${known//$'\n'/ }" >&2
  exit 2
fi
install "$extras"
# glibc then asks Linux for pages of 2 MiB, so that large training steps spend less time on page faults.
export GLIBC_TUNABLES=${GLIBC_TUNABLES-glibc.malloc.hugetlb=1}
# -P: modules in the current folder must not shadow those of this package.
module=$(path_of "$name" | sed 's|\.py$||; s|/|.|g')
exec "$venv/bin/python" -P -m "experiments.$module" "$@" 9>&-
