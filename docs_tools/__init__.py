"""What the documentation is made with: the page of REST answers, and formulas for the site."""
