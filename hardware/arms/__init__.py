"""One file for each family of arms, all of them `hardware.arm.Arm`."""
