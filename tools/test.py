"""Test a model: python tools/test.py CONFIG CHECKPOINT [--engine openvino] [--sensors camera,lidar]
[--corruption all|list]"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description='Run a model over a split, write its results, judge all its tasks, print one table.'
    )
    parser.add_argument('config', nargs='?', help='configuration file')
    parser.add_argument(
        'checkpoint', nargs='?',
        help='weights; with another --engine than torch only used to check the export')
    parser.add_argument('--work-dir', help='where results go (default: work_dirs/<config name>)')
    parser.add_argument('--engine', default='torch', choices=['torch', 'onnxruntime', 'openvino', 'tensorrt'])
    parser.add_argument(
        '--export', metavar='DIR', help='folder that tools/export.py wrote (default: <work dir>/export)'
    )
    parser.add_argument('--precision', default='fp32', choices=['fp32', 'fp16', 'bf16', 'int8'])
    parser.add_argument(
        '--sensors',
        help='sensors that work, e.g. camera,lidar or lidar; the others are absent in every sample')
    parser.add_argument('--split', help='another split than the configuration\'s')
    parser.add_argument('--out', help='metrics as JSON (default: <work dir>/metrics.json)')
    parser.add_argument(
        '--corruption',
        metavar='NAME[:SEVERITY]|all|list',
        help='also with failing sensors: one or several (commas), a suite such as robobev, a kind such as radar, '
        'or all; finished rows are kept in <work dir>/corruptions. "list" says what there is',
    )
    parser.add_argument(
        '--limit', type=int, metavar='N',
        help='with --corruption: only N samples, spread evenly over the split')
    parser.add_argument(
        '--baseline', metavar='JSON', help='with --corruption: corruptions.json of the model for mCE'
    )
    parser.add_argument(
        '--anew', action='store_true',
        help='discard what an earlier run has stored instead of going on with it')
    parser.add_argument('--no-results', action='store_true', help='do not write result files, only figures')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.corruption != 'list' and args.checkpoint is None:
        parser.error('CONFIG and CHECKPOINT are needed (or --corruption list)')
    if args.limit is not None and (args.limit < 1 or not args.corruption):
        parser.error('--limit takes a positive number and goes with --corruption')
    return args


def changed_config(args: argparse.Namespace, work_dir: Path) -> dict:
    """The command line's wishes as changes of the configuration."""
    from perception.core.config import pipeline_transforms, read_config
    options = dict(args.cfg_options or {})
    if args.split:
        options['test_dataloader.dataset.split'] = args.split
    if args.sensors:
        names = args.sensors.split(',')
        pipeline = read_config(args.config).test_dataloader.dataset.get('pipeline', [])
        options['test_dataloader.dataset.pipeline'] = [
            *pipeline_transforms(pipeline), dict(type='SensorDropout', keep={'+'.join(names): 1.0})]
    if args.engine != 'torch':
        options['test_dataloader.batch_size'] = 1
    options['test_evaluator.results_dir'] = (
        None if args.no_results or args.corruption else str(work_dir / 'results')
    )
    return options


def main() -> None:
    """Test and print one table."""
    args = parse_args()
    if args.corruption == 'list':
        from corruption_rows import list_corruptions
        return print(list_corruptions())
    from perception.core.config import config_name
    from perception.core.files import write_json
    from perception.evaluation.errors import ResultError
    from perception.evaluation.reports.table import format_table
    from perception.evaluation.storage.resume import describe_run, go_on
    from perception.training.launch import build_runner
    work_dir = Path(args.work_dir or Path('work_dirs') / config_name(args.config))
    runner = build_runner(args.config, work_dir=work_dir, launcher=args.launcher, checkpoint=args.checkpoint,
                          options=changed_config(args, work_dir))
    network, export = [], args.export or work_dir / 'export'
    if args.engine != 'torch':
        from perception.deployment.deployed import DeployedModel
        from perception.deployment.engines import network_files
        runner.model = DeployedModel.open(export, args.engine, args.precision, args.checkpoint)
        runner._load_from, network = None, network_files(export, args.engine, args.precision)
    run = describe_run(
        runner.cfg, args.checkpoint, network, engine=f'{args.engine} {args.precision}', sensors=args.sensors
    )
    try:
        if args.corruption:
            from corruption_rows import test_corruptions
            return test_corruptions(runner, args, work_dir, run)
        runner.logger.info(go_on(runner, run, args.anew))
    except ResultError as error:
        sys.exit(f'error: {error}')
    metrics = runner.test()
    if runner.rank == 0:
        print(format_table(metrics))
        out = Path(args.out or work_dir / 'metrics.json')
        write_json(out, {k: float(v) for k, v in metrics.items()})
        print(f'figures: {out}' + ('' if args.no_results else f', results: {work_dir / "results"}'))


if __name__ == '__main__':
    main()
