"""The joint baseline of the bridge: its adapters without any exchange."""
_base_ = ['../world/ctab_both.py']

model = dict(bridge=dict(exchange='off'))
