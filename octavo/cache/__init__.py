"""The folded cache: byte layout, pages, tensors, sequence state, the view a step gives to the model, and the document file."""
