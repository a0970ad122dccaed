"""Draw what a model sees, without a screen.

    perception visualize CONFIG CHECKPOINT --out DIR [--video] [--viewer] [--rerun]
    perception visualize CONFIG --results RESULTS [OTHER] --viewer --scene scene-0103 --frames : --out DIR
    perception visualize CONFIG --ground-truth --out DIR
    perception visualize CONFIG CHECKPOINT --tracks --scene scene-0103 --frames : --out DIR

Six cameras with boxes and lanes, the view from above with map, boxes, lanes and LiDAR, and occupancy;
prediction beside truth. --viewer makes a page in which one turns the scene, plays it and compares prediction,
truth and another model. With --tracks the boxes have numbers that they keep, tails and the motion ahead; the
frames must then follow each other.
"""
from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
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
        '--results', nargs='+', default=[], metavar='RESULTS',
        help='stored predictions (folder of a test, or a nuScenes file) instead of a CHECKPOINT; of two '
        'models, of which one may be the CHECKPOINT, --viewer shows what differs')
    parser.add_argument(
        '--full-resolution', action='store_true',
        help='cameras as they were taken, instead of resized for the model and fitted to the panels')
    parser.add_argument('--video', action='store_true', help='also scene.mp4')
    parser.add_argument(
        '--viewer', action='store_true',
        help='also viewer.html, an interactive page that needs no network (extra [viewer])')
    parser.add_argument(
        '--rerun', action='store_true', help='also scene.rrd for the rerun viewer (extra [rerun])'
    )
    add_config_options(parser)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """There must be something to draw, at most two models, and the engine must know the device."""
    check_device(parser, args)
    if args.ground_truth:
        if args.results:
            parser.error('--ground-truth draws the labels alone: leave out --results')
        return
    if args.engine != 'torch' and args.export is None:
        parser.error(f'--engine {args.engine} needs the folder of an export: --export DIR')

    models = runs_model(args) + len(args.results)
    if models == 0:
        parser.error(
            'give a CHECKPOINT, --engine with an --export folder, --results, or --ground-truth')
    if models > 2:
        parser.error(f'expected at most two models to compare, found {models}: CHECKPOINT and --results')


def main(args: argparse.Namespace) -> None:
    """Draw the chosen frames."""
    from ... import visualization as draw
    from ...core.config import config_name, read_config
    from ...visualization.pages.viewer import ViewerOptions, ViewerWriter

    config = read_config(args.config, args.cfg_options)
    name = config_name(args.config)
    width_px = 800 if args.full_resolution else 400
    # before anything is computed it is said whether the page can be made
    viewer = ViewerWriter(name, ViewerOptions(args.score, width_px)) if args.viewer else None

    out, scores = Path(args.out), FrameScores()
    pictures, recorded = [], []
    for shown in frames_of(args, config):
        scores.add(shown)
        picture = shown.picture(args)
        print(draw.write_image(out / f'{shown.index:05d}.png', picture), flush=True)
        pictures.append((f'{shown.sample.frame.scene}, frame {shown.index}', picture))
        if viewer is not None:
            viewer.add(shown.for_viewer())
        if args.rerun:
            recorded.append((shown.sample, shown.layers(args.score)[0] or shown.truth))

    if not pictures:
        sys.exit('no frame was chosen: see --frames and --scene')
    if viewer is not None:
        print(viewer.write(out / 'viewer.html'))
    facts = {'frames': len(pictures), **scores.table()}
    print(draw.write_report(
        out / 'report.html', name, facts, pictures, 'viewer.html' if args.viewer else None))
    if args.video:
        print(draw.write_video(out / 'scene.mp4', [picture for _, picture in pictures]))
    if args.rerun:
        print(draw.write_rerun(out / 'scene.rrd', recorded))


@dataclass(frozen=True)
class ShownFrame:
    """One chosen frame with everything that is known of it.

    Attributes:
        index: in the split.
        sample: as the model gets it.
        original: as it was taken; the same where nobody asks for it.
        annotations: None where there are none.
        outputs: of one model or two.
    """

    index: int
    sample: Any
    original: Any
    annotations: Any
    outputs: tuple[Any, ...]

    @property
    def truth(self) -> Any:
        """Layers of the labels, None where there are none."""
        from ... import visualization as draw
        return None if self.annotations is None else draw.layers_of_truth(self.annotations)

    def layers(self, score: float) -> list[Any]:
        """Layers of each model's prediction from a score on; one None where no model predicts."""
        from ... import visualization as draw
        return [draw.layers_of_output(output, score) for output in self.outputs] or [None]

    def picture(self, args: argparse.Namespace) -> Any:
        """The first model's prediction beside the truth."""
        from ... import visualization as draw
        frame = self.sample.frame
        sample, width_px = self.sample, None
        if args.full_resolution:
            sample = self.original
            width_px = sample.camera.image_size_hw[1] if sample.camera is not None else None
        title = f'{frame.scene}  {frame.location}  {frame.token}'
        return draw.draw_frame(sample, self.layers(args.score)[0], self.truth, title, width_px)

    def for_viewer(self) -> Any:
        """The same for the interactive page, with boxes and lanes of low scores too."""
        from ...visualization.pages.viewer import LOWEST_SCORE, ViewerFrame
        named = zip(('prediction', 'other prediction'), self.layers(LOWEST_SCORE), strict=False)
        sources = {name: layers for name, layers in (*named, ('truth', self.truth)) if layers is not None}
        return ViewerFrame(f'frame {self.index}, {self.sample.frame.token}', self.original, sources)


class FrameScores:
    """Scores of the first model over the frames that are drawn."""

    def __init__(self) -> None:
        from ...evaluation.suite import MetricSuite
        self._suite = MetricSuite(options={'occupancy': {'rays': False}})
        self._summaries: list[Any] = []

    def add(self, shown: ShownFrame) -> None:
        """Look at one frame."""
        if shown.outputs and shown.annotations is not None:
            self._summaries.append(self._suite.summarise(shown.outputs[0], shown.annotations))

    def table(self) -> dict[str, float]:
        """{score of these frames: value}, of each task the first ones of its table."""
        from ...evaluation.reports.table import score_tables
        if not self._summaries:
            return {}
        scores = self._suite.report(self._summaries).metrics
        names = [f'{table.prefix}/{name}' for table in score_tables() for name in table.scores]
        return {f'{name}, these frames': scores[name] for name in names if name in scores}


def frames_of(args: argparse.Namespace, config: Any) -> Iterator[ShownFrame]:
    """The chosen frames, each with its predictions, one at a time."""
    from ...registry import DATASETS
    options = {**config.test_dataloader.dataset, **({'split': args.split} if args.split else {})}
    dataset = DATASETS.build(options)
    # without a pipeline nothing is resized, neither while decoding nor after
    wanted = args.full_resolution or args.viewer
    originals = DATASETS.build({**options, 'pipeline': []}) if wanted else dataset

    predictors = open_predictors(args, config)
    # every model is followed by a tracker of its own
    followers = [open_followers(args.tracks) for _ in range(max(1, len(predictors)))]
    for index in chosen_frames(args.frames, len(dataset)):
        pair = sample, annotations = dataset[index]
        if args.scene and sample.frame.scene != args.scene:
            continue

        outputs = tuple(
            followed.prediction(predict(pair))
            for followed, predict in zip(followers, predictors, strict=False))
        if annotations is not None:
            annotations = followers[0].truth(sample.frame, annotations)
        original = originals[index][0] if wanted else sample
        yield ShownFrame(index, sample, original, annotations, outputs)


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


def runs_model(args: argparse.Namespace) -> bool:
    """Whether a model or an engine is to run."""
    return not args.ground_truth and (args.checkpoint is not None or args.engine != 'torch')


def open_predictors(args: argparse.Namespace, config: Any) -> list[Callable[[tuple], Any]]:
    """What gives the predictions for a (sample, annotations) pair: the model, then what is stored."""
    from ...evaluation.storage.predictions import StoredPredictions
    predictors: list[Callable[[tuple], Any]] = []
    if runs_model(args):
        model, collate = open_model(args, config), config.test_dataloader.collate_fn
        predictors.append(lambda pair: predict(model, pair, collate))
    for path in args.results:
        stored = StoredPredictions(path)
        predictors.append(lambda pair, stored=stored: stored(pair[0].frame))
    return predictors


def open_model(args: argparse.Namespace, config: Any) -> Any:
    """The model or engine that predicts."""
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
