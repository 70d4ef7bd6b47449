"""Classifiers of Farhi and Neven: circuits with one readout qubit, computed without their state."""
