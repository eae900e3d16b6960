"""One file for each family of arms, all of them `hardware.arm.Arm`; makers' SDKs are imported only where needed."""
