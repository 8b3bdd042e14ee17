"""What experiments share, and no experiment itself: options, results and their report, training and its curves, timing.

Imports go one way: an experiment imports from here, and nothing here knows of an experiment.
"""
