"""The bridge in one direction: the map reads what detection sees, not the other way round."""
_base_ = ['../world/ctab_both.py']

model = dict(bridge=dict(exchange=dict(_delete_=True, map_segmentation=('detection',))))
