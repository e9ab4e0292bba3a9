"""Hard rules: what a candidate must keep, each with its margin and its fix."""
