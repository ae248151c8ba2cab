"""What people run beside the stages; the Makefile has a target for each."""
