"""Runs to tables, figures and reports: published numbers beside measured ones, read in a browser.

curvature  a library of its own: Hessian products, per-image norms, spectra, the bound of Eq. 6-8 and its audit
tables     what studies and measurements wrote, read and compared; numbers printed in the paper
measure    starts to tables of curvature, risk and bound, with a ledger of what was solved
pages      a class a notebook: its figures, tables and sentences
site       notebooks to static pages, and the index of them
paper      the numbers printed in the paper, one tidy row each

bound, spectrum, stability, statistics and report are commands (`python -m analysis.bound`): nothing imports them.  This
package imports `tatl`, never the other way round.
"""
