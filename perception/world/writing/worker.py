"""What one process of the generator does: a scene, or the maps of a city."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ...core.files import write_bytes
from ...core.nuscenes.storage import SceneFolder, to_json
from ...core.nuscenes.tables import MAP_FILES
from ...core.rig.file import load_rig
from ..city.city import make_city
from ..scene.scene import WorldScene
from ..toy import toy_scene
from ..traffic.make_scene import make_world_scene
from ..traffic.surroundings import SceneParameters
from .basemap import city_basemap
from .map_expansion import city_map_expansion
from .options import WorldOptions
from .pool import check_stop
from .recorder import SceneRecorder
from .splits import ScenePlan


@dataclass(frozen=True)
class MapPlan:
    """The maps of one city, to be made."""

    location: str


@dataclass(frozen=True)
class JobOutcome:
    """Processor seconds one job took, by stage, and the seconds of this process's warm-up."""

    stage_s: dict[str, float]
    warm_up_s: float = 0.0


def do_job(out: Path, options: WorldOptions, job: ScenePlan | MapPlan) -> JobOutcome:
    """Make one scene in its unfinished folder inside the world `out`, or the maps of a city in their place.

    Raises:
        Stopped: the run is being stopped; nothing of the job is left.
        OSError: the disk is full or cannot be written; nothing of the job is left.
    """
    check_stop()
    if isinstance(job, MapPlan):
        start = time.process_time()
        write_map_files(out, job.location, options.seed)
        return JobOutcome({'maps': time.process_time() - start})

    warm_up_s = warm_up(options.radars, options.occupancy, options.rig)
    start = time.process_time()
    scene = build_scene(job, options.seed, options.flat)
    built_s = time.process_time() - start
    with SceneFolder(out, job.name) as folder:
        stage_s = SceneRecorder(scene, load_rig(options.rig), options, folder, check_stop).record()
    return JobOutcome(stage_s | {'city, traffic': built_s}, warm_up_s)


@lru_cache(maxsize=1)
def warm_up(radars: bool, occupancy: bool, rig: str) -> float:
    """Simulate every sensor once in a toy scene, so that compiled code is loaded; returns the seconds."""
    start = time.perf_counter()
    options = WorldOptions(
        2, image_size_hw=(48, 80), key_frames=1, radars=radars, occupancy=occupancy, rig=rig
    )
    with tempfile.TemporaryDirectory() as world, SceneFolder(Path(world), 'scene-0001') as folder:
        SceneRecorder(toy_scene(), load_rig(rig), options, folder).record()
    return time.perf_counter() - start


def build_scene(plan: ScenePlan, seed: int, flat: bool = False) -> WorldScene:
    """Streets, buildings, traffic and weather of one planned scene."""
    parameters = SceneParameters(name=plan.name, weather=plan.weather, flat=flat)
    return make_world_scene(make_city(plan.location, seed), plan.index, seed, parameters)


def write_map_files(out: Path, location: str, seed: int) -> None:
    """Write the semantic prior, the basemap and, last, the vector map of one city."""
    city = make_city(location, seed)
    png = encode_png(city_basemap(city))
    write_bytes(out / 'maps' / f'{MAP_FILES[location]}.png', png)
    write_bytes(out / 'maps' / 'basemap' / f'{location}.png', png)
    write_bytes(_expansion_path(out, location), to_json(city_map_expansion(city)))


def map_is_written(out: Path, location: str) -> bool:
    """Whether all maps of a city are in place."""
    return _expansion_path(out, location).is_file()


def _expansion_path(out: Path, location: str) -> Path:
    return out / 'maps' / 'expansion' / f'{location}.json'


def encode_png(image: np.ndarray) -> bytes:
    """PNG of a (H, W) grey or (H, W, 3) RGB uint8 image."""
    _, data = cv2.imencode('.png', image if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1]))
    return data.tobytes()
