"""Draw what a model sees: python tools/visualize.py CONFIG CHECKPOINT|--ground-truth --out DIR [--video]
[--rerun]"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    from mmengine.config import DictAction
    parser = argparse.ArgumentParser(
        description='Pictures, without a screen: six cameras with boxes and lanes, the view from above with map, boxes, lanes '
        'and LiDAR, and occupancy; answer beside truth.'
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint', nargs='?', help='weights; not needed with --ground-truth or --export')
    parser.add_argument(
        '--ground-truth', action='store_true', help='draw the labels alone: look at your data before training'
    )
    parser.add_argument('--out', required=True, metavar='DIR')
    parser.add_argument('--split', help='another split than the configuration\'s test split')
    parser.add_argument(
        '--frames', default='0:8', help='first:last:step of the split, or a comma list of indices'
    )
    parser.add_argument('--scene', help='only frames of this scene')
    parser.add_argument(
        '--score', type=float, default=0.3, help='boxes and lanes below this score are not drawn'
    )
    parser.add_argument('--engine', default='torch', choices=['torch', 'onnxruntime', 'openvino', 'tensorrt'])
    parser.add_argument('--precision', default='fp32', choices=['fp32', 'fp16', 'bf16', 'int8'])
    parser.add_argument(
        '--export', metavar='DIR', help='folder that tools/export.py wrote, for the other engines'
    )
    parser.add_argument('--video', action='store_true', help='also scene.mp4')
    parser.add_argument(
        '--rerun', action='store_true', help='also scene.rrd for the rerun viewer (extra [rerun])'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args()
    if not args.ground_truth and args.checkpoint is None and args.export is None:
        parser.error('give a CHECKPOINT, an --export folder, or --ground-truth')
    return args


def chosen_frames(words: str, count: int) -> list[int]:
    """'0:8', '0:40:5' or '3,7' -> indices."""
    if ':' in words:
        return list(range(count))[slice(*(int(w) if w else None for w in words.split(':')))]
    return [i for i in (int(w) for w in words.split(',')) if i < count]


def open_model(args: argparse.Namespace, config: object) -> object:
    """The model or engine that answers, or None for the ground truth."""
    if args.ground_truth:
        return None
    if args.engine != 'torch':
        from perception.deployment.deployed import DeployedModel
        return DeployedModel.open(args.export, args.engine, args.precision)
    from perception.core.checkpoint import load_weights
    from perception.registry import MODELS, without_pretrained
    model = MODELS.build(without_pretrained(config.model))
    load_weights(model, args.checkpoint)
    return model.eval()


def main() -> None:
    """Draw the chosen frames."""
    args = parse_args()
    import torch

    from perception import visualization as draw
    from perception.core.config import config_name, read_config
    from perception.registry import DATASETS, FUNCTIONS
    config = read_config(args.config, args.cfg_options)
    data = config.test_dataloader
    dataset = DATASETS.build({**data.dataset, **({'split': args.split} if args.split else {})})
    collate = dict(data.collate_fn)
    make_batch, model = FUNCTIONS.get(collate.pop('type')), open_model(args, config)
    pictures, recorded = [], []
    for index in chosen_frames(args.frames, len(dataset)):
        sample, annotations = dataset[index]
        if args.scene and sample.frame.scene != args.scene:
            continue
        truth = draw.layers_of_truth(annotations) if annotations is not None else None
        answer = None
        if model is not None:
            with torch.no_grad():
                ready = model.data_preprocessor(make_batch([(sample, annotations)], **collate))
                answer = draw.layers_of_output(model(**ready, mode='predict')[0], args.score)
        picture = draw.draw_frame(
            sample, answer, truth, f'{sample.frame.scene}  {sample.frame.location}  {sample.frame.token}'
        )
        path = draw.write_image(Path(args.out) / f'{index:05d}.png', picture)
        print(path, flush=True)
        pictures.append((f'{sample.frame.scene}, frame {index}', picture))
        recorded.append((sample, answer or truth))
    if not pictures:
        sys.exit('no frame was chosen: see --frames and --scene')
    print(
        draw.write_report(
            Path(args.out) / 'report.html', config_name(args.config), {'frames': len(pictures)}, pictures
        )
    )
    if args.video:
        print(draw.write_video(Path(args.out) / 'scene.mp4', [picture for _, picture in pictures]))
    if args.rerun:
        print(draw.write_rerun(Path(args.out) / 'scene.rrd', recorded))


if __name__ == '__main__':
    main()
