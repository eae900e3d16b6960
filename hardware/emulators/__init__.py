"""Stand-ins for arms, each a process of its own that speaks its maker's bytes. Tests and trials use them, no daemon."""
