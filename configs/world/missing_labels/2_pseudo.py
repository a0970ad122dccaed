r"""Labels of some tasks only, stage 2 of 3: what lacks comes from a teacher, the model of stage 1.

    python tools/pseudo_label.py configs/world/missing_labels/1_curriculum.py \
        work_dirs/world/missing_labels/1_curriculum/epoch_4.pth --out work_dirs/world/missing_labels/labels
    python tools/train.py configs/world/missing_labels/2_pseudo.py

Labels of annotators go first, a teacher's fill the gaps, weighted by how sure it is (docs/multi_task.md).
"""
_base_ = ['2_masked.py']
train_dataloader = dict(dataset=dict(reading=dict(pseudo_labels='work_dirs/world/missing_labels/labels')))
