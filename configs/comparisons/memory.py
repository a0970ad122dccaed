r"""What a memory is worth: one moment, one map that is carried on, a queue, a gate; same budget.

A list for `tools/compare_systems.py --list`. All rows go on from the first training of the longest recipe:

    python tools/compare_systems.py --list configs/comparisons/memory.py --steps 240 --batch 2 --seeds 0 1 \
        --load-from work_dirs/world/long/1_moments/iter_1800.pth --freeze encoders --without lidar camera \
        --no-latency --work-dir work_dirs/memory
"""
recipe = base = 'world/long/1_moments.py'
_start = dict(start='work_dirs/world/long/1_moments/iter_1800.pth')
_drives = dict(config='world/long/2_drives.py', **_start)
_clips = {
    'train_dataloader.sampler': dict(_delete_=True, type='SeededSampler', shuffle=True),
    'train_dataloader.dataset.reading.clip_frames': 2}
rows = [
    dict(name='one moment', config='world/long/1_moments.py', **_start),
    # the same few drives a step as the memories have
    dict(name="one moment, streams' order", config='world/long/1_moments.py', **_start, options={
        'train_dataloader.sampler': dict(_delete_=True, type='StreamSampler'),
        'train_dataloader.dataset.reading.bad_file': 'mask'}),
    dict(name='one map', **_drives),
    # frames of all drives in random order again, each with the one before it
    dict(name='one map, clips of two', **_drives, options=_clips),
    # what it remembers is no older in a drive than in a clip
    dict(name='queue of one, clips of two', **_drives, options={
        **_clips, 'model.memory.type': 'MapQueue', 'model.memory.slots': 1}),
    dict(name='queue of three', **_drives, options={
        'model.memory.type': 'MapQueue', 'model.memory.slots': 3}),
    # a gate has no path past the trunk
    dict(name='gated', **_drives, options={
        'model.memory': dict(_delete_=True, type='GatedMemory', grid=dict(
            type='BEVGrid', x_range_m=(-51.2, 51.2), y_range_m=(-51.2, 51.2), cell_m=0.8), channels=64)}),
]
