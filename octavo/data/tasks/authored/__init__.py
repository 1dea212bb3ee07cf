"""Wordings written one by one, as text files beside this package; and the code that reads them."""
