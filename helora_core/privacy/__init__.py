"""What each party learns."""
