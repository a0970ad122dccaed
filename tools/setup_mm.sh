#!/usr/bin/env bash
# Build an environment of its own for the [mm] extra: requirements.lock, mmcv compiled against its torch, mmdet, mmdet3d.
#   bash tools/setup_mm.sh [FOLDER]        (default .venv-mm; PYTHON=... chooses the interpreter)
# Two minutes when pip has mmcv's wheel in its cache, 13 more on 2 cores when it must be compiled, seconds when nothing changed.
set -euo pipefail
export PIP_DISABLE_PIP_VERSION_CHECK=1
cd "$(dirname "$0")/.."
folder=${1:-.venv-mm}
python=${PYTHON:-python3}
stamp=$folder/.ready

say() { echo "==> setup_mm: $*"; }
fail() { echo "setup_mm: $*" >&2; exit 1; }
pinned() { grep "^$1==" "$2" || fail "$2 has no line '$1==...'"; }

"$python" -c 'import sys; ok = (3, 10) <= sys.version_info[:2] <= (3, 12); sys.exit(0 if ok else 1)' \
    || fail "Python 3.10 to 3.12 is needed, found $("$python" --version 2>&1); set PYTHON=..."
wanted="$("$python" --version 2>&1) $(cat requirements.lock requirements-mm.lock | sha256sum | cut -d' ' -f1)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    say "$folder is up to date"
    exit 0
fi
rm -f "$stamp"

# The folder may hold an environment of another Python, or half of one.
if [ -x "$folder/bin/python" ] && [ "$("$folder/bin/python" --version 2>&1)" != "$("$python" --version 2>&1)" ]; then
    say "$folder is of $("$folder/bin/python" --version 2>&1): made again"
    rm -rf "$folder"
fi
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
py=$folder/bin/python
began=$SECONDS

torch=$(pinned torch requirements.lock)
mmcv=$(pinned mmcv requirements-mm.lock)
say "1/4 $torch (about 1 minute)"
"$py" -m pip install -q "$torch"
say "2/4 the packages of requirements.lock and requirements-mm.lock (about 1 minute)"
grep -v '^mmcv==' requirements-mm.lock | "$py" -m pip install -q --no-deps -r requirements.lock -r /dev/stdin
"$py" -m pip install -q --no-deps --no-build-isolation ./tools/descartes

loads() { "$py" -c 'import mmcv.ops' > /dev/null 2>&1; }
install_mmcv() {
    MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-2} "$py" -m pip install -q --no-build-isolation --no-deps "$@" "$mmcv"
}
compile_mmcv() {
    command -v "${CXX:-c++}" > /dev/null || fail "$mmcv must be compiled, but there is no C++ compiler (set CXX=... or install g++)"
    install_mmcv "$@"
}
tag=$("$py" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
if loads; then
    say "3/4 $mmcv is there and its compiled operators load"
elif "$py" -m pip cache list mmcv --format=abspath 2> /dev/null | grep -q "/${mmcv/==/-}-$tag-"; then
    say "3/4 $mmcv from pip's cache"
    install_mmcv
else
    say "3/4 $mmcv: no wheel in pip's cache, compiling (13 minutes on 2 cores; pip keeps the wheel for the next time)"
    compile_mmcv
fi
if ! loads; then
    say "3/4 $mmcv from pip's cache was compiled against another torch: compiling it again (13 minutes on 2 cores)"
    "$py" -m pip cache remove "${mmcv/==/-}*" > /dev/null 2>&1 || true
    compile_mmcv --force-reinstall
fi

say "4/4 does everything load?"
"$py" -W ignore - <<'CHECK'
import mmcv, mmdet, mmdet3d, torch
from mmcv.ops import box_iou_rotated
from mmdet3d.utils import register_all_modules

register_all_modules(init_default_scope=False)
square = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
assert abs(float(box_iou_rotated(square, square)) - 1) < 1e-5, "mmcv's compiled rotated IoU of a square with itself is not 1"
print(f'    torch {torch.__version__}, mmcv {mmcv.__version__} with compiled operators, mmdet {mmdet.__version__}, mmdet3d {mmdet3d.__version__}')
CHECK
echo "$wanted" > "$stamp"
say "$folder is ready ($((SECONDS - began)) s)"
