"""Runs to tables, figures and reports: published numbers beside measured ones, read in a browser.

products, graphs        Hessian-vector products        lanczos     extreme eigenvalues from products
curvature, ledger       per-image spectral norms, kept risk        mean losses and their spread
bound, starts, figure7  Eq. 6-8 of each start          distance    v^T H v after fine-tuning
sample, breakdown       its images, what it rests on   assumptions, kinks  what the theorem asks and networks have
spectrum, landscape     density, trace, leading ones   statistics  paired differences and ranks
commands, printout      what is asked and said in a terminal
tables   tidy frames, measured beside published        figures  one theme, one function per figure
words    captions and readings, computed from tables   show     frames and figures as accessible HTML
report   notebooks -> static pages                     paper    the numbers printed in the paper, one tidy row each

This package may import `tatl`, never the other way round.
"""
