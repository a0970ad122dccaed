"""Measure scores, latency, memory and size of every engine and precision.

    perception engine-table CONFIG CHECKPOINT --export DIR --out TABLE.json

Each row is measured by a process of its own and kept at once: run it again and it goes on where it stopped.
"""
from __future__ import annotations

import argparse
from pathlib import Path

from ..options import add_config_options, at_least, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config')
    parser.add_argument('checkpoint', help="weights, or 'none' for random ones (then nothing is scored)")
    parser.add_argument(
        '--export', required=True, metavar='DIR', help='folder of the export (--int8 for the int8 rows)'
    )
    parser.add_argument(
        '--out', required=True, metavar='FILE', help='JSON of the rows; the table goes beside it as .md'
    )
    parser.add_argument(
        '--engine', help='rows, e.g. torch:fp32,openvino:bf16 (default: all; an unavailable one says why)'
    )

    # how much it measures
    parser.add_argument(
        '--limit', type=at_least(0), metavar='N',
        help='score N samples, evenly over the split (default: all; 0: none)')
    parser.add_argument('--runs', type=at_least(1), default=20, help='counted calls of each latency')
    parser.add_argument(
        '--budget-s', type=positive, default=60.0, help='stop counting after this many seconds a row'
    )
    parser.add_argument(
        '--threads', type=at_least(0), default=0, help='of ONNX Runtime and OpenVINO; 0: their choice'
    )
    parser.add_argument(
        '--into-sidecar', action='store_true', help="also write the rows into the export's sidecar"
    )
    add_config_options(parser)


def main(args: argparse.Namespace) -> None:
    """Measure what is not measured yet; print and write the table."""
    from ...core.config import read_config
    from ...core.files import write_text
    from ...deployment.engines.choices import parse_engines
    from ...deployment.export.sidecar import Sidecar
    from ...deployment.measure.table import ROWS, fill_table, format_engine_table, make_job

    rows = ROWS
    if args.engine:
        rows = [(choice.engine, choice.precision) for choice in parse_engines(args.engine)]
    job = make_job(
        read_config(args.config, args.cfg_options), args.checkpoint, args.export, args.limit, args.runs,
        args.budget_s, args.threads)
    measured = fill_table(job, rows, args.out, report=lambda line: print(line, flush=True))

    table = format_engine_table(measured)
    print(table)
    write_text(Path(args.out).with_suffix('.md'), table + '\n')
    if args.into_sidecar:
        Sidecar.read(args.export).with_rows(measured).write(args.export)
