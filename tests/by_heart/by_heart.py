r"""Let a configuration learn a few frames by heart on the CPU: real nuScenes frames, or some of a world.

    python tools/learn_by_heart.py configs/nuscenes/camera_lidar.py
    python tools/learn_by_heart.py configs/nuscenes/camera.py
    python tools/learn_by_heart.py configs/world/lidar.py --frames-root data/world --version v1.0-trainval \
        --frames 80 --batch-size 2 --steps 640

Images stay 256 x 704; heads, trunk, fuser, encoders, losses, loop, optimiser's guard and metric are the
configuration's own. Cheaper than a real training, so that two cores need less than an hour: boxes alone, the
ground within `--radius-m`, no augmentation, and an image backbone that does not learn (from its published
weights where the file is there, else as it was drawn, with norms that fit these frames), so that it is
computed once a frame. In the last quarter of the steps the norms stand still: a step has one frame or two,
whose own statistics are not those that the test uses. The optimiser is AdamW, or Muon where the
configuration has it. `--depth-steps` lets a camera learn the LiDAR's depths before boxes. Run again, it goes
on from its newest checkpoint; at the end it prints the scores on the frames it has learned and draws them.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MethodType
from typing import Any

SPLIT = 'by_heart'
BACKBONE = 'encoders.camera.backbone.'
DEPTH_LOSS = 'loss/camera/depth'
SWEEPS = 3
"""Earlier LiDAR sweeps: the frame without a key-frame cloud has one 50 ms before."""


MOVING_NORMS = 0.75
"""Share of the steps in which norms take each frame's own statistics."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the program."""
    parser.add_argument('config', type=Path, help='a configuration of configs/nuscenes')
    parser.add_argument('--frames-root', type=Path, default=Path('../shared/real_frames/nuscenes'),
                        help='nuScenes root; its infos/<version>, where they are there, are copied '
                             '(default: %(default)s)')
    parser.add_argument('--version', default='v1.0-mini', help='of its tables (default: %(default)s)')
    parser.add_argument(
        '--frames', type=int, metavar='N', help='so many, evenly among those that have every sensor (all)')
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/by_heart/<name>')
    parser.add_argument('--steps', type=int, default=160, help='(default: %(default)s)')
    parser.add_argument('--batch-size', type=int, default=1, help='frames a step (default: %(default)s)')
    parser.add_argument(
        '--stop-after', type=int, metavar='N', help='end this run after the pass that step N is in')
    parser.add_argument(
        '--start', type=Path, metavar='CHECKPOINT',
        help='weights of an earlier run to start from; norms stand still from the first step')
    parser.add_argument(
        '--depth-steps', type=int, default=0, metavar='N',
        help='in the first N steps of cameras the depth loss alone counts (default: %(default)s)')
    parser.add_argument(
        '--dtype', default='float32', choices=('float32', 'bfloat16', 'auto'),
        help='of the steps: auto is bfloat16 where the processor has it (default: %(default)s)')
    parser.add_argument('--lr', type=float, default=1e-3, help='peak of AdamW (default: %(default)s)')
    parser.add_argument('--radius-m', type=float, default=32.0, help='of the ground (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=2, help='(default: %(default)s)')


def run(args: argparse.Namespace) -> int:
    """Learn, print the scores, draw; 0."""
    import torch

    torch.set_num_threads(args.threads)
    args.work_dir = args.work_dir or Path('work_dirs/by_heart') / args.config.stem
    infos = args.work_dir / 'infos'
    config = by_heart_config(args, infos)
    tokens = write_infos(args, infos, config.test_dataloader.dataset)
    fit_schedule(config, args, len(tokens))
    print(f'{len(tokens)} frames: {", ".join(tokens)}', flush=True)

    runner = make_runner(config, args.stop_after, 0.0 if args.start else MOVING_NORMS, args.depth_steps)
    runner.train()
    if runner.iter < runner.max_iters:
        print(f'stopped after step {runner.iter} of {runner.max_iters}; run again to go on')
        return 0

    runner.model.eval()
    scores = runner.test()
    for name in ('NDS_present_classes', 'mAP_present_classes', 'mATE', 'mASE', 'mAOE', 'mAVE'):
        print(f'{name:22} {scores[f"detection/{name}"]:.4f}')
    for name, value in scores.items():
        if name.endswith('/AOE') and value == value:
            print(f'{name.removeprefix("detection/"):22} {value:.4f}')
    draw(runner, args.work_dir / 'pictures')
    return 0


def write_infos(args: argparse.Namespace, folder: Path, dataset: Mapping[str, Any]) -> list[str]:
    """Infos of the frames with one split more: `args.frames` of those that have all sensors of `dataset`.

    Returns:
        The tokens of that split.
    """
    from perception.datasets.create import CreateOptions, create_infos
    from perception.datasets.reading.dataset import NuScenesDataset

    root, made = args.frames_root.resolve(), args.frames_root / 'infos' / args.version
    if not (folder / 'index.json').is_file():
        partial = folder.with_name('infos.partial')
        shutil.rmtree(partial, ignore_errors=True)
        if made.is_dir():
            shutil.copytree(made, partial)
        else:
            partial.mkdir(parents=True)
            create_infos(CreateOptions(root, args.version, partial), progress=False)
        partial.rename(folder)

    sensors = tuple(dataset['sensors'])
    frames = NuScenesDataset(
        root, args.version, 'all', infos=folder, sensors=sensors, tasks=('detection',),
        reading=dict(lidar_sweeps=dataset['reading']['lidar_sweeps']))
    tokens = []
    for token in frames.tokens:
        record = frames.record(token)
        files = [list(record.cameras.values())] if 'camera' in sensors else []
        files += [record.lidar[:2]] if 'lidar' in sensors else []
        if all(any((root / part.file).is_file() for part in parts) for parts in files):
            tokens.append(token)

    if args.frames is not None:
        tokens = tokens[::max(1, len(tokens) // args.frames)][:args.frames]
    index = json.loads((folder / 'index.json').read_text(encoding='utf-8'))
    index['splits'][SPLIT] = tokens
    (folder / 'index.json').write_text(json.dumps(index), encoding='utf-8')
    return tokens


def by_heart_config(args: argparse.Namespace, infos: Path) -> Any:
    """The configuration with these frames, boxes alone, a smaller ground and nothing random in its data."""
    from perception.core.config import read_config

    config = read_config(args.config, {'tasks': ('detection',)})
    set_ranges(config.model, (-args.radius_m, args.radius_m))
    camera = config.model.encoders.get('camera')
    if camera is not None:
        camera.backbone.checkpoint = False
        if camera.backbone.get('pretrained') and not Path(camera.backbone.pretrained).is_file():
            camera.backbone.pretrained = None
        config['freeze'] = [BACKBONE]  # mmengine's dictionaries have a method of that name

    box = (-args.radius_m, -args.radius_m, -5, args.radius_m, args.radius_m, 5)
    for loader in (config.train_dataloader, config.test_dataloader):
        loader.update(batch_size=args.batch_size, num_workers=0, persistent_workers=False)
        loader.dataset.update(
            root=str(args.frames_root.resolve()), version=args.version, split=SPLIT, infos=str(infos))
        sweeps = min(SWEEPS, loader.dataset.reading.lidar_sweeps)
        loader.dataset.reading.update(lidar_sweeps=sweeps, bad_file='mask')
        loader.dataset.pipeline.update(bev=None, shuffle=None)
        loader.dataset.pipeline.image.train = False
        loader.dataset.pipeline.range = dict(type='RangeFilter', points_m=box, boxes_m=box)
    config.train_dataloader.drop_last = False
    config.train_dataloader.sampler = dict(type='SeededSampler', shuffle=True)

    for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        config[name] = None
    config.test_evaluator = dict(type='MultiTaskMetric', tasks=('detection',))

    config.auto_scale_lr = None
    config.work_dir = str(args.work_dir)
    config.launcher = 'none'

    # weights to start from are for a work dir that has none yet
    started = args.start is None or (args.work_dir / 'last_checkpoint').is_file()
    config.resume, config.load_from = started, None if started else str(args.start)
    return config


def set_ranges(node: Any, range_m: tuple[float, float]) -> None:
    """Every grid of a model's configuration to the same square of ground."""
    for value in node.values():
        if isinstance(value, dict):
            if 'x_range_m' in value and 'cell_m' in value and value.get('type') == 'BEVGrid':
                value.update(x_range_m=range_m, y_range_m=range_m)
            set_ranges(value, range_m)


def fit_schedule(config: Any, args: argparse.Namespace, frames: int) -> None:
    """A short warm-up and a cosine over as many passes as make `--steps` steps; few checkpoints, no EMA."""
    each = -(-frames // args.batch_size)
    epochs = -(-args.steps // each)
    warm_up = min(20, max(1, epochs * each // 4))
    config.optim_wrapper.dtype = args.dtype
    if config.optim_wrapper.optimizer.type != 'MuonAdamW':
        config.optim_wrapper.update(
            optimizer=dict(type='AdamW', lr=args.lr, weight_decay=0.0), paramwise_cfg=None)
    config.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs)
    config.param_scheduler = [
        dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=warm_up),
        dict(type='CosineAnnealingLR', by_epoch=False, begin=warm_up, end=epochs * each,
             T_max=epochs * each - warm_up, eta_min_ratio=1e-2)]

    # an average over thousands of steps would still be the start
    config.custom_hooks = []
    config.visualizer = None
    config.default_hooks.checkpoint.update(interval=max(1, 10 // each), max_keep_ckpts=1)
    config.default_hooks.logger.interval = 1
    config.log_processor = dict(type='LogProcessor', window_size=1, by_epoch=True)


def make_runner(config: Any, stop_after: int | None, moving_norms: float, depth_steps: int) -> Any:
    """The runner, its backbone still and remembered, its clock beside the log.

    Raises:
        ValueError: depth first, and no camera.
    """
    from mmengine.hooks import Hook
    from torch.nn import BatchNorm1d, BatchNorm2d

    from perception.training.runner import PerceptionRunner

    class Clock(Hook):
        """Seconds a step and the memory's peak; ends a run early, at the end of a pass."""

        done = 0

        def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
            self.since = time.perf_counter(), time.process_time()
            runner.model.parse_losses = depth_alone if runner.iter < depth_steps else every_loss
            if runner.iter >= moving_norms * runner.max_iters:
                for part in runner.model.modules():
                    if isinstance(part, (BatchNorm1d, BatchNorm2d)):
                        part.eval()

        def after_train_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
        ) -> None:
            self.done += 1
            peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20
            wall_s, cpu_s = time.perf_counter() - self.since[0], time.process_time() - self.since[1]
            print(f'step {runner.iter + 1}/{runner.max_iters}: loss {float(outputs["loss"]):.3f}, '
                  f'{wall_s:.1f} s ({cpu_s:.1f} s of processor), peak {peak_gib:.1f} GiB', flush=True)

        def after_train_epoch(self, runner: Any) -> None:
            if stop_after is not None and self.done >= stop_after:
                runner.train_loop.stop_training = True

    runner = PerceptionRunner.from_cfg(config)
    every_loss = runner.model.parse_losses
    if depth_steps and 'camera' not in runner.model.encoders:
        raise ValueError(f'--depth-steps: found {depth_steps}, expected 0 for a model without cameras')

    def depth_alone(losses: Mapping[str, Any]) -> Any:
        return every_loss({name: term if name == DEPTH_LOSS else 0 * term for name, term in losses.items()})

    runner.register_hook(Clock())
    if 'camera' in runner.model.encoders:
        backbone = runner.model.encoders['camera'].backbone
        if not config.model.encoders.camera.backbone.get('pretrained'):
            fit_norms(runner)
        backbone.forward = MethodType(remembered(type(backbone).forward), backbone)
    return runner


def fit_norms(runner: Any) -> None:
    """Give the still backbone's norms the statistics of the frames: drawn weights have none that fit."""
    import torch

    model = runner.model
    backbone = model.encoders['camera'].backbone
    norms = [part for part in backbone.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.training = None, True  # plain means; `train` of what is frozen does nothing

    with torch.no_grad():
        for batch in runner.build_dataloader(runner.cfg.test_dataloader):
            images = model.data_preprocessor(batch)['inputs'].images_BN3HW
            backbone(images.flatten(0, 1))
    for norm in norms:
        norm.training = False


def remembered(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A backbone's forward that computes each set of images once.

    Kept in float32: steps in half precision round it again, the test at the end does not.
    """
    known: dict[bytes, Any] = {}

    def once(backbone: Any, images: Any) -> Any:
        if images.is_meta:  # the encoder asks for shapes
            return forward(backbone, images)
        key = hashlib.sha256(images[..., ::8, ::8].contiguous().numpy().tobytes()).digest()
        if key not in known:
            known[key] = tuple(part.detach().float() for part in forward(backbone, images))
        return known[key]
    return once


def draw(runner: Any, folder: Path) -> None:
    """Each frame with the boxes found and the true ones, in the images and from above."""
    import torch

    from perception import visualization
    from perception.registry import FUNCTIONS

    loader = runner.test_dataloader
    options = dict(runner.cfg.test_dataloader.collate_fn)
    collate = FUNCTIONS.get(options.pop('type'))
    for number in range(len(loader.dataset)):
        sample, labels = loader.dataset[number]
        with torch.no_grad():
            output, = runner.model(
                **runner.model.data_preprocessor(collate([(sample, labels)], **options)), mode='predict')
        picture = visualization.draw_frame(
            sample, visualization.layers_of_output(output, 0.3), visualization.layers_of_truth(labels),
            sample.frame.token, None)
        print(visualization.write_image(folder / f'{sample.frame.token}.png', picture))
