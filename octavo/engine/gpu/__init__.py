"""Running a model on a GPU through the fused kernels: sequences in slots, long texts in chunks, steps as graphs.

`state` is a sequence whose newest rows live in a slot, `binding` says which sequence has which slot, `graphs` captures
steps of few tokens, `replay` is how, `ahead` has the next greedy step under way before the host knows its token,
`drafts` are those of the predictor, `turn` is a step that is made with those of others, `runner` is the `Runner` that
the rest of the engine uses.
"""
