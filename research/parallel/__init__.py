"""Many runs at once on one machine."""
