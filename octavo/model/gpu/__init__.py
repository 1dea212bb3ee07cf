"""The model as a GPU runs it without gradients: the weights of `Transformer`, in the formats they are stored in, go
through the kernels of `octavo.kernels`, over the slots of `octavo.cache.slots`.

`maps` is a linear map in any format, `weights` what a layer holds and how it is taken from a `Transformer`, `forward`
one step, `stage` one stage of the predictor. The mathematics is that of `octavo.model`; tests hold the two against each
other.
"""
