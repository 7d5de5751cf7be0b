"""The same bits on every x86-64 machine: instruction sets, and the fingerprint of a machine."""
