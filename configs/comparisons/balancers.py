r"""Balancers of tasks against the plain sum and against single tasks; one recipe, one budget.

A list for `tools/compare_systems.py --list`:

    python tools/compare_systems.py --list configs/comparisons/balancers.py --root data/world_long \
        --steps 200 --seeds 0 1 --limit 120 --no-latency --work-dir work_dirs/balancers

Most of the encoder is frozen. The plain sum has the weights by hand; every other row starts from the same
weighted losses, except 'equal': the map's loss as its head has it. What learns by a rate of its own has a
larger one, for so few steps. Left out, since they look at several passes over the data: DWA, IGB and MGN.
"""
_config = 'ablations/balancing.py'
_shared = dict(config=_config, freeze=('encoders.lidar.point_net.', 'encoders.lidar.stages.0.'))
_names = ('detection', 'map_segmentation', 'occupancy', 'lanes')
recipe = base = _config
rows = [
    *(dict(name=f'{task} alone', **_shared, options=dict(tasks=(task,)), role='single task')
      for task in _names),
    dict(name='fixed by hand', **_shared, role='plain'),
    # the map's gradient at the trunk is about ten times the others' under the weights by hand
    dict(name='map at an eighth', **_shared, options=dict(
        balancer=dict(type='FixedWeights', weights=dict(map_segmentation=1 / 8)))),
    *(dict(name=_name, **_shared, options=dict(balancer=_balancer)) for _name, _balancer in dict(
        equal=dict(type='FixedWeights', weights=dict(map_segmentation=1 / 320)),
        uncertainty=dict(type='UncertaintyWeighting', lr=0.02),
        ratio=dict(type='LossRatio'),
        GradNorm=dict(type='GradNorm'),
        PCGrad=dict(type='PCGrad'),
        AlignedMTL=dict(type='AlignedMTL'),
        CAGrad=dict(type='CAGrad'),
        IMTLL=dict(type='IMTLL', lr=0.02),
        IMTLG=dict(type='IMTLG'),
        NashMTL=dict(type='NashMTL'),
        UPGrad=dict(type='UPGrad'),
        GradDrop=dict(type='GradDrop'),
        SAMGS=dict(type='SAMGS'),
        GCond=dict(type='GCond'),
        FlatMinima=dict(type='FlatMinima'),
        RepMTL=dict(type='RepMTL'),
        alternating=dict(type='Alternating', base=dict(type='PCGrad'), every=2),
        GLS=dict(type='GeometricMean'),
        FAMO=dict(type='FAMO'),
        ConFIG=dict(type='ConFIG')).items()),
    dict(name='sparse', **_shared, options=dict(custom_hooks=[
        dict(type='SparseTrainingHook', top_k=170, parts=('fuser.', 'trunk.'))])),
]
