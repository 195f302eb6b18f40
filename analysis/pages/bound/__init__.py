"""The page of the bound and of spectra."""
