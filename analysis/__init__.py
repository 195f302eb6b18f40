"""Runs to tables, figures and reports: published numbers beside measured ones, read in a browser.

tables   tidy frames, measured beside published        figures  one theme, one function per figure
words    captions and readings, computed from tables   show     frames and figures as accessible HTML
report   notebooks -> static pages                     paper    the numbers printed in the paper, one tidy row each

This package may import `tatl`, never the other way round.
"""
