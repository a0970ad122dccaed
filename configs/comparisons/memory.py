"""What a memory is worth: one moment, one map that is carried on, a queue, a gate; same budget.

A list for `tools/compare_systems.py --list`. All rows go on from the weights of the longer recipe.
"""
recipe = 'world/robust.py'
base = 'world/robust.py'
_weights = 'data/weights/world_robust.pth'
rows = [
    dict(name='one moment', config='world/robust.py', start=_weights),
    dict(name='one map', config='world/temporal.py', start=_weights),
    dict(name='queue of three', config='world/temporal_queue.py', start=_weights),
    dict(name='gated', config='world/temporal_gated.py', start=_weights),
]
