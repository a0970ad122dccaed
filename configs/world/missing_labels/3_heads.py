"""Labels of some tasks only, stage 3 of 3: the heads alone, on the labels that annotators made.

Encoders, fuser and trunk stay as stage 2 left them.
"""
_base_ = ['2_masked.py']
start_weights = dict(file='work_dirs/world/missing_labels/2_pseudo/epoch_4.pth')
freeze = ['encoders.', 'fuser.', 'trunk.']
