"""The folded cache: byte layout, pages, tensors, sequence state, a step's view for the model, the document file."""
