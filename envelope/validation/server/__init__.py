"""Predictions against a real server: an engine that is started here, or one that runs already.

``model`` writes a random-weight model, ``engines`` knows how each engine is started and what its log says, ``process``
starts and stops it, ``client`` sends the loads that ``plan`` lists, ``predict`` puts the same requests through the
simulation, ``score`` and ``text`` set both side by side; ``run`` does all of it.
"""
