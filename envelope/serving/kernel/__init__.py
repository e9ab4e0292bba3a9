"""The inner loop of the simulation: plain functions on flat arrays, compiled when numba is there.

Every function here is ordinary Python that only indexes flat sequences, so the same source runs on lists (plain
mode, no waiting for a compiler) and on numpy arrays (compiled mode). It draws no random numbers: those come in as
request columns, so both modes give the same result to the last bit.

Five flat arrays hold everything: ``st`` and ``sx`` the integers and floats of the state, ``rq`` and ``rx`` those of
the requests, ``tb`` the step tables. ``layout`` names the positions.
"""
