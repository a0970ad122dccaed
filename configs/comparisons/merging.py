r"""Single-task models merged, against the model of all tasks that they started from, tuned for as many steps.

A list for `tools/compare_systems.py --list`:

    python tools/compare_systems.py --list configs/comparisons/merging.py --root data/world_long --steps 200 \
        --seeds 0 1 --limit 120 --no-latency --work-dir work_dirs/merging

All rows but the first go on from it, each for its task alone, half as many steps. `tools/merge_models.py`
then makes one model of the four (docs/multi_task.md).
"""
_config = 'ablations/balancing.py'
_shared = dict(config=_config, freeze=('encoders.lidar.point_net.', 'encoders.lidar.stages.0.'))
_tasks = ('detection', 'map_segmentation', 'occupancy', 'lanes')
_tuned = dict(**_shared, start='joint', steps=100)
recipe = base = _config
rows = [
    dict(name='joint', **_shared),
    dict(name='joint, tuned', **_tuned, options=dict(tasks=_tasks)),
    *(dict(name=f'{_task}, tuned', **_tuned, options=dict(tasks=(_task,))) for _task in _tasks),
]
