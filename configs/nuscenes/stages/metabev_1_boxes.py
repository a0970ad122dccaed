"""MetaBEV's first of two trainings: boxes alone, 26 epochs (Ge et al., ICCV 2023, arXiv 2304.09801).

torchrun --nproc_per_node 8 tools/train.py configs/nuscenes/stages/metabev_1_boxes.py --launcher pytorch
torchrun --nproc_per_node 8 tools/train.py configs/nuscenes/stages/metabev_2_tasks.py --launcher pytorch
"""
_base_ = ['../metabev.py']
tasks = ('detection',)
train_cfg = dict(max_epochs=26)
param_scheduler = dict(type='OneCycle', epochs=26, rising=10)
