"""One frame in, one prediction out: the model for people who write Python and have no dataset.

In the terms of the design this file is a tool that is imported instead of called: like `tools/` it may look
into every room, and no room looks at it (`from perception import load_model` is its only door). It has no
numbers of its own: how images are resized and cut and which points are kept comes from the configuration's
test pipeline, so a prediction here is the one that `tools/test.py` scores.

Shape letters: N cameras, P points, H W image rows and columns. Ego: x forward, y left, z up, metres, origin
on the ground below the rear axle, at the moment of the LiDAR key frame.
"""
from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.config import Config
from torch import nn

from .api_arrays import Arrays, camera_rig, check_transform, lidar_points, radar_points
from .core.config import build_record, pipeline_transforms
from .core.contracts import Batch, CameraRig, Frame, Sample, TaskOutput
from .core.lens import Distortion
from .core.protocols import RADARS
from .datasets.reading.options import ReadingOptions
from .datasets.transforms.image import Compose, resizing_transforms, sample_rng
from .datasets.transforms.view import PreparedView
from .registry import DATASETS, FUNCTIONS, MODELS

if TYPE_CHECKING:
    from .deployment.deployed import DeployedModel

AUTOCAST_DTYPES = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def load_model(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    engine: str = 'torch',
    export: str | Path | None = None,
    precision: str = 'fp32',
    device: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Perception:
    """Load a model that predicts single frames.

        model = load_model('configs/demo.py', 'work_dirs/demo/epoch_2.pth')
        output = model(images=images, K=K, ego_T_cam=ego_T_cam, points=points)
        output.detection.boxes, output.map_segmentation.probabilities

    Args:
        config: configuration file.
        checkpoint: its weights; without one the weights are random, and a warning says so.
        engine: 'torch' runs the model itself; 'onnxruntime', 'openvino' and 'tensorrt' run what
            `tools/export.py` wrote into the folder `export`.
        export: that folder.
        precision: 'fp32', 'bf16', 'fp16' or 'int8', as far as the engine has it.
        device: where it runs (default: the processor): of torch 'cpu' or 'cuda'; of an engine 'cuda', 'GPU',
            'NPU', 'AUTO' and so on, see `perception.deployment.engines.choices.DEVICES`.
        options: changes of the configuration, as `--cfg-options` makes them.

    Returns:
        A `Perception`: call it with one frame. `help(model.sample)` says what it takes, `help(model)` what it
        returns.

    Raises:
        FileNotFoundError: no such configuration, checkpoint or export.
        ValueError: files that do not belong together, an unknown key.
        EngineUnavailable: the runtime or precision is not available here; the message says what to install.
    """
    from .core.config import read_config

    settings = config if isinstance(config, Config) else read_config(config, dict(options or {}))
    data = settings.get('test_dataloader')
    if not data or 'dataset' not in data or 'collate_fn' not in data:
        raise ValueError(
            f'{config}: expected test_dataloader with dataset and collate_fn, which say how a frame is '
            f'prepared'
        )
    if engine == 'torch' and export is None:
        device = device or 'cpu'
        return Perception(_torch_model(settings, checkpoint, device), data, _autocast(precision, device))
    return Perception(_exported_model(settings, checkpoint, engine, export, precision, device), data)


class Perception:
    """A model together with the way its configuration prepares a frame.

    `model(images=..., K=..., ego_T_cam=..., points=...)` predicts one frame; `model.sample` takes the same
    arguments and explains them.

    Attributes:
        sensors: which sensors the model has.
        tasks: which tasks it predicts.
        cameras: channel names in the order the model was trained with.
        image_size_hw: what the pipeline makes of every image; None where it leaves them as they are.
        lidar_sweeps: earlier LiDAR sweeps it was trained with, besides the key frame's.
    """

    def __init__(
        self, network: nn.Module, data: Mapping[str, Any], autocast: AbstractContextManager | None = None
    ) -> None:
        model = getattr(network, 'model', network)
        self.network = network.eval()
        self.sensors = tuple(model.encoders)
        self.tasks = tuple(model.heads)
        self._autocast = autocast or nullcontext()

        dataset = dict(data['dataset'])
        reading = build_record(ReadingOptions, dataset.get('reading'), 'dataset.reading')
        self.cameras = reading.cameras
        self.lidar_sweeps = reading.lidar_sweeps
        self.own_returns_m = reading.own_returns_m
        self._pipeline = Compose(dataset.get('pipeline', ()))
        self._seed = int(_dataset_value(dataset, 'seed'))
        self.image_size_hw = _final_size_hw(self._pipeline)

        collate = dict(data['collate_fn'])
        self._make_batch = FUNCTIONS.get(collate.pop('type'))
        self._collate = {**collate, 'sensors': self.sensors, 'camera_names': self.cameras}

    def __call__(self, sample: Sample | None = None, **frame: Any) -> TaskOutput:
        """Predict one frame.

        Args:
            sample: what `sample`, `prepare` or the configuration's own dataset returned.
            frame: instead of it, the arguments of `sample`: `images=..., K=..., ego_T_cam=..., points=...`.

        Returns:
            A `TaskOutput` in ego metres; a task that the model does not have is None.
            `detection`: boxes (x, y, z of the centre, length, width, height, yaw, vx, vy), scores, labels,
            attributes.
            `map_segmentation`: probabilities `(6, Y, X)`, rows along +y, columns along +x, over x_range_m and
            y_range_m.
            `occupancy`: semantics `(200, 200, 16)`, 0.4 m voxels from (-40, -40, -1).
            `lanes`: points `(L, P, 2)` (x, y along each element, centre lines the way that traffic drives),
                scores, labels.

        Raises:
            TypeError: neither a `Sample` nor the arguments of one, or both.
            ValueError: see `sample`.
            NotFiniteError: the network's outputs hold NaN or infinite values.
        """
        if (sample is None) == (not frame):
            raise TypeError('expected model(sample), or model(images=..., K=..., ego_T_cam=..., points=...)')
        if sample is not None and not isinstance(sample, Sample):
            raise TypeError(
                f'expected a Sample, found {type(sample).__name__}; images and points are given by name'
            )
        return self._predict(self.sample(**frame) if sample is None else sample)

    @property
    def views(self) -> dict[str, PreparedView]:
        """What became of each camera's last picture: resized by how much, horizon where, what was lost."""
        found = resizing_transforms(self._pipeline.transforms)
        return dict(found[-1].views) if found else {}

    def forget(self) -> None:
        """Start all drives over: the next frame of a model with a memory has none."""
        self.network.forget()

    def sample(
        self,
        images: Arrays | None = None,
        K: Arrays | None = None,
        ego_T_cam: Arrays | None = None,
        points: np.ndarray | None = None,
        ego_T_lidar: np.ndarray | None = None,
        radars: Arrays | None = None,
        token: str = 'frame',
        timestamp_ns: int | None = None,
        global_T_ego: np.ndarray | None = None,
        drive: str = '',
        distortion: Mapping[str, Distortion | Mapping[str, Any]] | None = None,
    ) -> Sample:
        """Make a prepared `Sample` of one frame's arrays.

        A sensor, or a single camera, that is not given is absent. Rows that are not finite are dropped,
        and those beyond `LIDAR_LIMITS` and `RADAR_LIMITS` with a warning.
        `NuScenesDataset` may let the JPEG decoder shrink images first: pixels then differ by rounding, and
        where the sides do not divide its crop lies up to half a pixel elsewhere, K with it.

        Args:
            images: {camera: uint8 RGB `(H, W, 3)`}, as they come from the camera.
            K: {camera: `(3, 3)` pixels of these images}; the centre of the top-left pixel is (0, 0).
            ego_T_cam: {camera: `(4, 4)`}, camera (x right, y down, z forward) to ego; for a moving car with
                its motion between the camera's and the LiDAR's time included.
            points: `(P, 4 to 6)`: x, y, z (m), intensity 0..255, then ring and time lag (s, positive for
                older) where known. In ego, or with `ego_T_lidar` in the LiDAR's frame.
            ego_T_lidar: `(4, 4)`, LiDAR to ego; returns from the car itself are then left out.
            radars: {radar: `(P, 6 or 7)`}: x, y, z in ego, vx, vy (m/s, ego axes, own motion compensated),
                RCS (dBsm), then time lag (s) where known.
            token: comes back in the prediction's `frame`, like the next two.
            timestamp_ns: of the frame (default: 0).
            global_T_ego: `(4, 4)`, pose of the car (default: the origin).
            drive: name of the drive; a model with a memory follows its frames, which then need pose and time.
            distortion: {camera: lens} of those that are no pinholes, a `perception.core.lens.Distortion` or
                its record `{"model": ..., "coefficients": [...]}`.

        Raises:
            ValueError: names the argument and camera, what was found and what was expected.
        """
        given = {'camera': images, 'lidar': points, 'radar': radars}
        self._check_sensors([name for name, value in given.items() if value is not None])
        self._check_drive(drive, {'timestamp_ns': timestamp_ns, 'global_T_ego': global_T_ego})

        rig = None if images is None else camera_rig(
            images, K or {}, ego_T_cam or {}, self.cameras, distortion)
        pose = np.eye(4) if global_T_ego is None else check_transform('global_T_ego', global_T_ego)
        raw = Sample(
            Frame(token, int(timestamp_ns or 0), pose, drive),
            rig,
            None if points is None else lidar_points(points, ego_T_lidar, self.own_returns_m),
            None if radars is None else radar_points(radars),
        )
        return self.prepare(raw)

    def prepare(self, sample: Sample) -> Sample:
        """Apply the configuration's test pipeline to a raw sample, such as `NuScenesDataset.load` returns.

        `dataset[i]` is prepared already.
        """
        return self._pipeline(sample, None, sample_rng(self._seed, 0, 0))[0]

    def batch(self, sample: Sample) -> Batch:
        """A prepared sample as the batch of one that the network reads.

        Raises:
            ValueError: other cameras than the configuration's, or a sample before the pipeline.
        """
        rig = sample.camera
        if rig is not None and 'camera' in self.sensors:
            if rig.names != self.cameras:
                raise ValueError(f'cameras: expected {self.cameras} in this order, found {rig.names}')
            if self.image_size_hw and rig.image_size_hw != self.image_size_hw:
                raise ValueError(
                    f'images: expected {self.image_size_hw} as this configuration prepares them, found '
                    f'{rig.image_size_hw}; a sample before the pipeline goes through model.prepare first'
                )
        return self._collated(sample)['inputs']

    def deployed(self, precision: str = 'fp32', device: str = 'cpu') -> DeployedModel:
        """The network as the loop for a vehicle runs it (`perception.deployment.vehicle`).

        Args:
            precision: of a model that torch runs; an exported one has its own.
            device: the same.
        """
        from .deployment.deployed import DeployedModel
        from .deployment.engines.torch_engine import TorchEngine

        if isinstance(self.network, DeployedModel):
            return self.network
        engine = TorchEngine.of_model(self.network, self.batch(self._blank_sample()), precision, device)
        return DeployedModel(self.network, engine)

    def _blank_sample(self) -> Sample:
        """Cameras that are absent, and one point for every other sensor."""
        camera = lidar = radar = None
        if 'camera' in self.sensors:
            # absent: nothing is to be said of pictures that never came
            camera = CameraRig.blank(self.cameras, [self.image_size_hw or (256, 704)] * len(self.cameras))
        if 'lidar' in self.sensors:
            lidar = lidar_points(np.array([[10.0, 0, 0, 0]]), None, self.own_returns_m)
        if 'radar' in self.sensors:
            radar = radar_points({name: np.array([[10.0, 0, 0, 0, 0, 0]]) for name in RADARS})
        return self.prepare(Sample(Frame('blank', 0, np.eye(4)), camera, lidar, radar))

    def _collated(self, sample: Sample) -> dict[str, Any]:
        return self._make_batch([(sample, None)], **self._collate)

    def _check_sensors(self, given: Sequence[str]) -> None:
        if not given:
            raise ValueError(f'no sensor is given; this model has {", ".join(self.sensors)}')
        for name in given:
            if name not in self.sensors:
                raise ValueError(
                    f'{name}: this model has no {name} encoder, expected some of {", ".join(self.sensors)}'
                )

    def _check_drive(self, drive: str, given: Mapping[str, Any]) -> None:
        """A memory moved by a pose that nobody gave would lie in the wrong place, and nobody would see it."""
        lacking = [name for name, value in given.items() if value is None]
        if drive and lacking and getattr(self.network, 'memory', None) is not None:
            raise ValueError(
                f'drive {drive!r}: this model has a memory, which follows the drive; expected '
                f'{" and ".join(given)} of the frame, found no {" and no ".join(lacking)}')

    def _predict(self, sample: Sample) -> TaskOutput:
        batch = {'inputs': self.batch(sample), 'data_samples': [None]}
        with torch.no_grad(), self._autocast:
            return self.network(**self.network.data_preprocessor(batch), mode='predict')[0]


# -------------------------------------------------------------------- the network that predicts

def _torch_model(settings: Config, checkpoint: str | Path | None, device: str) -> nn.Module:
    from .core.checkpoint import load_weights
    from .registry import without_pretrained

    model = MODELS.build(without_pretrained(settings.model))
    if checkpoint is None:
        warnings.warn(
            'load_model: no checkpoint, so the weights are random and the predictions mean nothing',
            stacklevel=3,
        )
    else:
        load_weights(model, checkpoint)
    return model.to(device)


def _exported_model(
    settings: Config,
    checkpoint: str | Path | None,
    engine: str,
    export: str | Path | None,
    precision: str,
    device: str | None,
) -> nn.Module:
    from .core.registered import foreign_scopes
    from .deployment.deployed import DeployedModel
    from .deployment.export.network import plain
    from .deployment.export.sidecar import Sidecar

    if export is None:
        raise ValueError(f'engine {engine!r}: expected export=FOLDER, which tools/export.py writes')

    exported = pipeline_transforms(Sidecar.read(export, verify=False).data_config.get('pipeline', []))
    expected = pipeline_transforms(plain(settings.test_dataloader.dataset.get('pipeline', [])))
    if exported != expected:
        raise ValueError(
            f'{export}: was exported with another pipeline: found {exported}, the configuration has '
            f'{expected}'
        )

    deployed = DeployedModel.open(
        export, engine, precision, checkpoint, foreign_scopes(settings.model), device)
    deployed.warm_up()
    return deployed


def _autocast(precision: str, device: str) -> AbstractContextManager:
    kind = torch.device(device).type
    if precision not in AUTOCAST_DTYPES or (precision == 'fp16' and kind == 'cpu'):
        known = 'fp32, bf16' if kind == 'cpu' else 'fp32, bf16, fp16'
        raise ValueError(f'precision: torch on {device} runs {known}, found {precision!r}')
    return torch.autocast(kind, AUTOCAST_DTYPES[precision], enabled=precision != 'fp32')


def _dataset_value(dataset: Mapping[str, Any], name: str) -> Any:
    """A dataset's argument: the configuration's, or the default of the class."""
    return dataset.get(name, inspect.signature(DATASETS.get(dataset['type'])).parameters[name].default)


def _final_size_hw(pipeline: Compose) -> tuple[int, int] | None:
    """Size of the images behind the last transform that resizes them; None where none does."""
    found = resizing_transforms(pipeline.transforms)
    return found[-1].size_hw if found else None
