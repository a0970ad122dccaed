"""`temporal.py` with a queue of the last three maps in the place of one that is carried on."""
_base_ = ['temporal.py']
model = dict(memory=dict(type='MapQueue', slots=3))
