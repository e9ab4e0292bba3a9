"""A candidate's case: its work, machines, operations and payments, resolved."""
