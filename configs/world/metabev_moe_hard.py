"""MetaBEV with hard experts (HM2oE) in every layer: one per task, joined (arXiv 2304.09801; there two
tasks)."""
_base_ = ['metabev.py']
model = dict(
    fuser=dict(ffn=dict(type='HardFFN', tasks=('detection', 'map_segmentation', 'occupancy', 'lanes')))
)
