r"""What the smallest real-time network loses against the larger one; same budget.

A list for `tools/compare_systems.py --list`:

    python tools/compare_systems.py --list configs/comparisons/realtime.py --steps 600 --batch 2 \
        --root data/world_long --seeds 0 --work-dir work_dirs/realtime
"""
recipe = base = 'world/realtime.py'
rows = [
    dict(name='realtime', config='world/realtime.py'),
    dict(name='realtime, tiny', config='world/realtime_tiny.py')]
