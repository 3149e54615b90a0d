"""Bring your own data: look at a shop's files, guess what they hold, and propose a mapping, settings and commands.

`sample` reads some rows of each file, `evidence` says what a column's values are like, `tables` which file is which
table, `columns` which column is which field, `check` what the pipeline would reject, `proposal` puts it together.
"""
