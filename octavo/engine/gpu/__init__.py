"""Running a model on a GPU through the fused kernels: sequences in slots, long texts in chunks, steps as graphs.

`state` is a sequence whose newest rows live in a slot, `binding` says which sequence has which slot, `graphs` captures
steps of few tokens, `runner` is the `Runner` that the rest of the engine uses.
"""
