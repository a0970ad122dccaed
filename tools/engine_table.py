"""Scores, latency, memory, size of every engine: python tools/engine_table.py CONFIG CHECKPOINT --export DIR
--out TABLE.json"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description='Engine x precision x (four scores on the test split, latency, memory, file '
        'size). Each row is measured by a process of its own and kept at once: run it '
        'again and it goes on where it stopped.'
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint', help="weights, or 'none' for random ones (then nothing is scored)")
    parser.add_argument(
        '--export', required=True, metavar='DIR', help='folder of tools/export.py (--int8 for the int8 rows)'
    )
    parser.add_argument(
        '--out', required=True, metavar='FILE', help='JSON of the rows; the table goes beside it as .md'
    )
    parser.add_argument(
        '--engine', help='some rows, e.g. torch:fp32,openvino:bf16 (default: all, and why one cannot be)'
    )
    parser.add_argument(
        '--limit', type=int, metavar='N',
        help='score N samples, evenly over the split (default: all; 0: none)')
    parser.add_argument('--runs', type=int, default=20, help='counted calls of each latency')
    parser.add_argument(
        '--budget-s', type=float, default=60.0, help='stop counting after this many seconds a row'
    )
    parser.add_argument(
        '--threads', type=int, default=0, help='of ONNX Runtime and OpenVINO; 0: their choice'
    )
    parser.add_argument(
        '--into-sidecar', action='store_true', help="also write the rows into the export's sidecar"
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    """Measure what is not measured yet; print and write the table."""
    args = parse_args()
    from perception.core.config import read_config
    from perception.core.files import write_text
    from perception.deployment.export.sidecar import Sidecar
    from perception.deployment.measure.table import ROWS, fill_table, format_table, make_job

    job = make_job(
        read_config(args.config, args.cfg_options), args.checkpoint, args.export, args.limit, args.runs,
        args.budget_s, args.threads)
    rows = [tuple(word.partition(':')[::2]) for word in args.engine.split(',')] if args.engine else ROWS
    found = fill_table(job, rows, args.out, report=lambda line: print(line, flush=True))
    table = format_table(found)
    print(table)
    write_text(Path(args.out).with_suffix('.md'), table + '\n')
    if args.into_sidecar:
        Sidecar.read(args.export).with_rows(found).write(args.export)


if __name__ == '__main__':
    main()
