"""Test a model on a split: results of all tasks and one table of scores.

    perception test CONFIG CHECKPOINT [--engine openvino] [--sensors camera,lidar]
    perception test CONFIG CHECKPOINT --corruption all [--limit 200]
    perception test --corruption list
    perception test CONFIG CHECKPOINT --tta flips
    perception test CONFIG CHECKPOINT CHECKPOINT [--also CONFIG CHECKPOINT]
    perception test CONFIG --start

Results and metrics go to the work dir. What an interrupted run has stored is taken over by the next one.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..options import add_config_options, add_engine, add_launcher, at_least, check_device

if TYPE_CHECKING:
    from ...deployment.deployed import DeployedModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config', nargs='?', help='configuration file')
    parser.add_argument(
        'checkpoint', nargs='*',
        help='weights; the predictions of several are averaged; with another --engine than torch only used '
        'to check the export')
    parser.add_argument(
        '--start', action='store_true',
        help='in the place of a checkpoint: the weights that a training of CONFIG begins with')
    parser.add_argument('--work-dir', help='where results go (default: work_dirs/<config name>)')
    add_engine(parser)
    parser.add_argument('--export', metavar='DIR', help='folder of the export (default: <work dir>/export)')

    # what is tested
    parser.add_argument(
        '--sensors',
        help='sensors that work, e.g. camera,lidar or lidar; the others are absent in every sample')
    parser.add_argument(
        '--tta', type=mirrored_words, default=(), metavar='flips|x,y,images',
        help='average over mirrored views: front and back swapped (x), left and right (y), images flipped '
        '(images), in every combination: twice the forwards for each word; flips: all that the model has')
    parser.add_argument(
        '--also', nargs=2, action='append', default=[], metavar=('CONFIG', 'CHECKPOINT'),
        help='average with a model of another configuration, too; again for more')
    parser.add_argument('--split', help="another split than the configuration's")
    parser.add_argument('--out', help='metrics as JSON (default: <work dir>/metrics.json)')
    parser.add_argument(
        '--corruption', metavar='NAME[:SEVERITY]|all|list',
        help='also with failing sensors: one or several (commas), a suite such as robobev, a kind such as '
        'radar, or all; finished rows are kept in <work dir>/corruptions. "list" says what there is')
    parser.add_argument(
        '--limit', type=at_least(1), metavar='N',
        help='with --corruption: only N samples, spread evenly over the split')
    parser.add_argument(
        '--baseline', metavar='JSON', help='with --corruption: corruptions.json of the model for mCE'
    )

    # how it runs
    parser.add_argument(
        '--overwrite', action='store_true',
        help='discard what an earlier run has stored instead of resuming from it')
    parser.add_argument('--no-results', action='store_true', help='write no result files, only the metrics')
    add_launcher(parser)
    add_config_options(parser)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """A test needs a model; --limit goes with --corruption; the engine must know the device."""
    check_device(parser, args)
    args.checkpoint, args.checkpoints = (args.checkpoint or [None])[0], args.checkpoint[1:]
    if args.engine != 'torch' and (args.tta or args.checkpoints or args.also):
        parser.error('--tta and several checkpoints go with --engine torch')

    if args.start and (args.checkpoint or args.config is None):
        parser.error('--start goes with CONFIG alone, in the place of a checkpoint')
    if args.corruption != 'list' and args.checkpoint is None and not args.start:
        parser.error('CONFIG and CHECKPOINT are needed (or --corruption list)')
    if args.limit is not None and not args.corruption:
        parser.error('--limit goes with --corruption')
    if args.sensors is not None:
        from ...core.protocols import SENSORS
        unknown = [name for name in args.sensors.split(',') if name not in SENSORS]
        if unknown:
            parser.error(f'--sensors: expected some of {", ".join(SENSORS)}, found {unknown[0]!r}')


def mirrored_words(words: str) -> tuple[str, ...]:
    """The words of --tta: 'flips' stands for all of them."""
    from ...averaging import MIRRORED

    chosen = tuple(MIRRORED) if words == 'flips' else tuple(words.split(','))
    if set(chosen) - set(MIRRORED) or len(set(chosen)) < len(chosen):
        raise argparse.ArgumentTypeError(
            f'expected flips or different words out of {", ".join(MIRRORED)}, found {words!r}')
    return chosen


def main(args: argparse.Namespace) -> None:
    """Test and print one table."""
    from .corruption_rows import list_corruptions, test_corruptions
    if args.corruption == 'list':
        print(list_corruptions())
        return

    from ...core.config import config_name, read_config
    from ...core.files import write_json
    from ...evaluation.errors import ResultError
    from ...evaluation.reports.table import format_scores
    from ...evaluation.storage.resume import describe_run, resume_test
    from ...training.launch import build_runner
    from ...training.start import write_start
    from .averaged import average_words, check_also, is_averaged, use_average

    check_also(args)
    work_dir = Path(args.work_dir or Path('work_dirs') / config_name(args.config))
    if args.start:
        args.checkpoint = str(write_start(read_config(args.config, args.cfg_options), work_dir / 'start.pth'))
    runner = build_runner(
        args.config, work_dir=work_dir, launcher=args.launcher, checkpoint=args.checkpoint,
        options=changed_options(args, work_dir))
    network = use_engine(runner, args, work_dir) if args.engine != 'torch' else []
    run = describe_run(
        runner.cfg, args.checkpoint, network, engine=engine_words(args), sensors=args.sensors,
        **average_words(args))
    if is_averaged(args):
        use_average(runner, args)
    try:
        if args.corruption:
            test_corruptions(runner, args, work_dir, run)
            if args.engine != 'torch' and runner.rank == 0:
                print_cuts(runner.model)
            return
        runner.logger.info(resume_test(runner, run, args.overwrite))
    except ResultError as error:
        sys.exit(f'error: {error}')

    metrics = runner.test()
    if runner.rank == 0:
        print(format_scores(metrics))
        out = write_json(
            args.out or work_dir / 'metrics.json', {name: float(value) for name, value in metrics.items()}
        )
        if args.engine != 'torch':
            print_cuts(runner.model)
        print(f'metrics: {out}' + ('' if args.no_results else f', results: {work_dir / "results"}'))


def changed_options(args: argparse.Namespace, work_dir: Path) -> dict[str, Any]:
    """What the command line changes in the configuration, as `--cfg-options` would."""
    from .averaged import data_options

    options = data_options(args, args.config)
    if args.engine != 'torch':
        options['test_dataloader.batch_size'] = 1
    writes_results = not (args.no_results or args.corruption)
    options['test_evaluator.results_dir'] = str(work_dir / 'results') if writes_results else None
    return options


def use_engine(runner: Any, args: argparse.Namespace, work_dir: Path) -> list[Path]:
    """Put the exported network into the runner; gives the files that the engine reads."""
    from ...core.registered import foreign_scopes
    from ...deployment.deployed import DeployedModel
    from ...deployment.engines import network_files

    export = args.export or work_dir / 'export'
    runner.replace_model(DeployedModel.open(
        export, args.engine, args.precision, args.checkpoint, foreign_scopes(runner.cfg.model),
        device=args.device))
    return network_files(export, args.engine, args.precision)


def engine_words(args: argparse.Namespace) -> str:
    """What computes: results of one device are not taken over by a run on another."""
    return ' '.join(word for word in (args.engine, args.precision, args.device) if word)


def print_cuts(deployed: DeployedModel) -> None:
    """Say which sensors' clouds had no room in the exported network."""
    from ...deployment.export.graph import describe_cuts

    for line in describe_cuts(deployed.model):
        print(line)
