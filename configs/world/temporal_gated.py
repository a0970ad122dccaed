"""`temporal.py` with a gate that chooses, cell by cell, how much of the last map stays."""
_base_ = ['temporal.py']
model = dict(memory=dict(type='GatedMemory'))
