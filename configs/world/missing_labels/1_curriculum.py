r"""Labels of some tasks only, stage 1 of 3: a curriculum over the labels there are.

    python tools/train.py configs/world/missing_labels/1_curriculum.py

A quarter of each task's labels is taken away at random, another quarter for every task; what a frame lacks is
masked, and every task is drawn equally often. Boxes and occupancy begin; map and lanes join at step 300. Then
`2_pseudo.py` and `3_heads.py`, after VTDNet's curriculum, pseudo-labels, fine-tuning (Huang et al. 2023,
arXiv 2309.04422). Compared: `configs/comparisons/missing_labels.py`.
"""
_base_ = ['../camera_lidar.py']
train_dataloader = dict(
    sampler=dict(_delete_=True, type='TaskBalancedSampler'),
    dataset=dict(reading=dict(missing_labels=dict(share=0.25, seed=0))))
balancer = dict(type='Curriculum', begin=dict(map_segmentation=300, lanes=300))
