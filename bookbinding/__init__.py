"""docs/ as a site and as notebooks: the package's own lines put in, formulas set, figures drawn."""
