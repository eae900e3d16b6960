"""Stand-ins for arms that answer the makers' own SDKs byte for byte, each a process, with faults on demand."""
