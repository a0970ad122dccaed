"""All predictions of one frame as messages by topic."""
from __future__ import annotations

from ...core.contracts import TaskOutput
from .boxes import box_entities, detection_array
from .definitions import Message
from .ground import map_grids, voxel_cloud
from .lines import lane_entities, lane_markers
from .parts import OutputOptions, time_of

_DELETE_ALL = 1


def prediction_messages(output: TaskOutput, options: OutputOptions | None = None) -> dict[str, Message]:
    """{topic: message} of a frame; a task that the model does not have, or that is masked, has none.

    Below the prefix: `scene` (boxes and lanes for Foxglove), `detections`, `lanes` (markers), `map/<class>`
    and `occupancy`. Every stamp is the frame's, every place is in the ego frame.

    Args:
        output: of a model; tracks in its `extra` name the boxes.
        options: default: `OutputOptions()`.
    """
    options = options or OutputOptions()
    stamp_ns = output.frame.timestamp_ns
    messages = {'scene': scene_update(output, options)}

    if output.detection is not None:
        messages['detections'] = detection_array(
            output.detection, stamp_ns, options, output.get('tracking'))
    if output.lanes is not None:
        messages['lanes'] = lane_markers(output.lanes, stamp_ns, options)
    if output.map_segmentation is not None:
        grids = map_grids(output.map_segmentation, stamp_ns, options)
        messages |= {f'map/{name}': grid for name, grid in grids.items()}
    if output.occupancy is not None:
        messages['occupancy'] = voxel_cloud(output.occupancy, stamp_ns, options)
    return {f'{options.prefix}/{name}': message for name, message in messages.items()}


def scene_update(output: TaskOutput, options: OutputOptions) -> Message:
    """Boxes and lanes as `foxglove_msgs/SceneUpdate`, in place of everything that was there before."""
    stamp_ns, entities = output.frame.timestamp_ns, []
    if output.detection is not None:
        entities += box_entities(output.detection, stamp_ns, options, output.get('tracking'))
    if output.lanes is not None:
        entities += lane_entities(output.lanes, stamp_ns, options)
    deletions = [{'timestamp': time_of(stamp_ns), 'type': _DELETE_ALL}]
    return Message('foxglove_msgs/msg/SceneUpdate', {'deletions': deletions, 'entities': entities})
