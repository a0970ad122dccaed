"""In the place of stage 2: stage 1 goes on with the labels there are, what lacks is masked.

What pseudo-labels have to beat.
"""
_base_ = ['1_curriculum.py']
balancer = dict(_delete_=True, type='FixedWeights')
start_weights = dict(file='work_dirs/world/missing_labels/1_curriculum/epoch_4.pth')
