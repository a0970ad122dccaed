"""What all transforms agree on, and those that change the image plane.

**The convention.** A transform is a callable `(sample, annotations, rng) -> (sample, annotations)`. Records
are never changed in place. All randomness comes from `rng`, a generator that `sample_rng(seed, draw, index)`
makes for every sample, so the result depends on the seed, on how often the sample was drawn before, and
on the sample: not on the number of workers or processes, nor on what they did before. `draw` is the epoch, or
the number that `sampler.split_draw` takes out of an index. A transform that is not random ignores `rng`.
Annotations may be None: what the car sees then changes alone.

The image and its camera change together: every image-plane change is an affine map `out_T_in` `(3, 3)` of
pixels (whole numbers at pixel centres), applied to the picture and multiplied onto K, so a 3-D point keeps
the pixel content it had.
"""
from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...core.config import build_record, pipeline_transforms
from ...core.contracts import Annotations, CameraRig, Sample
from ...registry import TRANSFORMS
from .view import HORIZON_TOLERANCE, Look, PreparedView, TrainedView, prepared_view

Pair = tuple[Sample, Annotations | None]
Transform = Callable[[Sample, Annotations | None, np.random.Generator], Pair]


def sample_rng(seed: int, draw: int, index: int) -> np.random.Generator:
    """The generator for one sample.

    The same three numbers give the same stream on every machine and in every worker.
    """
    return np.random.default_rng([seed, draw, index])


@TRANSFORMS.register_module()
class Compose:
    """One transform made of several, in order; each may be a callable or a registry configuration.

    Args:
        transforms: a list, or a dictionary of named stages in which None leaves a stage out.
    """

    def __init__(
        self, transforms: Sequence[Transform | dict] | Mapping[str, Transform | dict | None]
    ) -> None:
        self.transforms = [
            TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline_transforms(transforms)]

    def bind(self, dataset: object) -> None:
        """Give the dataset to those transforms that look at other frames (they have a `bind` too)."""
        for transform in self.transforms:
            if hasattr(transform, 'bind'):
                transform.bind(dataset)

    def set_epoch(self, epoch: int) -> None:
        """Tell the number of a pass over the data to those transforms that change with it."""
        for transform in flat_transforms(self.transforms):
            getattr(transform, 'set_epoch', lambda epoch: None)(epoch)

    def __call__(
        self,
        sample: Sample,
        annotations: Annotations | None,
        rng: np.random.Generator,
        drive: Sequence[int] | None = None,
    ) -> Pair:
        """Run one transform after the other.

        Args:
            sample: one frame.
            annotations: of it.
            rng: of it.
            drive: seed of transforms that change all frames of a drive alike (those that say `whole_drive`);
                None: they draw for each frame.
        """
        for place, transform in enumerate(self.transforms):
            if isinstance(transform, Compose):
                sample, annotations = transform(sample, annotations, rng, drive and (*drive, place))
            elif drive and getattr(transform, 'whole_drive', False):
                shared = np.random.default_rng([*drive, place])
                sample, annotations = transform(sample, annotations, shared)
            else:
                sample, annotations = transform(sample, annotations, rng)
        return sample, annotations


def scaling(factor: float) -> np.ndarray:
    """Resize by `factor`.

    The outer border of the image stays the outer border, so centre 0 goes to (factor - 1) / 2.
    """
    shift = (factor - 1) / 2
    return np.array([[factor, 0, shift], [0, factor, shift], [0, 0, 1.0]])


def shifting(right_px: float, down_px: float) -> np.ndarray:
    """Move the content; cropping `left` columns and `top` rows away is `shifting(-left, -top)`."""
    return np.array([[1, 0, right_px], [0, 1, down_px], [0, 0, 1.0]])


def mirroring(width_px: int) -> np.ndarray:
    """Swap left and right of an image of `width_px` columns."""
    return np.array([[-1, 0, width_px - 1], [0, 1, 0], [0, 0, 1.0]])


def turning(angle_rad: float, size_hw: tuple[int, int]) -> np.ndarray:
    """Rotate about the image's middle, counter-clockwise as one looks at the picture."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    x, y = (size_hw[1] - 1) / 2, (size_hw[0] - 1) / 2
    return shifting(x, y) @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]]) @ shifting(-x, -y)


def warp(image_HW3: np.ndarray, out_T_in: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The image after the affine map, bilinear, black where nothing was: uint8 `(*size_hw, 3)`.

    An image shrunk to less than half is averaged down by whole factors first, so that nothing is skipped.
    """
    import cv2

    if image_HW3.shape[:2] == tuple(size_hw) and np.allclose(out_T_in, np.eye(3), atol=1e-9):
        return image_HW3

    scale = math.sqrt(abs(np.linalg.det(out_T_in[:2, :2])))
    reduce = max(1, int(1 / scale + 1e-6))
    height, width = (s // reduce for s in image_HW3.shape[:2])
    if reduce > 1 and min(height, width) > 0:
        image_HW3 = cv2.resize(
            image_HW3[: height * reduce, : width * reduce], (width, height), interpolation=cv2.INTER_AREA
        )
        out_T_in = out_T_in @ scaling(reduce)
    return cv2.warpAffine(image_HW3, out_T_in[:2], (size_hw[1], size_hw[0]), flags=cv2.INTER_LINEAR)


def warp_rig(rig: CameraRig, out_T_in_N33: np.ndarray, size_hw: tuple[int, int]) -> CameraRig:
    """All images of a rig through their affine maps, K with them; images that are not present stay black."""
    images = np.zeros((len(rig.names), *size_hw, 3), np.uint8)
    for i in np.flatnonzero(rig.present_N):
        height, width = rig.size_of(i)
        images[i] = warp(rig.images_NHW3[i, :height, :width], out_T_in_N33[i], size_hw)
    return replace(rig, images_NHW3=images, K_N33=out_T_in_N33 @ rig.K_N33, sizes_N2=None)


@TRANSFORMS.register_module()
class ResizeCropFlipRotate:
    """Bring every image to one size: resize, crop, mirror and rotate in one warp, at random when training.

    The recipe is that of BEVFusion (Liu et al., ICRA 2023, arXiv 2205.13542; `ImageAug3D`), its numbers made
    independent of the source: 0.38 to 0.55 of 900x1600 for 256x704 are widths of 0.864 to 1.25 times the
    final width, 0.48 is 1.0909.

    Args:
        size_hw: final (H, W).
        train: False takes `test_scale`, the middle crop, no mirror and no rotation.
        scale: width of the resized image over the final width, a range.
        test_scale: the same for testing.
        bottom_crop: fraction of the resized height cut away below, a range; its middle when testing.
        flip: probability of mirroring.
        rotate_deg: largest angle to either side.
        view: the pictures of training, as the fields of `TrainedView`. A camera that is unlike them by its
            calibration is first brought to their pixels per radian and their horizon (docs/data.md); training
            and testing need the same. None: all go by their width and lower border alone.

    When testing, `views` says what became of every camera's picture; what a picture unlike those of training
    loses is said once in a warning.

    Where the resized image is smaller than the final one, the rest is black. A mirrored image has a K with a
    negative focal length and still projects right. Cameras may differ in size: each is resized by its own
    width. One taller than the rig's widest format is cropped to that about its middle, as above, so that its
    horizon lies with the others'.

    Raises:
        ValueError: a range or size that makes no sense.
    """

    whole_drive = True

    def __init__(
        self,
        size_hw: tuple[int, int],
        train: bool = True,
        scale: tuple[float, float] = (0.864, 1.25),
        test_scale: float = 1.0909,
        bottom_crop: tuple[float, float] = (0.0, 0.0),
        flip: float = 0.5,
        rotate_deg: float = 5.4,
        view: TrainedView | Mapping[str, Any] | None = None,
    ) -> None:
        if not 0 < scale[0] <= scale[1] or test_scale <= 0:
            raise ValueError(
                f'scale: expected 0 < low <= high and test_scale > 0, found {scale} and {test_scale}'
            )
        if not 0 <= bottom_crop[0] <= bottom_crop[1] < 1:
            raise ValueError(f'bottom_crop: expected 0 <= low <= high < 1, found {bottom_crop}')
        if not 0 <= flip <= 1 or rotate_deg < 0:
            raise ValueError(f'expected flip in [0, 1] and rotate_deg >= 0, found {flip} and {rotate_deg}')

        self.size_hw = _checked_size(size_hw)
        self.train = train
        self.scale = tuple(scale)
        self.test_scale = test_scale
        self.bottom_crop = tuple(bottom_crop)
        self.flip = flip
        self.rotate_rad = math.radians(rotate_deg)
        self.view = None if view is None else build_record(TrainedView, view, 'ResizeCropFlipRotate.view')
        self.views: dict[str, PreparedView] = {}
        self._noted: dict[str, tuple] = {}
        self._said: set[tuple] = set()

    def __call__(self, sample: Sample, annotations: Annotations | None, rng: np.random.Generator) -> Pair:
        """Warp every image, each by a map of its own."""
        if sample.camera is None:
            return sample, annotations
        rig = sample.camera
        sizes_hw = [rig.size_of(i) for i in range(len(rig.names))]
        windows_hw = _windows_of_one_format(sizes_hw)
        maps = []
        for i, window_hw in enumerate(windows_hw):
            look = Look(rig.K_N33[i], rig.ego_T_cam_N44[i], sizes_hw[i], rig.distortion_of(i))
            unlike = bool(rig.present_N[i]) and self._is_unlike(look, window_hw)
            if unlike:
                window_hw, window_T_in = self.view.size_hw, self.view.window_T_in(look)
            else:
                window_T_in = shifting(0, (window_hw[0] - sizes_hw[i][0]) / 2)

            out_T_window = self.random_map(window_hw, rng) if self.train else self.fixed_map(window_hw)
            out_T_in = out_T_window @ window_T_in
            if unlike and not self.train and self.view.borders == 'black':
                out_T_in = self.view.whole_T_in(look, out_T_in, self.size_hw)
            if rig.present_N[i] and not self.train:
                self._note(rig.names[i], look, out_T_in, unlike)
            maps.append(out_T_in)
        return replace(sample, camera=warp_rig(rig, np.stack(maps), self.size_hw)), annotations

    def widest_px(self, look: Look) -> float:
        """Largest width that a camera's resized image can have, before the crop."""
        scale = self.scale[1] if self.train else self.test_scale
        by_width = self.size_hw[1] * scale
        if not self._is_unlike(look, look.size_hw):
            return by_width
        factor = self.view.nearest_focal_px(look) / look.focal_px
        return max(by_width, factor * look.size_hw[1] * by_width / self.view.size_hw[1])

    def _is_unlike(self, look: Look, window_hw: tuple[float, float]) -> bool:
        """Whether a camera is to be brought to the view of training first."""
        if self.view is None or look.horizon is None:
            return False
        tolerance_px = HORIZON_TOLERANCE * self.size_hw[0] * self.view.size_hw[1] / (
            self.test_scale * self.size_hw[1])
        return not self.view.matches(look, window_hw, tolerance_px)

    def _note(self, name: str, look: Look, out_T_in: np.ndarray, unlike: bool) -> None:
        """Keep what became of a picture, and warn once where it is unlike those of training."""
        calibration = (look.K_33.tobytes(), look.ego_T_cam.tobytes(), look.size_hw, look.distortion)
        if self._noted.get(name) == calibration:
            return
        self._noted[name] = calibration

        trained: dict[str, Any] = {'trained_focal_px': None, 'trained_horizon_row': None}
        if self.view is not None:
            out_T_view = self.fixed_map(self.view.size_hw)
            trained = {
                'trained_focal_px': self.view.nearest_focal_px(look) * float(out_T_view[0, 0]),
                'trained_horizon_row': float((out_T_view @ [0, self.view.horizon_px, 1])[1])}

        found = prepared_view(name, look, out_T_in, self.size_hw, trained | {'as_trained': not unlike})
        self.views[name] = found
        key = (name, look.size_hw, round(look.focal_px / 10), look.distortion)
        if (unlike or found.horizon_lost) and key not in self._said:
            self._said.add(key)
            advice = '' if self.view is not None else ' (view=dict() would keep the horizon: docs/data.md)'
            warnings.warn(f'{found}{advice}', stacklevel=3)

    def fixed_map(self, source_hw: tuple[float, float]) -> np.ndarray:
        """`out_T_in` for testing."""
        return self._placed(source_hw, self.test_scale, sum(self.bottom_crop) / 2, 0.5)

    def random_map(self, source_hw: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
        """`out_T_in` for training.

        Always five draws, so that one setting does not shift the others' numbers.
        """
        scale = rng.uniform(*self.scale)
        bottom = rng.uniform(*self.bottom_crop)
        across = rng.uniform()
        mirrored = rng.uniform() < self.flip
        angle_rad = rng.uniform(-1, 1) * self.rotate_rad

        out_T_in = self._placed(source_hw, scale, bottom, across)
        if mirrored:
            out_T_in = mirroring(self.size_hw[1]) @ out_T_in
        return turning(angle_rad, self.size_hw) @ out_T_in

    def _placed(
        self, source_hw: tuple[float, float], scale: float, bottom: float, across: float
    ) -> np.ndarray:
        """Resize, then place the final window.

        `bottom` above the lower border, and `across` (0 left .. 1 right) the spare width.
        """
        factor = scale * self.size_hw[1] / source_hw[1]
        height, width = source_hw[0] * factor, source_hw[1] * factor
        top = (1 - bottom) * height - self.size_hw[0]
        return shifting(-across * (width - self.size_hw[1]), -top) @ scaling(factor)


def _windows_of_one_format(sizes_hw: Sequence[tuple[int, int]]) -> list[tuple[float, int]]:
    """(height, width) of each image's middle that has the proportions of the widest of them."""
    flat, wide = min(sizes_hw, key=lambda size: size[0] / size[1])
    return [
        (height, width) if height * wide <= flat * width else (flat * width / wide, width)
        for height, width in sizes_hw]


def _checked_size(size_hw: Sequence[int]) -> tuple[int, int]:
    if len(size_hw) != 2 or min(size_hw) < 1:
        raise ValueError(f'size_hw: expected (H, W) in pixels, found {size_hw}')
    return int(size_hw[0]), int(size_hw[1])


@TRANSFORMS.register_module()
class PhotometricDistortion:
    """Change brightness, contrast, saturation and hue of every image on its own.

    In the manner of SSD (Liu et al., ECCV 2016).

    Args:
        brightness: largest addition on the 0..255 scale.
        contrast, saturation: ranges of factors.
        hue_deg: largest turn of the colour wheel.
        probability: of each of the four changes.
    """

    def __init__(
        self,
        brightness: float = 32.0,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue_deg: float = 18.0,
        probability: float = 0.5,
    ) -> None:
        self.brightness = brightness
        self.contrast = tuple(contrast)
        self.saturation = tuple(saturation)
        self.hue_deg = hue_deg
        self.probability = probability

    def __call__(self, sample: Sample, annotations: Annotations | None, rng: np.random.Generator) -> Pair:
        """Distort every image that is present; absent ones draw too, so that the others do not change."""
        if sample.camera is None:
            return sample, annotations
        images = sample.camera.images_NHW3.copy()
        for i, present in enumerate(sample.camera.present_N):
            changes = self._draw(rng)
            if present:
                images[i] = distort(images[i], *changes)
        return replace(sample, camera=replace(sample.camera, images_NHW3=images)), annotations

    def _draw(self, rng: np.random.Generator) -> tuple[float, float, float, float]:
        """Brightness, contrast, saturation and hue of one image, neutral where a change is not made."""
        values = (
            rng.uniform(-1, 1) * self.brightness, rng.uniform(*self.contrast), rng.uniform(*self.saturation),
            rng.uniform(-1, 1) * self.hue_deg)
        made = rng.uniform(size=4) < self.probability
        return tuple(v if m else n for v, m, n in zip(values, made, (0.0, 1.0, 1.0, 0.0), strict=True))


def distort(
    image_HW3: np.ndarray, brightness: float, contrast: float, saturation: float, hue_deg: float
) -> np.ndarray:
    """`image * contrast + brightness`, then saturation and hue in HSV; neutral is (0, 1, 1, 0)."""
    import cv2

    levels = np.arange(256, dtype=np.float32)
    if brightness or contrast != 1:
        table = np.clip(np.round(levels * contrast + brightness), 0, 255).astype(np.uint8)
        image_HW3 = cv2.LUT(image_HW3, table)
    if saturation == 1 and not hue_deg:
        return image_HW3

    hsv = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2HSV_FULL)
    turned = ((levels + hue_deg * 256 / 360) % 256).astype(np.uint8)
    stretched = np.clip(np.round(levels * saturation), 0, 255).astype(np.uint8)
    tables = np.stack([turned, stretched, levels.astype(np.uint8)], -1)[:, None]
    return cv2.cvtColor(cv2.LUT(hsv, tables), cv2.COLOR_HSV2RGB_FULL)


def resizing_transforms(transforms: Sequence[Transform]) -> list[ResizeCropFlipRotate]:
    """Those of a pipeline that resize images, in order, also inside a `Compose`."""
    return [one for one in flat_transforms(transforms) if isinstance(one, ResizeCropFlipRotate)]


def flat_transforms(transforms: Sequence[Transform]) -> list[Transform]:
    """All of a pipeline, in order, those of a `Compose` in its place."""
    return sum((flat_transforms(t.transforms) if isinstance(t, Compose) else [t] for t in transforms), [])
