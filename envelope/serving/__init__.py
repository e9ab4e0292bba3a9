"""Simulation of requests through a router, replicas of an inference engine and a hosted API."""
