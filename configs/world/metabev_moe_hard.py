"""MetaBEV with hard experts (HM2oE) in every layer: one per task, joined.

After arXiv 2304.09801, which has two tasks.
"""
_base_ = ['metabev.py']
model = dict(
    fuser=dict(ffn=dict(type='HardFFN', tasks=('detection', 'map_segmentation', 'occupancy', 'lanes')))
)
