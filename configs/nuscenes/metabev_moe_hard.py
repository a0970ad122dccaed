"""MetaBEV at full size with hard experts (HM2oE), one per task, joined.

After arXiv 2304.09801, which has two tasks.
"""
_base_ = ['metabev.py']
model = dict(
    fuser=dict(
        ffn=dict(
            _delete_=True, type='HardFFN', tasks=('detection', 'map_segmentation', 'occupancy', 'lanes'),
            ratio=2.0)
    )
)
