#!/usr/bin/env bash
# Everything that needs a GPU and was never run on one, in about ten minutes, into one JSON.
#   bash tools/gpu_check.sh [FOLDER]      (default work_dirs/gpu_check; PYTHON=... chooses the interpreter)
# Tests marked gpu, one epoch of two frames of each full-size configuration, torch eager, compiled and as a CUDA graph, ONNX
# Runtime and TensorRT where they are installed. Without a GPU every item says "not here".
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
out=${1:-work_dirs/gpu_check}
config=configs/nuscenes/camera_lidar.py
mkdir -p "$out/logs"
: > "$out/items.tsv"

has() { "$python" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$1') is None)"; }
note() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >> "$out/items.tsv"; echo "$2: $1 ($3 s)${4:+, $4}"; }

# item NAME SECONDS COMMAND...: run it within its time; its output goes to a log
item() {
    local name=$1 limit=$2 began=$SECONDS log="$out/logs/${1//[^a-zA-Z0-9]/_}.log"
    shift 2
    if timeout --kill-after=10 "$limit" "$@" > "$log" 2>&1; then
        note "$name" done $((SECONDS - began)) ''
    else
        note "$name" failed $((SECONDS - began)) "$(tail -n 1 "$log" | tr '\t"\\' '   ' | cut -c1-200)"
    fi
}

# on_gpu NAME SECONDS COMMAND...: the same where torch sees a GPU
on_gpu() {
    if [ "$gpu" = yes ]; then item "$@"; else note "$1" 'not here' 0 'torch sees no GPU'; fi
}

"$python" -c 'import torch' || { echo "gpu_check: $python cannot import torch; make set-up first, or PYTHON=..." >&2; exit 1; }
gpu=$("$python" -c 'import torch; print("yes" if torch.cuda.is_available() else "no")')

on_gpu 'tests marked gpu' 300 "$python" -m pytest -q -n0 -m gpu tests

# a world of two frames with full images stands for the data
world=$out/world
if [ ! -d "$world/infos" ]; then
    on_gpu 'world' 300 "$python" tools/make_world.py --out "$world" --scenes 2 --key-frames 2 --lidar-sweeps 9
    on_gpu 'infos' 120 "$python" tools/create_data.py nuscenes --root "$world" --version v1.0-trainval
fi
for file in configs/nuscenes/*.py; do
    name=$(basename "$file" .py)
    options=(train_cfg.max_epochs=1 train_cfg.val_interval=100 train_dataloader.batch_size=1
        train_dataloader.num_workers=0 train_dataloader.persistent_workers=False
        "train_dataloader.dataset.root=$world" "val_dataloader.dataset.root=$world" "val_evaluator.root=$world"
        "test_dataloader.dataset.root=$world" "test_evaluator.root=$world")
    grep -q "'lidar.py'" "$file" || [ "$name" = lidar ] || options+=(model.encoders.camera.backbone.pretrained=None)
    on_gpu "training step of $name" 120 "$python" tools/train.py "$file" --amp --work-dir "$out/train/$name" \
        --cfg-options "${options[@]}"
done

# the same frame through everything, in turns
engines=torch:fp32:cuda,torch:fp16:cuda,torch:fp16:cuda_compile,torch:fp16:cuda_graph
providers=$(has onnxruntime && "$python" -c 'import onnxruntime; print(*onnxruntime.get_available_providers())')
case $providers in
    *CUDAExecutionProvider*) engines+=,onnxruntime:fp32:cuda,onnxruntime:fp16:cuda ;;
    *) note 'onnxruntime on CUDA' 'not here' 0 'pip install onnxruntime-gpu' ;;
esac
case $providers in
    *TensorrtExecutionProvider*) engines+=,onnxruntime:fp16:tensorrt ;;
    *) note "onnxruntime's TensorRT provider" 'not here' 0 'pip install onnxruntime-gpu tensorrt' ;;
esac
if has onnxruntime_ep_nv_tensorrt_rtx; then
    engines+=,onnxruntime:fp16:tensorrt_rtx
else
    note "onnxruntime's TensorRT-RTX provider" 'not here' 0 'pip install onnxruntime-ep-nv-tensorrt-rtx'
fi
if has tensorrt; then
    engines+=,tensorrt:fp32,tensorrt:fp16
else
    note tensorrt 'not here' 0 'pip install tensorrt'
fi
on_gpu 'engines' 600 "$python" tools/benchmark.py "$config" --random-frames 34752 --runs 100 --export "$out/export" \
    --engine "$engines" --out "$out/engines.json" \
    --cfg-options model.encoders.camera.backbone.pretrained=None model.encoders.lidar.export_sizes.points=36000 \
    model.encoders.lidar.export_sizes.pillars=24000

"$python" - "$out" <<'PYTHON'
import json
import sys
from pathlib import Path

import torch

out = Path(sys.argv[1])
names = ('item', 'state', 'seconds', 'note')
lines = (out / 'items.tsv').read_text(encoding='utf-8').splitlines()
items = [dict(zip(names, line.split('\t'))) for line in lines]
engines = out / 'engines.json'
result = {
    'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    'torch': torch.__version__,
    'items': [{**item, 'seconds': int(item['seconds'])} for item in items],
    'engines': json.loads(engines.read_text(encoding='utf-8')) if engines.is_file() else None,
}
(out / 'gpu_check.json').write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
failed = [item['item'] for item in items if item['state'] == 'failed']
print(f'{out / "gpu_check.json"}: ' + (f'failed: {", ".join(failed)}' if failed else 'nothing failed'))
sys.exit(bool(failed))
PYTHON
