"""One frame in, one answer out: the model for people who write Python and have no dataset.

In the terms of the design this file is a tool that is imported instead of called: like `tools/` it may look
into every room, and no room looks at it (`from perception import load_model` is its only door). It has no
numbers of its own: how images are resized and cut and which points are kept comes from the configuration's
test pipeline, so an answer here is the one that `tools/test.py` judges.

Shape letters: N cameras, P points, H W image rows and columns. Ego: x forward, y left, z up, metres, origin
on the ground below the rear axle, at the moment of the LiDAR key frame.
"""
from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from .core.config import pipeline_transforms
from .core.contracts import CameraRig, Frame, LidarPoints, RadarPoints, Sample, TaskOutput
from .core.protocols import RADARS
from .core.records import build_record
from .datasets.reading.options import ReadingOptions
from .datasets.reading.sensors import place_lidar, without_own_returns
from .datasets.transforms.image import Compose, ResizeCropFlipRotate, sample_rng
from .registry import DATASETS, FUNCTIONS, MODELS

Arrays = Mapping[str, np.ndarray]
_AUTOCAST = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def load_model(config: str | Path | Config, checkpoint: str | Path | None = None, engine: str = 'torch',
               export: str | Path | None = None, precision: str = 'fp32', device: str = 'cpu',
               options: Mapping[str, Any] | None = None) -> Perception:
    """A model that answers single frames.

    Args:
        config: configuration file.
        checkpoint: its weights; without one the weights are random, and a warning says so.
        engine: 'torch' runs the model itself; 'onnxruntime', 'openvino' and 'tensorrt' run what
            `tools/export.py` wrote into the folder `export`.
        precision: 'fp32', 'bf16', 'fp16' or 'int8', as far as the engine has it.
        device: of the torch engine.
        options: changes of the configuration, as `--cfg-options` makes them.

    Raises:
        FileNotFoundError: no such configuration, checkpoint or export. ValueError: files that do not belong
        together, an unknown key. EngineUnavailable: the runtime or precision is not to be had here; the
        message says what to install.
    """
    from .core.config import read_config
    settings = config if isinstance(config, Config) else read_config(config, dict(options or {}))
    data = settings.get('test_dataloader')
    if not data or 'dataset' not in data or 'collate_fn' not in data:
        raise ValueError(
            f'{config}: expected test_dataloader with dataset and collate_fn, which say how a frame is prepared'
        )
    if engine == 'torch' and export is None:
        return Perception(_torch_model(settings, checkpoint, device), data, _autocast(precision, device))
    return Perception(_exported_model(data, checkpoint, engine, export, precision), data)


class Perception:
    """A model together with the way its configuration prepares a frame.

    Attributes:
        sensors, tasks: what the model has. cameras: channel names in the order the model was trained with.
        image_size_hw: what the pipeline makes of every image; None where it leaves them as they are.
        lidar_sweeps: earlier LiDAR sweeps it was trained with, besides the key frame's.
    """

    def __init__(self, network: nn.Module, data: Mapping[str, Any], autocast: Any = None) -> None:
        model = getattr(network, 'model', network)
        self.network, self._autocast = network.eval(), autocast or nullcontext()
        self.sensors, self.tasks = tuple(model.encoders), tuple(model.heads)
        dataset, collate = dict(data['dataset']), dict(data['collate_fn'])
        reading = build_record(ReadingOptions, dataset.get('reading'), 'dataset.reading')
        self.cameras = reading.cameras
        self.lidar_sweeps = reading.lidar_sweeps
        self._own_returns_m = reading.own_returns_m
        self._pipeline, self._seed = (
            Compose(dataset.get('pipeline', ())), int(_dataset_value(dataset, 'seed')))
        self.image_size_hw = _final_size_hw(self._pipeline)
        self._make_batch = FUNCTIONS.get(collate.pop('type'))
        self._collate = {**collate, 'sensors': self.sensors, 'camera_names': self.cameras}

    def __call__(self, sample: Sample | None = None, **frame: Any) -> TaskOutput:
        """Answer one frame: `model(images=..., K=..., ego_T_cam=..., points=...)`, the words of `sample`, or
        `model(sample)` with what `sample`, `prepare` or the configuration's own dataset gave.

        Returns:
            A `TaskOutput` in ego metres; a task that the model does not have is None: `detection`: boxes_M9
            (x, y, z of the centre, length, width, height, yaw, vx, vy), scores_M, labels_M, attributes_M;
            `map_segmentation`: probabilities_6YX, rows along +y, columns along +x, over x_range_m and
            y_range_m; `occupancy`: semantics_XYZ `(200, 200, 16)`, 0.4 m voxels from (-40, -40, -1); `lanes`:
            points_LP2 (x, y along each element), scores_L, labels_L.

        Raises:
            TypeError: neither a `Sample` nor words of a frame, or both. ValueError: see `sample`.
        """
        if (sample is None) == (not frame):
            raise TypeError('expected model(sample), or model(images=..., K=..., ego_T_cam=..., points=...)')
        if sample is not None and not isinstance(sample, Sample):
            raise TypeError(
                f'expected a Sample, found {type(sample).__name__}; images and points are given by name'
            )
        return self._answer(self.sample(**frame) if sample is None else sample)

    def sample(
        self,
        images: Arrays | None = None,
        K: Arrays | None = None,
        ego_T_cam: Arrays | None = None,
        points: np.ndarray | None = None,
        ego_T_lidar: np.ndarray | None = None,
        radars: Arrays | None = None,
        token: str = 'frame',
        timestamp_ns: int = 0,
        global_T_ego: np.ndarray | None = None,
    ) -> Sample:
        """One frame's arrays as a prepared `Sample`. A sensor, or a single camera, that is not given is
        absent.

        Args:
            images: {camera: uint8 RGB `(H, W, 3)`}, all of one size, as they come from the camera.
            K: {camera: `(3, 3)` pixels of these images}; the centre of the top-left pixel is (0, 0).
            ego_T_cam: {camera: `(4, 4)`}, camera (x right, y down, z forward) to ego; for a moving car with
                its motion between the camera's and the LiDAR's time included.
            points: `(P, 4 to 6)`: x, y, z (m), intensity 0..255, then ring and time lag (s, positive for
                older) where known. In ego, or with `ego_T_lidar` `(4, 4)` in the LiDAR's frame; returns from
                the car itself are then left away.
            radars: {radar: `(P, 6 or 7)`}: x, y, z in ego, vx, vy (m/s, ego axes, own motion compensated),
                RCS (dBsm), then time lag (s) where known.
            token, timestamp_ns, global_T_ego: come back in the answer's `frame`.

        Rows that are not finite are dropped. `NuScenesDataset` may let the JPEG decoder shrink images first:
        pixels then differ by rounding, and where the sides do not divide its crop lies up to half a pixel
        elsewhere, K with it.

        Raises:
            ValueError: names the argument and camera, what was found and what was expected.
        """
        camera = lidar = radar = None
        given = {'camera': images, 'lidar': points, 'radar': radars}
        self._check_sensors([name for name, value in given.items() if value is not None])
        if images is not None:
            camera = camera_rig(images, K or {}, ego_T_cam or {}, self.cameras)
        if points is not None:
            lidar = lidar_points(points, ego_T_lidar, self._own_returns_m)
        if radars is not None:
            radar = radar_points(radars)
        pose = np.eye(4) if global_T_ego is None else _transform('global_T_ego', global_T_ego)
        return self.prepare(Sample(Frame(token, int(timestamp_ns), pose), camera, lidar, radar))

    def prepare(self, sample: Sample) -> Sample:
        """The configuration's test pipeline over a raw sample (of `NuScenesDataset.load`); `dataset[i]` is
        prepared already."""
        return self._pipeline(sample, None, sample_rng(self._seed, 0, 0))[0]

    def _check_sensors(self, found: Sequence[str]) -> None:
        if not found:
            raise ValueError(f'no sensor is given; this model has {", ".join(self.sensors)}')
        for name in found:
            if name not in self.sensors:
                raise ValueError(
                    f'{name}: this model has no {name} encoder, expected some of {", ".join(self.sensors)}'
                )

    def _answer(self, sample: Sample) -> TaskOutput:
        rig = sample.camera
        if rig is not None and 'camera' in self.sensors:
            if rig.names != self.cameras:
                raise ValueError(f'cameras: expected {self.cameras} in this order, found {rig.names}')
            if self.image_size_hw and rig.image_size_hw != self.image_size_hw:
                raise ValueError(
                    f'images: expected {self.image_size_hw} as this configuration prepares them, found '
                    f'{rig.image_size_hw}; a sample before the pipeline goes through model.prepare first'
                )
        batch = self._make_batch([(sample, None)], **self._collate)
        with torch.no_grad(), self._autocast:
            return self.network(**self.network.data_preprocessor(batch), mode='predict')[0]


# ----------------------------------------------------------------------------------------------------------
# what answers

def _torch_model(settings: Config, checkpoint: str | Path | None, device: str) -> nn.Module:
    from .core.checkpoint import load_weights
    from .registry import without_pretrained
    model = MODELS.build(without_pretrained(settings.model))
    if checkpoint is None:
        warnings.warn(
            'load_model: no checkpoint, so the weights are random and the answers mean nothing', stacklevel=3
        )
    else:
        load_weights(model, checkpoint)
    return model.to(device)


def _exported_model(
    data: Mapping[str, Any],
    checkpoint: str | Path | None,
    engine: str,
    export: str | Path | None,
    precision: str,
) -> nn.Module:
    from .deployment.deployed import DeployedModel
    from .deployment.export.network import plain
    from .deployment.export.sidecar import Sidecar
    if export is None:
        raise ValueError(f'engine {engine!r}: expected export=FOLDER, which tools/export.py writes')
    found = pipeline_transforms(Sidecar.read(export, verify=False).data_config.get('pipeline', []))
    expected = pipeline_transforms(plain(data['dataset'].get('pipeline', [])))
    if found != expected:
        raise ValueError(
            f'{export}: was exported with another pipeline: found {found}, the configuration has {expected}'
        )
    deployed = DeployedModel.open(export, engine, precision, checkpoint)
    deployed.warm_up()
    return deployed


def _autocast(precision: str, device: str) -> Any:
    kind = torch.device(device).type
    if precision not in _AUTOCAST or (precision == 'fp16' and kind == 'cpu'):
        raise ValueError(
            f'precision: torch on {device} runs fp32, bf16{"" if kind == "cpu" else ", fp16"}, found {precision!r}'
        )
    return torch.autocast(kind, _AUTOCAST[precision], enabled=precision != 'fp32')


def _dataset_value(dataset: Mapping[str, Any], name: str) -> Any:
    """A dataset's argument: the configuration's, or the default of the class."""
    return dataset.get(name, inspect.signature(DATASETS.get(dataset['type'])).parameters[name].default)


def _final_size_hw(pipeline: Compose) -> tuple[int, int] | None:
    sizes = [_final_size_hw(t) if isinstance(t, Compose) else t.size_hw for t in pipeline.transforms
             if isinstance(t, (Compose, ResizeCropFlipRotate))]
    return next((size for size in reversed(sizes) if size is not None), None)


# -------------------------------------------------------------------------------------------------------
# arrays to records

def camera_rig(images: Arrays, K: Arrays, ego_T_cam: Arrays, cameras: Sequence[str]) -> CameraRig:
    """Named images with their calibration as a rig of all `cameras`, those that are not given absent.

    Raises:
        ValueError: see `Perception.sample`.
    """
    for argument, found in (('images', images), ('K', K), ('ego_T_cam', ego_T_cam)):
        _check_names(argument, found, cameras)
    if not images:
        raise ValueError(
            f'images: expected some of {", ".join(cameras)}, found none; leave the argument away without cameras'
        )
    pictures = {name: _image(name, image) for name, image in images.items()}
    sizes = {name: picture.shape[:2] for name, picture in pictures.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f'images: expected one size (H, W), found {sizes}')
    for argument, found in (('K', K), ('ego_T_cam', ego_T_cam)):
        missing = [name for name in cameras if name in images and name not in found]
        if missing:
            raise ValueError(f'{argument}: no calibration for {", ".join(missing)}, whose images are given')
    black = np.zeros_like(next(iter(pictures.values())))
    return CameraRig(
        tuple(cameras),
        np.stack([pictures.get(name, black) for name in cameras]),
        np.stack([_intrinsics(name, K[name]) if name in K else np.eye(3) for name in cameras]),
        np.stack(
            [
                _transform(f'ego_T_cam[{name!r}]', ego_T_cam[name]) if name in ego_T_cam else np.eye(4)
                for name in cameras
            ]
        ),
        np.array([name in pictures for name in cameras]),
        np.zeros(len(cameras)),
    )


def lidar_points(
    points: np.ndarray, ego_T_lidar: np.ndarray | None = None, own_returns_m: float = 0.0
) -> LidarPoints:
    """Points `(P, 4 to 6)` in ego, or in the LiDAR's frame together with `ego_T_lidar`, as `LidarPoints`.

    Raises:
        ValueError: see `Perception.sample`.
    """
    rows = _rows('points', points, 4, 6)
    unknown = np.array([-1.0, 0.0], dtype=np.float32)  # ring, time lag
    rows = np.concatenate(
        [rows, np.broadcast_to(unknown[rows.shape[1] - 4 :], (len(rows), 6 - rows.shape[1]))], 1
    )
    if ego_T_lidar is not None:
        transform = _transform('ego_T_lidar', ego_T_lidar)
        rows = without_own_returns(rows, own_returns_m)
        rows = place_lidar(np.ascontiguousarray(rows[:, :5]), transform, rows[:, 5])
    return LidarPoints(rows)


def radar_points(radars: Arrays) -> RadarPoints:
    """{radar: rows `(P, 6 or 7)` in ego} as `RadarPoints`; a radar that sees nothing is given `(0, 6)`, one
    not given is absent.

    Raises:
        ValueError: see `Perception.sample`.
    """
    _check_names('radars', radars, RADARS)
    if not radars:
        raise ValueError(
            f'radars: expected some of {", ".join(RADARS)}, found none; leave the argument away without radars'
        )
    parts = []
    for name, found in radars.items():
        rows = _rows(f'radars[{name!r}]', found, 6, 7)
        parts.append(np.zeros((len(rows), 8), dtype=np.float32))
        parts[-1][:, :rows.shape[1]], parts[-1][:, 7] = rows, RADARS.index(name)
    return RadarPoints(np.concatenate(parts), np.array([name in radars for name in RADARS]))


def _check_names(argument: str, found: Any, known: Sequence[str]) -> None:
    if not isinstance(found, Mapping):
        raise ValueError(f'{argument}: expected a dictionary by channel name, found {type(found).__name__}')
    unknown = [name for name in found if name not in known]
    if unknown:
        raise ValueError(
            f'{argument}: unknown {", ".join(map(repr, unknown))}, expected some of {", ".join(known)}'
        )


def _image(name: str, image: Any) -> np.ndarray:
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise ValueError(f'images[{name!r}]: expected uint8 RGB (H, W, 3), found {array.dtype} {array.shape}')
    return array


def _intrinsics(name: str, K_33: Any) -> np.ndarray:
    K_33 = _matrix(f'K[{name!r}]', K_33, 3)
    if not np.allclose(K_33[2], [0, 0, 1], atol=1e-6) or abs(np.linalg.det(K_33)) < 1e-6:
        raise ValueError(
            f'K[{name!r}]: expected a camera matrix with last row 0 0 1 and focal lengths, found {K_33.tolist()}'
        )
    return K_33


def _transform(name: str, a_T_b: Any) -> np.ndarray:
    a_T_b = _matrix(name, a_T_b, 4)
    turn = a_T_b[:3, :3]
    if (
        not np.allclose(a_T_b[3], [0, 0, 0, 1], atol=1e-6)
        or not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3)
        or np.linalg.det(turn) < 0
    ):
        raise ValueError(
            f'{name}: expected a rotation and a translation with last row 0 0 0 1, found {a_T_b.tolist()}'
        )
    return a_T_b


def _matrix(name: str, value: Any, size: int) -> np.ndarray:
    array = np.asarray(value, dtype=np.float64)
    if array.shape != (size, size) or not np.isfinite(array).all():
        raise ValueError(f'{name}: expected {size} x {size} finite numbers, found shape {array.shape}'
                         + ('' if np.isfinite(array).all() else ' with numbers that are not finite'))
    return array


def _rows(name: str, value: Any, least: int, most: int) -> np.ndarray:
    """Finite rows as float32 `(P, least to most)`."""
    array = np.asarray(value)
    if array.ndim != 2 or not least <= array.shape[1] <= most or not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f'{name}: expected floats (P, {least} to {most}), found {array.dtype} {array.shape}')
    return array[np.isfinite(array).all(1)].astype(np.float32)
