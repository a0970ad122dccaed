"""nuScenes tracking: AMOTA, AMOTP and the CLEAR MOT counts."""
