"""Joining performance, serving and money into verdicts and comparisons."""
