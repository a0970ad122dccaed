"""What every room stands on: records, geometry, grids, protocol numbers, files, processes."""
