"""Calibration: PSF from beads, camera and conditions from movies."""
