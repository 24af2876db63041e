"""HTTP on loopback: what the command line can do, health, metrics, and a live stream, for programs and browsers."""
