"""One file for each family of arms, all of them `hardware.arm.Arm`; a maker's SDK is imported only where it is needed."""
