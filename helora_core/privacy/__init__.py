"""What each party learns from a run, and the noise that keeps it from learning more."""
