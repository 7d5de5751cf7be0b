"""What commands print and write about comparisons, the gate, speed, experts and calibration."""
