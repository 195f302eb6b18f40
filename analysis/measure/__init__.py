"""Starts to tables: curvature, risk, bound and spectra, with a cache of what was solved."""
