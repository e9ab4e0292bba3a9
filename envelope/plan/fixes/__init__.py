"""The smallest changes that make an infeasible candidate feasible."""
