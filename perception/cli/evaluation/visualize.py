"""Draw what a model sees, without a screen.

    perception visualize CONFIG CHECKPOINT --out DIR [--video] [--rerun]
    perception visualize CONFIG --ground-truth --out DIR
    perception visualize CONFIG CHECKPOINT --tracks --scene scene-0103 --frames : --out DIR

Six cameras with boxes and lanes, the view from above with map, boxes, lanes and LiDAR, and occupancy;
prediction beside truth. With --tracks the boxes have numbers that they keep, tails and the motion ahead; the
frames must then follow each other.
"""
from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..options import add_config_options, add_engine, check_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command line."""
    parser.add_argument('config')
    parser.add_argument(
        'checkpoint', nargs='?', help='weights; not needed with --ground-truth or another engine')
    parser.add_argument(
        '--ground-truth', action='store_true', help='draw the labels alone: look at your data before training'
    )
    parser.add_argument('--out', required=True, metavar='DIR')
    parser.add_argument('--split', help="another split than the configuration's test split")
    parser.add_argument(
        '--frames', type=frame_words, default='0:8',
        help='first:last:step of the split, or a comma list of indices'
    )
    parser.add_argument('--scene', help='only frames of this scene')
    parser.add_argument(
        '--score', type=float, default=0.3, help='boxes and lanes below this score are not drawn'
    )

    parser.add_argument(
        '--tracks', nargs='?', const='velocity', choices=['velocity', 'kalman'], metavar='MOTION',
        help='numbers, tails of 4 s and the way of the next 3 s; MOTION is velocity (default) or kalman')

    # what predicts, and what else is written
    add_engine(parser)
    parser.add_argument('--export', metavar='DIR', help='folder of the export, for the other engines')
    parser.add_argument(
        '--full-resolution', action='store_true',
        help='cameras as they were taken, instead of resized for the model and fitted to the panels')
    parser.add_argument('--video', action='store_true', help='also scene.mp4')
    parser.add_argument(
        '--rerun', action='store_true', help='also scene.rrd for the rerun viewer (extra [rerun])'
    )
    add_config_options(parser)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """There must be something to draw, and the engine must know the device."""
    check_device(parser, args)
    if args.ground_truth:
        return
    if args.engine == 'torch' and args.checkpoint is None:
        parser.error('give a CHECKPOINT, --engine with an --export folder, or --ground-truth')
    if args.engine != 'torch' and args.export is None:
        parser.error(f'--engine {args.engine} needs the folder of an export: --export DIR')


def main(args: argparse.Namespace) -> None:
    """Draw the chosen frames."""
    from ... import visualization as draw
    from ...core.config import config_name, read_config
    from ...registry import DATASETS

    config = read_config(args.config, args.cfg_options)
    data = config.test_dataloader
    options = {**data.dataset, **({'split': args.split} if args.split else {})}
    dataset = DATASETS.build(options)
    # without a pipeline nothing is resized, neither while decoding nor after
    originals = DATASETS.build({**options, 'pipeline': []}) if args.full_resolution else None
    model, followed = open_model(args, config), open_followers(args.tracks)

    out, pictures, recorded = Path(args.out), [], []
    for index in chosen_frames(args.frames, len(dataset)):
        sample, annotations = dataset[index]
        if args.scene and sample.frame.scene != args.scene:
            continue
        if annotations is not None:
            annotations = followed.truth(sample.frame, annotations)
        truth = draw.layers_of_truth(annotations) if annotations is not None else None
        prediction = None
        if model is not None:
            output = predict(model, (sample, annotations), data.collate_fn)
            prediction = draw.layers_of_output(followed.prediction(output), args.score)

        title = f'{sample.frame.scene}  {sample.frame.location}  {sample.frame.token}'
        width_px = None
        if originals is not None:
            sample, _ = originals[index]
            width_px = sample.camera.image_size_hw[1] if sample.camera is not None else None
        picture = draw.draw_frame(sample, prediction, truth, title, width_px)
        print(draw.write_image(out / f'{index:05d}.png', picture), flush=True)
        pictures.append((f'{sample.frame.scene}, frame {index}', picture))
        recorded.append((sample, prediction or truth))

    if not pictures:
        sys.exit('no frame was chosen: see --frames and --scene')
    facts = {'frames': len(pictures)}
    print(draw.write_report(out / 'report.html', config_name(args.config), facts, pictures))
    if args.video:
        print(draw.write_video(out / 'scene.mp4', [picture for _, picture in pictures]))
    if args.rerun:
        print(draw.write_rerun(out / 'scene.rrd', recorded))


@dataclass(frozen=True)
class Followers:
    """What adds tracks to predictions and to labels.

    Attributes:
        prediction: output of a model -> the same, perhaps with tracks.
        truth: (frame, annotations) -> the same for the labels.
    """

    prediction: Callable[[Any], Any] = lambda output: output
    truth: Callable[[Any, Any], Any] = lambda frame, annotations: annotations


def open_followers(motion: str | None) -> Followers:
    """A tracker for predictions, and the annotators' own objects for the labels; nothing without `motion`."""
    if motion is None:
        return Followers()
    from ...tracking import FrameTracker, TrackerOptions, TruthTracks
    return Followers(FrameTracker(TrackerOptions(motion)), TruthTracks())


def frame_words(text: str) -> str:
    """An argparse type: what `chosen_frames` reads."""
    if not re.fullmatch(r'-?\d*:-?\d*(:-?[1-9]\d*)?|\d+(,\d+)*', text):
        raise argparse.ArgumentTypeError(
            f'expected FIRST:LAST[:STEP] or indices with commas between them, found {text!r}')
    return text


def chosen_frames(words: str, count: int) -> list[int]:
    """'0:8', '0:40:5' or '3,7' -> indices."""
    if ':' in words:
        bounds = [int(word) if word else None for word in words.split(':')]
        return list(range(count))[slice(*bounds)]
    return [index for index in map(int, words.split(',')) if index < count]


def open_model(args: argparse.Namespace, config: Any) -> Any:
    """The model or engine that predicts, or None for the ground truth."""
    if args.ground_truth:
        return None
    if args.engine != 'torch':
        from ...core.registered import foreign_scopes
        from ...deployment.deployed import DeployedModel
        return DeployedModel.open(
            args.export, args.engine, args.precision, foreign=foreign_scopes(config.model),
            device=args.device)

    from ...core.checkpoint import load_weights
    from ...registry import MODELS, without_pretrained
    model = MODELS.build(without_pretrained(config.model))
    load_weights(model, args.checkpoint)
    return model.eval()


def predict(model: Any, pair: tuple, collate_options: dict[str, Any]) -> Any:
    """The model's output for one (sample, annotations) pair."""
    import torch

    from ...registry import FUNCTIONS
    options = dict(collate_options)
    collate = FUNCTIONS.get(options.pop('type'))
    with torch.no_grad():
        return model(**model.data_preprocessor(collate([pair], **options)), mode='predict')[0]
