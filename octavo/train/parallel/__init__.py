"""A run over several processes: ranks, their mesh, what each holds, what they exchange, checkpoints in any layout.

`ranks` joins the processes and sums over them, `layout` says how they divide the work, `mesh` groups them, `sharding`
spreads a model over them, `collectives` are exchanges with gradients, `experts` and `context` what they exchange within
a layer, `owners` where spread matrices are orthogonalised, `checkpoint` files of any layout, `plan` memory and traffic.
"""
