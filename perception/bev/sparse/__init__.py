"""Convolutions over the active cells of a map: gathered rows, spconv, or the dense twin for export."""
