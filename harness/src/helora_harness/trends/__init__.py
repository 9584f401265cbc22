"""The page that a maintainer opens first: every cell's figures over commits, what got worse and why, what was meant."""
